//! JSON whose bytes are a function of its content: digests are taken of it.

use serde_json::Value;

/// Without spaces, keys in alphabetical order.
#[must_use]
pub fn bytes(value: &Value) -> Vec<u8> {
    sorted(value).to_string().into_bytes()
}

/// As [`bytes`], for people to read, with a line feed at the end.
#[must_use]
pub fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{:#}", sorted(value));
    text.push('\n');
    text.into_bytes()
}

/// Whether a map keeps the order of insertion is up to a feature that any crate of the build may
/// switch on; inserted in order, keys are in order either way.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries.into_iter();
            Value::Object(entries.map(|(k, v)| (k.clone(), sorted(v))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_in_order_at_every_depth() {
        let value = json!({ "b": [{ "d": 1, "c": 2 }], "a": null });
        assert_eq!(bytes(&value), br#"{"a":null,"b":[{"c":2,"d":1}]}"#);
    }
}
