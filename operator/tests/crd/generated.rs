use std::path::PathBuf;

use clickstream_operator::crd::{CRD_NAME, ClickstreamPipeline, PLURAL, crd, crd_yaml, reference};
use kube::{CustomResourceExt, Resource};

use super::*;

/// Compares a file of the project with what the code prints; `CLICKSTREAM_UPDATE=1` writes it
/// instead.
fn is_current(path: &str, text: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    if std::env::var_os("CLICKSTREAM_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{path} is not what the code prints; write it anew with: CLICKSTREAM_UPDATE=1 cargo test -p clickstream-operator --test crd"
    );
}

#[test]
fn the_charts_definition_is_what_the_code_prints() {
    is_current("charts/clickstream-operator/files/crd.yaml", &crd_yaml());
}

#[test]
fn the_plain_definition_is_what_the_code_prints() {
    is_current("manifests/crd/clickstreampipelines.yaml", &crd_yaml());
}

#[test]
fn the_reference_is_what_the_code_prints() {
    is_current("docs/reference.md", &reference());
}

/// The numbers that a schema holds values to, but for fields below it that have a description of
/// their own.
fn bounds(schema: &Value, found: &mut Vec<u64>) {
    // a quantity's bounds are a rule, and the length of its text is nobody's concern
    if schema["x-kubernetes-int-or-string"] == true {
        return;
    }
    for key in ["maxItems", "maxLength", "minimum", "maximum"] {
        found.extend(schema[key].as_u64());
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() && schema[inner]["properties"].is_null() {
            bounds(&schema[inner], found);
        }
    }
}

/// Whether a description names a number, and not as a part of another one.
fn names(description: &str, number: u64) -> bool {
    description
        .split(|letter: char| !letter.is_ascii_digit())
        .any(|word| word == number.to_string())
}

#[test]
fn what_fields_of_events_are_held_to_stands_in_their_descriptions() {
    fn unsaid(schema: &Value, path: &str, missing: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().unwrap() {
            let path = format!("{path}.{name}");
            let description = field["description"].as_str().unwrap().replace(',', "");
            let mut numbers = Vec::new();
            bounds(field, &mut numbers);
            numbers.retain(|number| !names(&description, *number));
            missing.extend(numbers.iter().map(|number| format!("{path}: {number}")));
            for inner in [field, &field["items"]] {
                if inner["properties"].is_object() {
                    unsaid(inner, &path, missing);
                }
            }
        }
    }
    let mut missing = Vec::new();
    let schema = schema();
    unsaid(field(&schema, "spec.events"), "events", &mut missing);
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_definition_fits_into_a_plain_kubectl_apply() {
    // kubectl keeps it once more in an annotation, and all annotations together may have 256 KiB
    let definition: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    let size = definition.to_string().len();
    assert!(size < 200 * 1024, "{size} bytes");
}

#[test]
fn the_printed_definition_is_the_typed_one() {
    /// The type reads every bound as a floating-point number.
    fn float(value: &mut Value) {
        match value {
            Value::Number(number) => *value = json!(number.as_f64()),
            Value::Array(values) => values.iter_mut().for_each(float),
            Value::Object(fields) => fields.values_mut().for_each(float),
            _ => {}
        }
    }
    let mut printed: Value = serde_yaml::from_str(&crd_yaml()).unwrap();
    let mut typed = serde_json::to_value(crd()).unwrap();
    float(&mut printed);
    float(&mut typed);
    let printed = leaves(&printed, "");
    let typed = leaves(&typed, "");
    let lost: Vec<_> = printed
        .iter()
        .filter(|leaf| !typed.contains(leaf))
        .collect();
    assert!(lost.is_empty(), "unknown to the type: {lost:?}");
}

#[test]
fn all_names_come_from_the_one_group() {
    assert_eq!(CRD_NAME, format!("{PLURAL}.{}", spec::GROUP));
    assert_eq!(ClickstreamPipeline::crd_name(), CRD_NAME);
    assert_eq!(
        ClickstreamPipeline::url_path(&(), Some("shop")),
        format!(
            "/apis/{}/{}/namespaces/shop/{PLURAL}",
            spec::GROUP,
            spec::VERSION
        )
    );
    let definition = crd();
    assert_eq!(definition.metadata.name.as_deref(), Some(CRD_NAME));
    assert_eq!(
        (
            definition.spec.group.as_str(),
            definition.spec.versions[0].name.as_str()
        ),
        (spec::GROUP, spec::VERSION)
    );
    assert_eq!(
        ClickstreamPipeline::api_resource().api_version,
        format!("{}/{}", spec::GROUP, spec::VERSION)
    );
}

#[test]
fn kubectl_shows_the_columns_and_scales_the_processors() {
    let version = &crd().spec.versions[0];
    let columns = |wide: bool| -> Vec<String> {
        version
            .additional_printer_columns
            .iter()
            .flatten()
            .filter(|column| (column.priority == Some(1)) == wide)
            .map(|column| column.name.clone())
            .collect()
    };
    assert_eq!(
        columns(false),
        ["Ready", "Reason", "Processors", "Lag", "Window", "Age"]
    );
    assert_eq!(columns(true), ["Topics", "Targets", "Suspended", "Message"]);
    let scale = version
        .subresources
        .as_ref()
        .unwrap()
        .scale
        .as_ref()
        .unwrap();
    let schema = schema();
    for path in [
        &scale.spec_replicas_path,
        &scale.status_replicas_path,
        scale.label_selector_path.as_ref().unwrap(),
    ] {
        field(&schema, path.strip_prefix('.').unwrap());
    }
    // an autoscaler takes an absent number for zero, and leaves such a resource alone
    assert_eq!(field(&schema, "spec.processor")["default"], json!({}));
    assert_eq!(field(&schema, "spec.processor.replicas")["default"], 2);
    assert_eq!(spec::ProcessorSpec::default().replicas, 2);
}

#[test]
fn columns_show_fields_that_exist() {
    let schema = schema();
    for column in crd().spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten()
    {
        let path = column.json_path.trim_start_matches('.');
        if path.starts_with("metadata.") {
            continue;
        }
        // `[*]` and `[?(...)]` choose elements of a list
        let (list, rest) = path
            .split_once('[')
            .map_or((path, None), |(list, rest)| (list, rest.split_once(']')));
        let path = match rest {
            Some((_, element)) => format!("{list}[].{}", element.rsplit('.').next().unwrap()),
            None => list.to_owned(),
        };
        field(&schema, &path);
    }
}

/// All values of a document that are neither mappings nor lists, with their paths.
fn leaves(value: &Value, path: &str) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| leaves(value, &format!("{path}.{name}")))
            .collect(),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .flat_map(|(index, value)| leaves(value, &format!("{path}[{index}]")))
            .collect(),
        leaf => vec![(path.to_owned(), leaf.clone())],
    }
}

/// Visits all fields that are our own, with their paths.
fn visit(schema: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    const FOREIGN: [&str; 12] = [
        "affinity",
        "conditions",
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
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        see(&path, field);
        if !FOREIGN.contains(&name.as_str()) {
            visit(field, &path, see);
            visit(&field["items"], &path, see);
        }
    }
}

#[test]
fn every_field_of_the_spec_says_what_a_change_does() {
    let schema = schema();
    let mut silent = Vec::new();
    visit(&schema["properties"]["spec"], "spec", &mut |path, field| {
        let description = field["description"].as_str().unwrap_or_default();
        if !["Live", "Rolling", "Refused"]
            .iter()
            .any(|effect| description.contains(effect))
        {
            silent.push(path.to_owned());
        }
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn every_optional_scalar_of_the_spec_tells_its_default() {
    let schema = schema();
    let mut silent = Vec::new();
    let mut required = std::collections::BTreeSet::new();
    for (path, object) in objects(&schema["properties"]["spec"], "spec") {
        for name in object["required"].as_array().into_iter().flatten() {
            required.insert(format!("{path}.{}", name.as_str().unwrap()));
        }
    }
    visit(&schema["properties"]["spec"], "spec", &mut |path, field| {
        let is_scalar = field["type"] != "object";
        if is_scalar
            && !required.contains(path)
            && !field["description"]
                .as_str()
                .unwrap_or_default()
                .contains("Default")
        {
            silent.push(path.to_owned());
        }
    });
    assert_eq!(silent, Vec::<String>::new());
}

fn objects<'s>(schema: &'s Value, path: &str) -> Vec<(String, &'s Value)> {
    let mut all = vec![(path.to_owned(), schema)];
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        all.extend(objects(field, &format!("{path}.{name}")));
        all.extend(objects(&field["items"], &format!("{path}.{name}")));
    }
    all
}

#[test]
fn every_field_of_the_status_is_described() {
    let schema = schema();
    visit(
        &schema["properties"]["status"],
        "status",
        &mut |path, field| {
            assert!(
                field["description"].is_string(),
                "{path} has no description"
            );
        },
    );
}

#[test]
fn defaults_that_descriptions_tell_are_those_of_the_code() {
    let document = minimal();
    let pipeline = spec::ClickstreamPipeline::from_yaml(&document.to_string()).unwrap();
    let defaults = serde_json::to_value(&pipeline).unwrap();
    let schema = schema();
    let mut seen = 0;
    for (path, value) in leaves(&defaults["spec"], "spec") {
        let plain: String = path
            .split('.')
            .map(|part| {
                part.split('[').next().unwrap().to_owned()
                    + if part.contains('[') { "[]" } else { "" }
            })
            .collect::<Vec<_>>()
            .join(".");
        let description = field(&schema, plain.trim_end_matches("[]"))["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if description.contains("Default") && !plain.contains("connection.secret.name") {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), ToOwned::to_owned);
            let told = description.split_once("Default").unwrap().1;
            assert!(
                told.contains(&value),
                "{plain} is {value} by default, but its description says: {description}"
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} defaults were compared");
}

#[test]
fn no_integer_is_unsigned_and_no_value_may_be_null() {
    fn walk(schema: &Value, path: &str) {
        if schema["type"] == "integer" {
            assert!(
                ["int32", "int64"].contains(&schema["format"].as_str().unwrap_or_default()),
                "{path}: {schema}"
            );
        }
        for word in [
            "nullable",
            "anyOf",
            "oneOf",
            "allOf",
            "$ref",
            "const",
            "uniqueItems",
        ] {
            assert!(schema.get(word).is_none(), "{path} has {word}");
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            walk(field, &format!("{path}.{name}"));
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                walk(&schema[inner], &format!("{path}.{inner}"));
            }
        }
    }
    walk(&schema(), "");
}
