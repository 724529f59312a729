//! Rules between fields, and rules about changes, with the advice they give.

use kube::core::cel::Validator;

use super::*;

/// What the rules say about a document, with an earlier one if it is a change.
fn advice(document: &Value, earlier: Option<&Value>) -> Vec<(String, String)> {
    match Validator::new().validate(&schema(), document, earlier) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .into_iter()
            .map(|error| (error.field_path, error.message))
            .collect(),
    }
}

/// Sets one field of a document, given by a JSON pointer, and makes the mappings on the way.
fn with(mut document: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let mut at = &mut document;
        for name in pointer.split('/').skip(1) {
            at = match name.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[name],
            };
        }
        *at = value.clone();
    }
    document
}

#[test]
fn rules_between_fields_say_what_to_do() {
    let user = json!({ "mechanism": "Plain", "secret": { "name": "u" } });
    let target = |name: &str, schema: Value, connection: Value| json!({ "name": name, "schema": schema, "connection": connection });
    let by_secret = |name: &str| json!({ "secret": { "name": name } });
    let in_spec = |host: &str, user: &str| json!({ "host": host, "database": "d", "user": user });
    for (changes, field, message) in [
        (
            vec![("/metadata/name", json!("1a"))],
            "",
            "beginning with a letter",
        ),
        (
            vec![("/metadata/name", json!("a".repeat(41)))],
            "",
            "1 to 40",
        ),
        (vec![("/metadata/name", json!("a.b"))], "", "inner `-`"),
        (
            vec![("/spec/kafka/sasl", user.clone())],
            "spec.kafka.sasl.mechanism",
            "set tls as well",
        ),
        (
            vec![("/spec/kafka/admin/sasl", user.clone())],
            "spec.kafka.admin.sasl.mechanism",
            "set tls as well",
        ),
        (
            vec![("/spec/window/size", json!("7s"))],
            "spec.window.size",
            "choose a divisor of 24h",
        ),
        (
            vec![("/spec/window/size", json!("25h"))],
            "spec.window.size",
            "outside 1s to 24h",
        ),
        (
            vec![
                ("/spec/producer/enabled", json!(true)),
                ("/spec/events/preset", json!("Segment")),
            ],
            "spec.producer.enabled",
            "cannot be read with events.preset: set it to false",
        ),
        (
            vec![
                ("/spec/producer/enabled", json!(true)),
                ("/spec/events/envelope", json!("/payload")),
            ],
            "spec.producer.enabled",
            "cannot be read with events.envelope: set it to false",
        ),
        (
            vec![
                ("/spec/producer/enabled", json!(true)),
                ("/spec/events/fields/url", json!(["/else"])),
            ],
            "spec.producer.enabled",
            "cannot be read with these events.fields: set it to false",
        ),
        (
            vec![("/spec/watermark/idleTimeout", json!("0"))],
            "spec.watermark.idleTimeout",
            "outside 1s to 24h",
        ),
        (
            vec![("/spec/processor/maxEventBytes", json!(1023))],
            "spec.processor.maxEventBytes",
            "outside 1Ki to 16Mi",
        ),
        (
            vec![
                ("/spec/processor/flush/maxBytes", json!("64Ki")),
                ("/spec/processor/maxEventBytes", json!("65Ki")),
            ],
            "spec.processor.flush.maxBytes",
            "lower maxEventBytes",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "management": "External", "retention": "24h" }]),
            )],
            "spec.topics[0].retention",
            "set management: Managed",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "management": "External", "adopt": true }]),
            )],
            "spec.topics[0].adopt",
            "set management: Managed",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "management": "External", "replicationFactor": 3 }]),
            )],
            "spec.topics[0].replicationFactor",
            "set management: Managed",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "management": "External", "config": { "a": "b" } }]),
            )],
            "spec.topics[0].config",
            "set management: Managed",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "a.b" }, { "name": "a_b" }]),
            )],
            "spec.topics",
            "remove one",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "config": { "retention.ms": "1" } }]),
            )],
            "spec.topics[0].config",
            "set `retention`",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "config": { "cleanup.policy": "compact" } }]),
            )],
            "spec.topics[0].config",
            "remove cleanup.policy",
        ),
        (
            vec![(
                "/spec/topics",
                json!([{ "name": "t", "config": { "message.timestamp.type": "CreateTime" } }]),
            )],
            "spec.topics[0].config",
            "remove message.timestamp.type",
        ),
        (
            vec![(
                "/spec/targets/0/connection",
                json!({ "host": "h", "database": "d" }),
            )],
            "spec.targets[0].connection",
            "give host, database and user",
        ),
        (
            vec![("/spec/targets/0/migration/connection", json!({}))],
            "spec.targets[0].migration.connection",
            "name a secret",
        ),
        (
            vec![
                ("/spec/targets/0/connection/sslMode", json!("Disable")),
                (
                    "/spec/targets/0/connection/caSecret",
                    json!({ "name": "ca" }),
                ),
            ],
            "spec.targets[0].connection.sslMode",
            "choose VerifyFull",
        ),
        (
            vec![("/spec/targets/0/schema", json!("pg_a"))],
            "spec.targets[0].schema",
            "choose another name",
        ),
        (
            vec![(
                "/spec/targets",
                json!([
                    target("a", json!("s"), by_secret("x")),
                    target("b", json!("s"), by_secret("x"))
                ]),
            )],
            "spec.targets",
            "give each its own",
        ),
        (
            vec![(
                "/spec/targets",
                json!([
                    target("a", json!("s"), in_spec("h", "u")),
                    target("b", json!("s"), in_spec("h", "v"))
                ]),
            )],
            "spec.targets",
            "give each its own",
        ),
        (
            vec![(
                "/spec/processor/labels",
                json!({ "app.kubernetes.io/name": "x" }),
            )],
            "spec.processor.labels",
            "choose another key",
        ),
        (
            vec![(
                "/spec/producer/annotations",
                json!({ "clickstream.dev/x": "x" }),
            )],
            "spec.producer.annotations",
            "choose another key",
        ),
    ] {
        let document = with(minimal(), &changes);
        let found = advice(&document, None);
        assert_eq!(found.len(), 1, "{changes:?}: {found:?}");
        assert_eq!(found[0].0, field, "{changes:?}: {found:?}");
        assert!(found[0].1.contains(message), "{changes:?}: {found:?}");
    }
    for changes in [
        vec![],
        vec![
            ("/spec/kafka/sasl", user.clone()),
            ("/spec/kafka/tls", json!({})),
        ],
        vec![
            ("/spec/kafka/admin/sasl", user.clone()),
            ("/spec/kafka/tls", json!({})),
        ],
        vec![("/spec/kafka/admin", json!({ "sasl": user, "tls": {} }))],
        vec![("/spec/window/size", json!("1.5s"))],
        vec![(
            "/spec/topics",
            json!([{ "name": "t", "management": "External" }, { "name": "u", "config": { "segment.bytes": "1" } }]),
        )],
        vec![("/spec/targets/0/connection/sslMode", json!("Disable"))],
        vec![(
            "/spec/targets",
            json!([
                target("a", json!("s"), by_secret("x")),
                target("b", json!("s"), by_secret("y")),
                target("c", json!("t"), by_secret("x"))
            ]),
        )],
        vec![(
            "/spec/targets",
            json!([
                target("a", json!("s"), in_spec("h", "u")),
                target("b", json!("s"), in_spec("i", "u"))
            ]),
        )],
        vec![
            ("/spec/processor/flush/maxRows", json!(1)),
            ("/spec/processor/maxEventBytes", json!("16Mi")),
        ],
        vec![("/spec/processor/labels", json!({ "team": "web" }))],
    ] {
        assert_eq!(advice(&with(minimal(), &changes), None), [], "{changes:?}");
    }
    assert_eq!(advice(&full(), None), []);
}

#[test]
fn what_cannot_change_says_what_to_do_instead() {
    let topics = |names: &[&str]| {
        json!(
            names
                .iter()
                .map(|name| json!({ "name": name }))
                .collect::<Vec<_>>()
        )
    };
    let refused = [
        (
            vec![("/spec/targets/0/schema", json!("other"))],
            vec![],
            "spec.targets[0].schema",
            "add a target",
        ),
        (
            vec![("/spec/targets/0/schema", json!("other"))],
            vec![("/spec/targets/0/schema", json!("third"))],
            "spec.targets[0].schema",
            "add a target",
        ),
        (
            vec![],
            vec![("/spec/targets/0/schema", json!("other"))],
            "spec.targets[0].schema",
            "add a target",
        ),
        (
            vec![("/spec/topics", topics(&["a", "b"]))],
            vec![("/spec/topics", topics(&["a"]))],
            "spec.topics",
            "list the other topic beside it",
        ),
        (
            vec![("/spec/topics", topics(&["a"]))],
            vec![("/spec/topics", topics(&["b"]))],
            "spec.topics",
            "list the other topic beside it",
        ),
        (
            vec![("/spec/topics", topics(&["a"]))],
            vec![],
            "spec.topics",
            "list the other topic beside it",
        ),
        (
            vec![],
            vec![("/spec/topics", topics(&["a"]))],
            "spec.topics",
            "list the other topic beside it",
        ),
    ];
    for (before, after, field, message) in refused {
        let found = advice(&with(minimal(), &after), Some(&with(minimal(), &before)));
        assert_eq!(found.len(), 1, "{before:?} to {after:?}: {found:?}");
        assert!(
            found[0].0 == field && found[0].1.contains(message),
            "{before:?} to {after:?}: {found:?}"
        );
    }
    let taken = [
        (
            vec![],
            vec![("/spec/targets/0/schema", json!("clickstream"))],
        ),
        (
            vec![],
            vec![("/spec/topics", topics(&["clickstream", "more"]))],
        ),
        (
            vec![("/spec/topics", topics(&["a", "b"]))],
            vec![("/spec/topics", topics(&["c", "b", "a"]))],
        ),
        (
            vec![("/spec/window/size", json!("1m"))],
            vec![("/spec/window/size", json!("5m"))],
        ),
    ];
    for (before, after) in taken {
        assert_eq!(
            advice(&with(minimal(), &after), Some(&with(minimal(), &before))),
            [],
            "{before:?} to {after:?}"
        );
    }
}
