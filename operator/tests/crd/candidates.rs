//! Values that try out every bound of a schema. The tests on a real API server use them as well.

use serde_json::{Value, json};

/// All leaves as JSON pointers with the schema each has; Kubernetes' own types are left out.
pub fn places(schema: &Value, value: &Value, pointer: &str) -> Vec<(String, Value)> {
    const FOREIGN: [&str; 11] = [
        "affinity",
        "containerSecurityContext",
        "dnsConfig",
        "env",
        "envFrom",
        "hostAliases",
        "securityContext",
        "tolerations",
        "topologySpreadConstraints",
        "volumeMounts",
        "volumes",
    ];
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !FOREIGN.contains(&name.as_str()))
            // one type in several places, with the same bounds in all of them
            .filter(|(name, _)| name.as_str() != "podTemplate" || pointer == "/spec")
            .flat_map(|(name, value)| {
                let inner = schema["properties"]
                    .get(name)
                    .unwrap_or(&schema["additionalProperties"]);
                places(
                    inner,
                    value,
                    &format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
                )
            })
            .collect(),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .flat_map(|(index, value)| {
                places(&schema["items"], value, &format!("{pointer}/{index}"))
            })
            .collect(),
        _ => vec![(pointer.to_owned(), schema.clone())],
    }
}

/// Values on both sides of every bound that a field of this kind could have.
pub fn candidates(schema: &Value) -> Vec<Value> {
    let texts = |texts: &[&str]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .cloned()
            .chain(texts(&["Other", ""]))
            .chain([json!(1)])
            .collect();
    }
    if pattern.contains("us|µs") {
        return texts(&[
            "0",
            "0s",
            "1us",
            "999ms",
            "1s",
            "7s",
            "1.5s",
            "59m",
            "1h",
            "1h1s",
            "23h59m",
            "24h",
            "24h1s",
            "744h",
            "744h1s",
            "87600h",
            "87600h1s",
            "876000h",
            "876000h1s",
            "-1s",
            "10",
            "1d",
            "1 s",
            "0.0000001s",
            "s",
            "",
        ]);
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return texts(&[
            "0", "1023", "1Ki", "65535", "64Ki", "1023Ki", "1Mi", "16Mi", "16777217", "512Mi",
            "513Mi", "16Gi", "17Gi", "1.5Ki", "-1", "1KB", "x", "",
        ])
        .into_iter()
        .chain([
            json!(1024),
            json!(1023),
            json!(65_536),
            json!(true),
            json!(-1),
        ])
        .collect();
    }
    match schema["type"].as_str() {
        Some("integer") => {
            let bound = |key: &str| {
                schema[key]
                    .as_i64()
                    .unwrap_or_else(|| panic!("no {key} in {schema}"))
            };
            [
                bound("minimum") - 1,
                bound("minimum"),
                bound("maximum"),
                bound("maximum") + 1,
            ]
            .iter()
            .map(|number| json!(number))
            .chain([json!("1"), json!(1.5)])
            .collect()
        }
        Some("number") => [-0.1, 0.0, 1.0, 1.1]
            .iter()
            .map(|number| json!(number))
            .chain([json!("1")])
            .collect(),
        Some("boolean") => vec![json!(true), json!(false), json!("true"), json!(1)],
        Some("string") => {
            let longest = schema["maxLength"]
                .as_u64()
                .unwrap_or_else(|| panic!("no maxLength in {schema}"));
            let longest = usize::try_from(longest).expect("a length fits into memory");
            texts(&[
                "",
                "a",
                "A",
                "1",
                "1a",
                "a-",
                "-a",
                "_a",
                "a_",
                ".",
                "..",
                "...",
                ".a",
                "a.b",
                "a..b",
                "a.",
                "a_b",
                "a/b",
                "a b",
                "ä",
                "a\u{7}",
                "::1",
                "1.2.3.4",
                "a:1",
                "a:1,b:2",
                "a:1,",
                "[::1]:1",
                "pg_a",
                "information_schema",
                "a@b",
            ])
            .into_iter()
            .chain([json!("a".repeat(longest)), json!("a".repeat(longest + 1))])
            .collect()
        }
        other => panic!("no candidates for {other:?}: {schema}"),
    }
}
