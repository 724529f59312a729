//! The fields of the spec with what the reference says a change of each does, and a change of each.
//! The sweep on a real API server uses them as well.

use serde::Deserialize;
use serde_json::{Value, json};

/// A field of the spec, below `spec`; elements of lists are `[]`.
#[derive(Debug)]
pub struct Field {
    /// Names from the top, separated by full stops.
    pub path: String,
    /// Whether it holds a value, and not further fields of ours.
    pub is_leaf: bool,
    /// Whether it must be given.
    pub is_required: bool,
    /// Acts at once.
    pub is_live: bool,
    /// Replaces pods.
    pub is_rolling: bool,
    /// Is refused, at least in one direction.
    pub is_refused: bool,
}

/// All fields in the schema of `spec`.
pub fn fields(schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    below(schema, "", &mut found);
    found
}

fn below(schema: &Value, path: &str, found: &mut Vec<Field>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let (inner, element) = match field.get("items") {
            Some(items) => (items, format!("{path}[]")),
            None => (field, path.clone()),
        };
        // what has fields without descriptions is one of Kubernetes' own types
        let is_ours = inner["properties"].as_object().is_some_and(|fields| {
            fields
                .values()
                .all(|field| field.get("description").is_some())
        });
        let description = field["description"].as_str().unwrap_or_default();
        found.push(Field {
            path,
            is_leaf: !is_ours,
            is_required: schema["required"]
                .as_array()
                .is_some_and(|required| required.contains(&json!(name))),
            is_live: description.contains("Live"),
            is_rolling: description.contains("Rolling"),
            is_refused: description.contains("Refused"),
        });
        if is_ours {
            below(inner, &element, found);
        }
    }
}

/// A change of one field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Path of the field.
    pub path: String,
    /// Its value in the document that has everything.
    pub one: Value,
    /// What it is changed to.
    pub another: Value,
    /// Fields that must not stand beside the change.
    #[serde(default)]
    pub without: Vec<String>,
    /// What Kafka must offer for it to work.
    pub needs: Option<String>,
    /// What the refusal says, of a change that is refused.
    pub refused: Option<Refused>,
}

/// How a change is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The condition that says so; `None`: the API server does not take the change.
    pub condition: Option<String>,
    /// The condition's reason.
    pub reason: Option<String>,
    /// Part of the message.
    pub says: String,
}

/// Where templates stand, and what each is called.
const TEMPLATES: [(&str, &str); 4] = [
    ("podTemplate", "common"),
    ("processor.podTemplate", "processor"),
    ("producer.podTemplate", "producer"),
    ("targets[].migration.podTemplate", "migration"),
];

/// The changes of all fields.
pub fn changes() -> Vec<Change> {
    let listed: Vec<Change> =
        serde_yaml::from_str(include_str!("fields.yaml")).expect("a list of changes");
    let mut all = Vec::new();
    for change in listed {
        match change.path.strip_prefix("podTemplate.") {
            Some(field) => all.extend(TEMPLATES.map(|place| in_template(&change, field, place))),
            None => all.push(change),
        }
    }
    all
}

/// A change of a template's field in one place. What goes over the template of all pods is left out
/// where that one changes.
fn in_template(change: &Change, field: &str, (place, name): (&str, &str)) -> Change {
    let here = |value: &Value| {
        let text = value.to_string().replace("PLACE", name);
        serde_json::from_str(&text).expect("still a value")
    };
    let mut without: Vec<String> = change
        .without
        .iter()
        .map(|path| path.replacen("podTemplate", place, 1))
        .collect();
    if place == "podTemplate" {
        let (over, former) = (&TEMPLATES[1..], field.split('[').next().unwrap_or(field));
        without.extend(over.iter().map(|(place, _)| (*place).to_owned()));
        without.extend(["processor", "producer"].map(|part| format!("{part}.{former}")));
    }
    Change {
        path: format!("{place}.{field}"),
        one: here(&change.one),
        another: here(&change.another),
        without,
        needs: None,
        refused: None,
    }
}

/// The spec in which these fields have their first values.
pub fn spec_of<'c>(changes: impl IntoIterator<Item = &'c Change>) -> Value {
    let mut spec = json!({});
    for change in changes {
        set(&mut spec, &change.path, &change.one);
    }
    spec
}

/// Gives a field a value; `null` takes it out.
pub fn set(spec: &mut Value, path: &str, value: &Value) {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let name = first.trim_end_matches("[]");
    if rest.is_none() && value.is_null() {
        if let Some(fields) = spec.as_object_mut() {
            fields.remove(name);
        }
        return;
    }
    let mut field = &mut spec[name];
    if first.ends_with("[]") {
        if !field.is_array() {
            *field = json!([{}]);
        }
        field = &mut field[0];
    }
    match rest {
        Some(rest) => set(field, rest, value),
        None => *field = value.clone(),
    }
}
