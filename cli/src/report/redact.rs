//! What may not leave the cluster: passwords, tokens and events. Pure.
//!
//! Three sieves: places that may hold anything are emptied but for what is known to be harmless;
//! texts lose what looks like a credential; and a line that looks like an event is no line.

use std::sync::LazyLock;

use clickstream_protocol::{ADMIN_TLS, ADMIN_TOKENS};
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};

use crate::audit::timed;

/// What stands in the place of anything that was taken out.
pub const REMOVED: &str = "[removed]";
/// Variables that the operator sets itself.
const VARIABLES: [&str; 12] = [
    "CLICKSTREAM_ADMIN_LISTEN",
    ADMIN_TLS,
    ADMIN_TOKENS,
    "CLICKSTREAM_CLUSTER",
    "CLICKSTREAM_LOG_FORMAT",
    "CLICKSTREAM_MIGRATION_REPORT",
    "CLICKSTREAM_PIPELINE",
    "CLICKSTREAM_PROCESSOR_NAME",
    "CLICKSTREAM_SECRETS_DIR",
    "CLICKSTREAM_TAKE_OVER_FROM",
    "CLICKSTREAM_TARGET",
    "RUST_LOG",
];
/// Annotations of these are the operator's and Kubernetes' own.
const ANNOTATIONS: [&str; 4] = [
    "clickstream.dev/",
    "deployment.kubernetes.io/",
    "batch.kubernetes.io/",
    "app.kubernetes.io/",
];
/// The document that pods read: a resource, which is redacted as one.
const DOCUMENT: &str = "pipeline.yaml";
/// Fields of an event that no log and no resource of ours has.
const EVENT_FIELDS: [&str; 6] = [
    "event_id",
    "event_ts",
    "user_id",
    "session_id",
    "referrer",
    "user_agent",
];

static EVENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"\\?["']?\b(?:{})\b\\?["']?\s*[:=]"#,
        EVENT_FIELDS.join("|")
    ))
});
static SCHEME: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"));
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i)((?:password|passwd|passphrase|pwd|secret|token|credentials?|authorization|api[-_]?key|access[-_]?key|private[-_]?key)\\?["']?\s*[:=]\s*)(\\?"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,;&}]+)"#,
    )
});
static USER_INFO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"'@]+@"#));
static KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.)*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)")
});
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    )
});
static SECRET_FIELD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(?:password|passwd|passphrase|token|credentials?|api[-_]?key|access[-_]?key|private[-_]?key)$",
    )
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns above are written rightly, as their tests show")
}

/// A text without what looks like a credential; nothing of it, if it looks like an event.
pub fn text(text: &str) -> String {
    if EVENT.is_match(text) {
        return REMOVED.to_owned();
    }
    let text = KEY.replace_all(text, REMOVED);
    let text = SCHEME.replace_all(&text, format!("$1 {REMOVED}"));
    let text = NAMED.replace_all(&text, |found: &Captures<'_>| {
        format!("{}{REMOVED}", &found[1])
    });
    let text = USER_INFO.replace_all(&text, format!("$1{REMOVED}@"));
    TOKEN.replace_all(&text, REMOVED).into_owned()
}

/// Line by line, so that one that looks like an event takes no other along.
pub fn lines(all: &str) -> String {
    // keys have several lines
    let all = KEY.replace_all(all, REMOVED);
    all.lines()
        .map(|line| format!("{}\n", text(line)))
        .collect()
}

/// A log with the server's times. Ours are objects, of which each field is looked at by itself.
pub fn log(all: &str) -> String {
    let all = KEY.replace_all(all, REMOVED);
    let line = |line: &str| {
        let (time, said) = timed(line);
        let time = time.map(|time| format!("{time} ")).unwrap_or_default();
        let said = match serde_json::from_str::<Value>(said) {
            Ok(Value::Object(mut fields)) if is_ours(&fields) => {
                fields.iter_mut().for_each(|(_, value)| strings(value));
                json!(fields).to_string()
            }
            _ => text(said),
        };
        format!("{time}{said}\n")
    };
    all.lines().map(line).collect()
}

/// Whether an object is a log record, and not something that was printed.
fn is_ours(fields: &Map<String, Value>) -> bool {
    fields.contains_key("level")
        && fields.contains_key("timestamp")
        && !EVENT_FIELDS.iter().any(|field| fields.contains_key(*field))
}

/// An object of the API.
pub fn object(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if object["kind"] == json!("ConfigMap") {
        for place in ["data", "binaryData"] {
            let entries = object.get_mut(place).and_then(Value::as_object_mut);
            for (key, value) in entries.into_iter().flatten() {
                *value = document(key, value);
            }
        }
    }
    walk(object);
}

/// A value of a ConfigMap.
fn document(key: &str, value: &Value) -> Value {
    let document = (key == DOCUMENT)
        .then(|| serde_yaml::from_str::<Value>(value.as_str()?).ok())
        .flatten()
        .filter(|document| document["kind"] == json!("ClickstreamPipeline"));
    match document {
        Some(mut document) => {
            walk(&mut document);
            document
        }
        None => json!(REMOVED),
    }
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), &mut *value) {
                    ("annotations" | "podAnnotations", Value::Object(found)) => annotations(found),
                    ("env", Value::Array(found)) => found.iter_mut().for_each(variable),
                    ("httpHeaders", headers) => *headers = json!(REMOVED),
                    (key, Value::String(_)) if SECRET_FIELD.is_match(key) => {
                        *value = json!(REMOVED)
                    }
                    (_, value) => walk(value),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(walk),
        other => strings(other),
    }
}

fn annotations(found: &mut Map<String, Value>) {
    for (key, value) in found {
        if ANNOTATIONS.iter().any(|known| key.starts_with(known)) {
            strings(value);
        } else {
            *value = json!(REMOVED);
        }
    }
}

/// What a variable holds is known only of our own; where one comes from may be told.
fn variable(variable: &mut Value) {
    let known = variable["name"]
        .as_str()
        .is_some_and(|name| VARIABLES.contains(&name));
    if let Some(value) = variable.get_mut("value")
        && !known
    {
        *value = json!(REMOVED);
    }
    walk(variable);
}

fn strings(value: &mut Value) {
    match value {
        Value::String(found) => *found = text(found),
        Value::Array(all) => all.iter_mut().for_each(strings),
        Value::Object(fields) => fields.iter_mut().for_each(|(_, value)| strings(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2-Q9";

    #[test]
    fn what_looks_like_a_credential_is_taken_out_of_texts() {
        for line in [
            "password=hunter2-Q9",
            "PGPASSWORD='hunter2-Q9 x' psql",
            "\"password\": \"hunter2-Q9\"",
            r#"{\"password\":\"hunter2-Q9\"}"#,
            "postgres://u:hunter2-Q9@db:5432/x",
            "amqp://hunter2-Q9@mq",
            "Authorization: Bearer hunter2-Q9",
            "authorization: Basic hunter2-Q9==",
            "sasl.password = hunter2-Q9, next",
            "api_key: hunter2-Q9",
            "client_secret=hunter2-Q9&x=1",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2-Q9\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nhunter2-Q9 and cut off",
        ] {
            let left = lines(line);
            assert!(!left.contains(SECRET), "{line} -> {left}");
            assert!(left.contains(REMOVED), "{line} -> {left}");
        }
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0abc.c2lnbmF0dXJl";
        assert!(!text(&format!("sent {token}")).contains(token));
    }

    #[test]
    fn what_people_look_for_stays() {
        for line in [
            "password authentication failed for user \"clicks\"",
            "target main: Secret postgres does not exist in this namespace; create it",
            "partition clicks/3 is halted: the topic was deleted and made anew",
            "brokers kafka-0.kafka:9092,kafka-1.kafka:9092",
            "clickstream_consumer_lag_records{topic=\"clicks\",partition=\"3\"} 17",
        ] {
            assert_eq!(text(line), line);
        }
    }

    #[test]
    fn an_event_is_no_line_of_a_log_whoever_printed_it() {
        let event = r#"{"event_id":"018f","user_id":"alice@example.com","url":"/secret"}"#;
        let record =
            json!({ "timestamp": "t", "level": "WARN", "message": "odd", "record": event });
        let escaped = format!("panicked at {event:?}");
        for line in [event.to_owned(), record.to_string(), escaped] {
            let left = log(&format!(
                "2026-11-22T18:00:00Z {line}\n2026-11-22T18:00:01Z fine\n"
            ));
            assert!(!left.contains("alice"), "{left}");
            assert!(left.contains("18:00:01Z fine"), "{left}");
        }
        let left = log(&record.to_string());
        assert!(left.contains("odd") && left.contains(REMOVED), "{left}");
    }

    #[test]
    fn places_that_may_hold_anything_are_emptied() {
        let mut pod = json!({
            "kind": "Pod",
            "metadata": {
                "name": "p",
                "managedFields": [{ "manager": SECRET }],
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": SECRET,
                    "vault.example.com/agent": SECRET,
                    "clickstream.dev/config-hash": "h",
                },
            },
            "spec": { "containers": [{
                "name": "processor",
                "args": ["run", "--password=hunter2-Q9"],
                "env": [
                    { "name": "OTEL_EXPORTER_OTLP_HEADERS", "value": SECRET },
                    { "name": "CLICKSTREAM_TARGET", "value": "main" },
                    { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
                ],
                "livenessProbe": { "httpGet": { "httpHeaders": [{ "name": "x", "value": SECRET }] } },
            }] },
        });
        object(&mut pod);
        let left = pod.to_string();
        assert!(!left.contains(SECRET), "{left}");
        for stays in [
            "\"h\"",
            "\"main\"",
            "secretKeyRef",
            "OTEL_EXPORTER_OTLP_HEADERS",
        ] {
            assert!(left.contains(stays), "no {stays} in {left}");
        }
    }

    #[test]
    fn of_a_config_map_only_our_document_stays() {
        let yaml = "kind: ClickstreamPipeline\nspec:\n  kafka:\n    bootstrapServers: k:9092\n    password: hunter2-Q9\n";
        let mut map = json!({
            "kind": "ConfigMap", "metadata": { "name": "c" },
            "data": { "pipeline.yaml": yaml, "other.properties": SECRET },
        });
        object(&mut map);
        let left = map.to_string();
        assert!(!left.contains(SECRET), "{left}");
        assert!(left.contains("k:9092"), "{left}");
    }
}
