#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use serde_json::{Map, Value, json};

use super::*;
use crate::schema;

/// What another release may write under this schema: a word nobody knows wherever there is text,
/// and one field more in each object.
fn of_another_release(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(name, field)| (name.clone(), of_another_release(field)));
            let more = ("ofAnotherRelease".to_owned(), json!({ "a": [1] }));
            Value::Object(fields.chain([more]).collect::<Map<_, _>>())
        }
        Some("array") => json!([of_another_release(&schema["items"])]),
        Some("integer") => json!(7),
        Some("boolean") => json!(true),
        Some("string") if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
        Some("string") => json!("WordOfAnotherRelease"),
        other => panic!("{other:?} has no place in a status: {schema}"),
    }
}

/// Otherwise the whole resource could not be read, and after a rollback nobody would look after the
/// pipeline.
#[test]
fn words_and_fields_of_another_release_leave_a_status_readable() {
    let whole = of_another_release(&schema::structural::<ClickstreamPipelineStatus>());
    let status: ClickstreamPipelineStatus = serde_json::from_value(whole).unwrap();
    let topic = &status.topics[0];
    assert_eq!(topic.management, None);
    assert_eq!(topic.created, Some(true));
    assert_eq!(status.targets[0].worst_partitions[0].lag, Some(7));
    assert_eq!(status.conditions[0].reason, "WordOfAnotherRelease");
}

#[test]
fn what_this_release_writes_it_reads() {
    for management in [
        None,
        Some(TopicManagement::Managed),
        Some(TopicManagement::External),
    ] {
        let topic = TopicStatus {
            name: "clicks".to_owned(),
            management,
            ..TopicStatus::default()
        };
        let written = serde_json::to_value(&topic).unwrap();
        assert_eq!(
            serde_json::from_value::<TopicStatus>(written).unwrap(),
            topic
        );
    }
}
