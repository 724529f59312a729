//! Records as JSON lines for people: `{"due_ms":…,"kind":…,"key":…,"event":{…}}`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::record::{Record, RecordKind};

#[derive(Serialize)]
struct Printed<'a> {
    due_ms: u128,
    kind: &'static str,
    key: &'a str,
    /// The payload where it is one JSON value.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    /// The payload where it is not, with `\xHH` for bytes outside printable ASCII and `\\` for a
    /// backslash.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// What a decoder must say to a malformed record: reason and field.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
}

/// Writes each record as one line.
///
/// # Errors
/// What `out` says.
pub fn write(records: impl Iterator<Item = Record>, out: &mut dyn Write) -> io::Result<()> {
    for record in records {
        // half a surrogate pair passes as raw JSON, and would make the line unreadable
        let readable = serde_json::from_slice::<serde_json::Value>(&record.payload).is_ok();
        let event: Option<&RawValue> = serde_json::from_slice(&record.payload)
            .ok()
            .filter(|_| readable);
        let verdict = match record.kind {
            RecordKind::Malformed(how) => Some(match how.expected() {
                (reason, Some(field)) => format!("{reason}: {field}"),
                (reason, None) => reason.to_string(),
            }),
            _ => None,
        };
        let printed = Printed {
            due_ms: record.due.as_millis(),
            kind: record.kind.as_str(),
            key: &record.key,
            payload: event
                .is_none()
                .then(|| record.payload.escape_ascii().to_string()),
            event,
            verdict,
        };
        serde_json::to_writer(&mut *out, &printed)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use clickstream_pipeline::event::EventTime;

    use super::write;
    use crate::generator::{Generator, GeneratorOptions};

    #[test]
    fn every_record_is_one_json_line_even_when_it_is_malformed() {
        let options = GeneratorOptions {
            malformed: 0.9,
            ..GeneratorOptions::default()
        };
        let mut out = Vec::new();
        write(
            Generator::new(options, EventTime::MIN).unwrap().take(500),
            &mut out,
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 500);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(
                line["event"].is_null() != line["payload"].is_null(),
                "{line}"
            );
            assert_eq!(line["verdict"].is_string(), line["kind"] == "malformed");
        }
    }
}
