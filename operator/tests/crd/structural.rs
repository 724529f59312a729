//! The part of a schema that is not CEL, checked the way the API server does.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

thread_local! {
    // compiling takes longer than all else
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

fn fits(pattern: &str, text: &str) -> bool {
    PATTERNS.with_borrow_mut(|patterns| {
        patterns
            .entry(pattern.to_owned())
            .or_insert_with(|| Regex::new(pattern).expect("a pattern"))
            .is_match(text)
    })
}

/// All places where the value does not fit the schema.
pub fn misfits(schema: &Value, value: &Value) -> Vec<String> {
    let mut misfits = Vec::new();
    check(schema, value, "", &mut misfits);
    misfits
}

fn check(schema: &Value, value: &Value, path: &str, misfits: &mut Vec<String>) {
    let mut say = |what: String| misfits.push(format!("{path}: {what}"));
    let number = |key: &str| schema[key].as_f64();
    let is_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{path}: {other} is no type"),
        None => {
            assert_eq!(schema["x-kubernetes-int-or-string"], true, "{path}");
            value.is_string() || value.is_i64() || value.is_u64()
        }
    };
    if !is_type {
        say(format!("{value} has the wrong type"));
        return;
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        say(format!("{value} is not in {values:?}"));
    }
    if let Some(found) = value.as_f64()
        && (number("minimum").is_some_and(|least| found < least)
            || number("maximum").is_some_and(|most| found > most))
    {
        say(format!("{found} is out of bounds"));
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as f64;
        if number("minLength").is_some_and(|least| length < least)
            || number("maxLength").is_some_and(|most| length > most)
        {
            say(format!("{length} characters"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && !fits(pattern, text)
        {
            say(format!("{text:?} does not match {pattern}"));
        }
    }
    if let Some(elements) = value.as_array() {
        let length = elements.len() as f64;
        if number("minItems").is_some_and(|least| length < least)
            || number("maxItems").is_some_and(|most| length > most)
        {
            say(format!("{length} elements"));
        }
        let key = |element: &Value| match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Some(element.clone()),
            Some("map") => Some(
                element[schema["x-kubernetes-list-map-keys"][0]
                    .as_str()
                    .expect("a key")]
                .clone(),
            ),
            _ => None,
        };
        for (index, element) in elements.iter().enumerate() {
            if key(element).is_some()
                && elements[..index]
                    .iter()
                    .any(|earlier| key(earlier) == key(element))
            {
                misfits.push(format!("{path}[{index}]: duplicate"));
            }
            check(
                &schema["items"],
                element,
                &format!("{path}[{index}]"),
                misfits,
            );
        }
        return;
    }
    let Some(fields) = value.as_object() else {
        return;
    };
    if number("maxProperties").is_some_and(|most| fields.len() as f64 > most) {
        say(format!("{} entries", fields.len()));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("a name");
        if !fields.contains_key(name) && schema["properties"][name].get("default").is_none() {
            say(format!("{name} is missing"));
        }
    }
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(inner), _) | (None, Some(inner)) => check(inner, value, &path, misfits),
            (None, None) if path == ".metadata.name" || path.starts_with(".metadata.") => {}
            (None, None) => misfits.push(format!("{path}: unknown field")),
        }
    }
}
