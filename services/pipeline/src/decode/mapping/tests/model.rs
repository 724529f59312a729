//! The same rules, followed one pointer after another through a tree of values: slow and easy to
//! check.

use super::*;
use crate::decode::mapping::pointer::Step;

/// A JSON value that may hold what no value can: repeated keys, lone surrogates, numbers of any
/// size.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    /// As it is written.
    Scalar(String),
    Array(Vec<Json>),
    /// Keys, and whether each is written with escapes.
    Object(Vec<(String, bool, Json)>),
    /// A text that holds a document.
    Text(Box<Json>),
}

impl Json {
    pub(super) fn written(&self, space: &str) -> String {
        let joined = |parts: Vec<String>| parts.join(&format!("{space},{space}"));
        match self {
            Self::Scalar(raw) => raw.clone(),
            Self::Array(list) => {
                let parts = list.iter().map(|value| value.written(space)).collect();
                format!("[{space}{}{space}]", joined(parts))
            }
            Self::Object(entries) => {
                let entry = |(key, is_escaped, value): &(String, bool, Json)| {
                    format!(
                        "{}{space}:{space}{}",
                        quoted(key, *is_escaped),
                        value.written(space)
                    )
                };
                format!(
                    "{{{space}{}{space}}}",
                    joined(entries.iter().map(entry).collect())
                )
            }
            Self::Text(value) => serde_json::to_string(&value.written(space)).unwrap(),
        }
    }

    fn is_null(&self) -> bool {
        *self == Self::Scalar("null".to_owned())
    }
}

fn quoted(text: &str, is_escaped: bool) -> String {
    if !is_escaped {
        return serde_json::to_string(text).unwrap();
    }
    let units: String = text
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect();
    format!("\"{units}\"")
}

/// Where a way leads, and whether a key appears twice on it.
#[derive(Clone, Copy, Debug, Default)]
struct Led<'j> {
    to: Option<&'j Json>,
    is_repeated: bool,
}

fn follow<'j>(from: &'j Json, steps: &[Step]) -> Led<'j> {
    let Some((step, rest)) = steps.split_first() else {
        return Led {
            to: Some(from),
            is_repeated: false,
        };
    };
    let next: Vec<&Json> = match (from, step) {
        (Json::Object(entries), Step::Key(key)) => entries
            .iter()
            .filter(|(other, ..)| other == key)
            .map(|(.., value)| value)
            .collect(),
        (Json::Array(list), Step::Key(key)) => list
            .iter()
            .enumerate()
            .filter(|(index, _)| index.to_string() == *key)
            .map(|(_, value)| value)
            .collect(),
        (Json::Array(list), Step::Member { key, value }) => list
            .iter()
            .filter(|element| is_member(element, key, value))
            .collect(),
        _ => Vec::new(),
    };
    let is_repeated = next.len() > 1;
    let below = next
        .first()
        .map(|next| follow(next, rest))
        .unwrap_or_default();
    Led {
        to: below.to,
        is_repeated: is_repeated || below.is_repeated,
    }
}

/// Whether a value is an object with a text at a key; of repeated keys the last counts.
pub(super) fn is_member(element: &Json, key: &str, value: &str) -> bool {
    let wanted = Json::Scalar(serde_json::to_string(value).unwrap());
    let Json::Object(entries) = element else {
        return false;
    };
    let found = entries.iter().rfind(|(other, ..)| other == key);
    found.is_some_and(|(.., found)| *found == wanted)
}

/// What one field is found to be: its raw text, or that the record says two things.
pub(super) type Value = Result<Option<String>, ()>;

pub(super) fn field(
    rules: &MappingRules,
    record: &Json,
    event: Option<&Json>,
    field: Field,
    space: &str,
) -> Value {
    let own = vec![format!("/{field}")];
    for pointer in rules.fields.get(field.as_str()).unwrap_or(&own) {
        let Ok(pointer) = pointer.parse::<Pointer>() else {
            continue;
        };
        let from = if pointer.from_record {
            Some(record)
        } else {
            event
        };
        let led = from
            .map(|from| follow(from, &pointer.steps))
            .unwrap_or_default();
        if led.is_repeated {
            return Err(());
        }
        if let Some(value) = led.to.filter(|value| !value.is_null()) {
            return Ok(Some(value.written(space)));
        }
    }
    Ok(rules
        .constants
        .get(field.as_str())
        .map(|text| serde_json::to_string(text).unwrap()))
}

/// The value at a pointer of the rules, or that the way there is not one.
pub(super) fn at<'j>(from: &'j Json, pointer: &str) -> Result<Option<&'j Json>, ()> {
    let led = follow(from, &pointer.parse::<Pointer>().unwrap().steps);
    if led.is_repeated { Err(()) } else { Ok(led.to) }
}
