//! The part of a schema that is not CEL, checked the way the API server does.

use regex::Regex;
use serde_json::Value;

/// All places where the value does not fit the schema, each with what is wrong there.
pub fn misfits(schema: &Value, value: &Value) -> Vec<(String, String)> {
    let mut misfits = Vec::new();
    check(schema, value, "", &mut misfits);
    misfits
}

fn check(schema: &Value, value: &Value, path: &str, misfits: &mut Vec<(String, String)>) {
    if let Some(problem) = own_problem(schema, value) {
        misfits.push((path.to_owned(), problem));
        return;
    }
    match value {
        Value::Array(elements) => check_elements(schema, elements, path, misfits),
        Value::Object(fields) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default();
                let has_default = schema["properties"][name].get("default").is_some();
                if fields.get(name).is_none_or(Value::is_null) && !has_default {
                    misfits.push((below(path, name), "required, but missing".to_owned()));
                }
            }
            // the API server takes a field without a value for one that is left out
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let path = below(path, name);
                let properties = schema["properties"].as_object();
                let inner = properties
                    .and_then(|properties| properties.get(name))
                    .or(schema.get("additionalProperties"));
                match inner {
                    // an object without fields is for others to look into: metadata, affinity
                    None if properties.is_none() => {}
                    None => misfits.push((path, "unknown field".to_owned())),
                    Some(inner) => check(inner, value, &path, misfits),
                }
            }
        }
        _ => {}
    }
}

fn check_elements(
    schema: &Value,
    elements: &[Value],
    path: &str,
    misfits: &mut Vec<(String, String)>,
) {
    let key = |element: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(element.clone()),
        Some("map") => {
            let name = schema["x-kubernetes-list-map-keys"][0].as_str()?;
            let default = &schema["items"]["properties"][name]["default"];
            Some(element.get(name).unwrap_or(default).clone())
        }
        _ => None,
    };
    for (index, element) in elements.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let own = key(element).filter(|own| !own.is_null());
        let is_double = own.is_some() && elements[..index].iter().any(|other| key(other) == own);
        if let Some(own) = own.filter(|_| is_double) {
            misfits.push((path.clone(), format!("{own} is there already")));
        }
        check(&schema["items"], element, &path, misfits);
    }
}

/// What is wrong with the value itself, whatever is inside of it.
fn own_problem(schema: &Value, value: &Value) -> Option<String> {
    let number = |key: &str| schema[key].as_f64();
    let wanted = schema["type"].as_str();
    let is_type = match wanted {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => value.is_string() || value.is_i64() || value.is_u64(),
    };
    if !is_type {
        let wanted = with_article(wanted.unwrap_or("string or integer"));
        let bounds = match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) => format!(" from {least} to {most}"),
            _ => String::new(),
        };
        return Some(format!("expected {wanted}{bounds}, found {}", kind(value)));
    }
    if let Some(values) = schema["enum"]
        .as_array()
        .filter(|values| !values.contains(value))
    {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).collect();
        return Some(format!("{value} is none of {}", values.join(", ")));
    }
    let (size, unit, least, most) = match value {
        Value::Number(value) => (value.as_f64()?, "", "minimum", "maximum"),
        Value::String(text) => (
            text.chars().count() as f64,
            " characters",
            "minLength",
            "maxLength",
        ),
        Value::Array(elements) => (elements.len() as f64, " elements", "minItems", "maxItems"),
        Value::Object(fields) => (
            fields.len() as f64,
            " entries",
            "minProperties",
            "maxProperties",
        ),
        _ => return None,
    };
    if let Some(least) = number(least).filter(|least| size < *least) {
        return Some(format!("{size}{unit} is less than {least}"));
    }
    if let Some(most) = number(most).filter(|most| size > *most) {
        return Some(format!("{size}{unit} is more than {most}"));
    }
    let (text, pattern) = (value.as_str()?, schema["pattern"].as_str()?);
    // one that only the API server can read is left to it
    let fits = Regex::new(pattern).map_or(true, |pattern| pattern.is_match(text));
    (!fits).then(|| format!("{text:?} does not match {pattern}"))
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn with_article(kind: &str) -> &str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}
