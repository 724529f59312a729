#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot build its own input should stop there"
)]

mod batches;
mod cleaning;
mod columns;
mod documents;
mod fields;
mod hints;
mod ids;
mod instants;
mod kept;
mod model;
mod names;
mod properties;
mod timestamps;

use std::sync::LazyLock;

use super::*;
use crate::spec::EventRules;

/// The rules of the first release, and the bounds of the default spec, except that a megabyte of
/// nesting fits.
static FIRST: LazyLock<Decoder> = LazyLock::new(|| {
    SemanticSpec {
        max_event_bytes: 1 << 20,
        events: EventRules::of_first_release(),
        ..SemanticSpec::default()
    }
    .decoder()
});

/// The rules of a spec that says nothing of them.
static TODAY: LazyLock<Decoder> = LazyLock::new(|| {
    SemanticSpec {
        max_event_bytes: 1 << 20,
        ..SemanticSpec::default()
    }
    .decoder()
});

/// 2026-03-01T12:00:00Z, when every record of these tests was received.
const RECEIVED_AT: EventTime = EventTime::from_micros(1_772_366_400_000_000);

/// A time of an event that no rule objects to, in JSON.
const TIME: &str = "\"2026-03-01T11:59:59Z\"";

/// A UUID in JSON.
const ID: &str = "\"6f9619ff-8b86-d011-b42d-00c04fc964ff\"";

fn judge(payload: &[u8]) -> Result<Event<'_>, Rejected> {
    FIRST.decode(payload, RECEIVED_AT)
}

/// A valid event with one field's raw JSON replaced, or the field added.
fn with(field: &str, raw: &str) -> String {
    let mut fields = vec![
        ("event_id", ID),
        ("user_id", "\"anna\""),
        ("event_ts", TIME),
        ("url", "\"/\""),
    ];
    match fields.iter_mut().find(|(name, _)| *name == field) {
        Some((_, value)) => *value = raw,
        None => fields.push((field, raw)),
    }
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, raw)| format!("\"{name}\":{raw}"))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Expects the same reason against a field for each raw value of it.
fn field_rejected(field: Field, reason: RejectReason, values: &[&str]) {
    for raw in values {
        let shown: String = raw.chars().take(60).collect();
        let payload = with(field.as_str(), raw);
        let verdict = judge(payload.as_bytes()).expect_err(&shown);
        assert_eq!(
            (verdict.reason, verdict.field),
            (reason, Some(field)),
            "{shown}: {}",
            verdict.detail
        );
        assert!(
            verdict.detail.starts_with(&format!("{field}: ")),
            "{}",
            verdict.detail
        );
    }
}
