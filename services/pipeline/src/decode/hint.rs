//! What a person would see at once in a record that is refused: what it begins with, or which key
//! was meant. A hint never shows anything of the record but names that are known here.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{Field, RejectReason, Rejected};

/// What records begin with that are no JSON: the bytes, and what they are.
const BEGINNINGS: [(&[u8], &str); 6] = [
    (
        b"\0",
        "begins with 0x00: a schema registry prefix, see spec.events.schemaRegistryPrefix",
    ),
    (b"\xef\xbb\xbf", "begins with a byte order mark"),
    (b"\xff\xfe", "begins with 0xff 0xfe: UTF-16"),
    (b"\xfe\xff", "begins with 0xfe 0xff: UTF-16"),
    (b"\x1f\x8b", "begins with 0x1f 0x8b: packed with gzip"),
    (
        b"\x28\xb5\x2f\xfd",
        "begins with 0x28 0xb5: packed with zstd",
    ),
];

/// What a record that is no JSON object looks like.
pub(super) fn of_payload(rejected: Rejected, payload: &[u8]) -> Rejected {
    let looks = match rejected.reason {
        RejectReason::InvalidUtf8 | RejectReason::InvalidJson => {
            let known = BEGINNINGS
                .iter()
                .find(|(bytes, _)| payload.starts_with(bytes));
            known.map(|(_, looks)| *looks)
        }
        RejectReason::NotAnObject if super::mapping::begins_array(payload) => {
            Some("an array, see spec.events.batch")
        }
        _ => None,
    };
    match looks {
        Some(looks) => Rejected {
            detail: Cow::Owned(format!("{looks}; {}", rejected.detail)),
            ..rejected
        },
        None => rejected,
    }
}

/// What is known of a required field that is missing in a document, which is an object.
pub(super) fn of_missing(field: Field, text: &str) -> String {
    let keys: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let is_there = |key: &str| keys.get(key).is_some_and(|value| value.get() != "null");
    let likely = others(field).iter().find(|key| is_there(key));
    let is_null = keys.contains_key(field.as_str());
    let is_list = |key: &str| {
        keys.get(key)
            .is_some_and(|value| value.get().starts_with('['))
    };
    if let (None, Some(key)) = (likely, LISTS.iter().find(|key| is_list(key))) {
        return format!("{field}: required, but absent; `{key}` is a list, see spec.events.batch");
    }
    match (likely, is_null) {
        (Some(key), _) => {
            format!("{field}: required, but absent; `{key}` is there, see spec.events.fields")
        }
        (None, true) => format!("{field}: required, but null"),
        (None, false) => format!("{field}: required, but absent"),
    }
}

/// The names that other feeds have for a list of events.
const LISTS: [&str; 4] = ["batch", "events", "records", "messages"];

/// The names that other feeds have for a field, the likeliest first.
const fn others(field: Field) -> &'static [&'static str] {
    match field {
        Field::EventId => &[
            "eventId",
            "message_id",
            "messageId",
            "uuid",
            "id",
            "insert_id",
            "request_id",
        ],
        Field::UserId => &[
            "userId",
            "user",
            "uid",
            "anonymous_id",
            "anonymousId",
            "distinct_id",
            "visitor_id",
            "client_id",
        ],
        Field::EventTs => &[
            "eventTs",
            "timestamp",
            "@timestamp",
            "ts",
            "time",
            "event_time",
            "eventTime",
            "created_at",
            "sent_at",
            "originalTimestamp",
            "date",
            "datetime",
        ],
        Field::Url => &[
            "page_url",
            "pageUrl",
            "page",
            "uri",
            "href",
            "page_location",
            "location",
            "request_uri",
            "path",
        ],
        _ => &[],
    }
}
