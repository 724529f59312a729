//! The reference of the resource for people: one row per field, from the same schema that
//! Kubernetes takes.

use std::fmt::Write as _;

use serde_json::Value;

use super::definition::definition;

const HEAD: &str = "\
<!-- Generated from the CustomResourceDefinition; do not edit.
     Write it anew with: CLICKSTREAM_UPDATE=1 cargo test -p clickstream-operator --test crd -->

# Reference of `ClickstreamPipeline`

`clickstream.dev/v1alpha1`, namespaced, short name `csp`. Only `spec.kafka.bootstrapServers` and one target with a
connection must be given. Each field says what a change of it does:

- **Live**: it acts at once, and no pod is restarted.
- **Rolling**: the pods that use it are replaced one by one; no record is lost or counted twice.
- **Refused**: it is not done; the API server or a condition says why and what to do instead, and everything else goes on.

Durations are written as Go writes them (`10s`, `1h30m`, `168h`), bytes as Kubernetes does (`32Mi`, `64k`, or an integer).
";

/// The page as Markdown.
#[must_use]
pub fn reference() -> String {
    let definition = definition();
    let root = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut page = HEAD.to_owned();
    page.push_str("\n## `spec`\n");
    section(&mut page, "spec", &root["spec"]);
    page.push_str("\n## `status`\n");
    section(&mut page, "status", &root["status"]);
    page
}

/// The rows of one object, then those of the objects in it, each under a heading of its own.
fn section(page: &mut String, path: &str, schema: &Value) {
    let is_spec = path.starts_with("spec");
    page.push_str(if is_spec {
        "\n| Field | Type | Default | Change | Description |\n|---|---|---|---|---|\n"
    } else {
        "\n| Field | Type | Description |\n|---|---|---|\n"
    });
    let mut below = Vec::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        row(page, is_spec, name, field, is_required(schema, name));
        let inner = if field["type"] == "array" {
            &field["items"]
        } else {
            field
        };
        let marks = if field["type"] == "array" { "[]" } else { "" };
        // what has fields without descriptions is one of Kubernetes' own types
        let is_ours = inner["properties"].as_object().is_some_and(|fields| {
            fields
                .values()
                .all(|field| field.get("description").is_some())
        });
        // one type in several places; its own row says so
        let is_told = name == "podTemplate" && path != "spec";
        if is_ours && !is_told {
            below.push((format!("{path}.{name}{marks}"), inner));
        }
    }
    for (path, inner) in below {
        let _ = writeln!(page, "\n### `{path}`");
        section(page, &path, inner);
    }
}

fn row(page: &mut String, is_spec: bool, name: &str, field: &Value, is_required: bool) {
    let description = field["description"].as_str().unwrap_or_default();
    let line = description.replace('\n', " ").replace('|', "\\|");
    let kind = kind(field);
    if !is_spec {
        let _ = writeln!(page, "| `{name}` | {kind} | {line} |");
        return;
    }
    let default = match default(description) {
        _ if is_required => "required".to_owned(),
        Some(default) => default.replace('\n', " "),
        None => String::new(),
    };
    let effects: Vec<&str> = ["Live", "Rolling", "Refused"]
        .into_iter()
        .filter(|effect| description.contains(effect))
        .collect();
    let effects = effects.join(", ");
    let line = without_columns(&line);
    let _ = writeln!(
        page,
        "| `{name}` | {kind} | {default} | {effects} | {line} |"
    );
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"]
        .as_array()
        .is_some_and(|required| required.iter().any(|field| field == name))
}

/// What stands behind `Default` in a description, up to the end of its sentence.
fn default(description: &str) -> Option<String> {
    let (_, rest) = description.split_once("Default")?;
    let rest = rest.trim_start_matches(':').trim();
    let end = end_of_sentence(rest);
    Some(rest[..end].trim_end_matches('.').to_owned())
}

/// The description without the sentences that have columns of their own.
fn without_columns(line: &str) -> String {
    let mut line = line.to_owned();
    if let Some(start) = line.find(" Default") {
        let rest = &line[start + 1..];
        let end = end_of_sentence(rest);
        line.replace_range(start..start + 1 + end, "");
    }
    for effect in [" Live.", " Rolling."] {
        for before in [".", ";", ")"] {
            line = line.replace(&format!("{before}{effect}"), before);
        }
    }
    line
}

/// Where the first sentence ends, behind its full stop: one inside `1.0` or `ca.crt` is none.
fn end_of_sentence(text: &str) -> usize {
    text.match_indices('.')
        .map(|(at, _)| at + 1)
        .find(|end| matches!(text.as_bytes().get(*end), None | Some(b' ' | b'\n')))
        .unwrap_or(text.len())
}

fn kind(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> = values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect();
        return values.join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "bytes".to_owned();
    }
    let is_duration = field["type"] == "string"
        && field["pattern"]
            .as_str()
            .is_some_and(|pattern| pattern.contains("us|µs"));
    match field["type"].as_str() {
        Some("string") if is_duration => "duration".to_owned(),
        Some("string") if field["format"] == "date-time" => "time".to_owned(),
        Some("array") => match field["items"]["type"].as_str() {
            Some("object") => "list".to_owned(),
            other => format!("list of {}s", other.unwrap_or("value")),
        },
        Some("object") if field.get("additionalProperties").is_some() => "map".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}
