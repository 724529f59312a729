//! What stays of an event beside its fields, as the decoder hands it on.

use super::*;
use crate::spec::{EventsSpec, Preset, PropertiesPolicy};

fn storing(events: EventsSpec) -> Decoder {
    let events = EventsSpec {
        properties: PropertiesPolicy::Store,
        ..events
    };
    let spec = SemanticSpec {
        events: events.rules(),
        ..SemanticSpec::default()
    };
    spec.decoder()
}

fn kept(decoder: &Decoder, record: &str) -> Option<String> {
    let event = decoder.decode(record.as_bytes(), RECEIVED_AT);
    let properties = event.expect("a valid event").properties;
    properties.map(Cow::into_owned)
}

#[test]
fn nothing_is_kept_unless_the_spec_says_so() {
    let record = with("price", "4.5");
    let event = judge(record.as_bytes()).unwrap();
    assert_eq!(event.properties, None);
    let event = storing(EventsSpec::default());
    assert_eq!(kept(&event, &record).as_deref(), Some(r#"{"price":4.5}"#));
}

#[test]
fn an_event_with_its_fields_alone_keeps_nothing() {
    let decoder = storing(EventsSpec::default());
    assert_eq!(kept(&decoder, &with("url", "\"/a\"")), None);
    assert_eq!(
        kept(&decoder, &format!("  {}", with("x", "[1, {}]"))).as_deref(),
        Some(r#"{"x":[1,{}]}"#)
    );
}

#[test]
fn what_a_preset_takes_is_left_out_and_its_alternatives_stay() {
    let decoder = storing(EventsSpec {
        preset: Some(Preset::Segment),
        ..EventsSpec::default()
    });
    let record = format!(
        r#"{{"messageId":{ID},"userId":"anna","anonymousId":"a-1","timestamp":{TIME},
        "context":{{"page":{{"url":"/a","title":"A"}},"locale":"en"}},"properties":{{"n":1}}}}"#
    );
    assert_eq!(
        kept(&decoder, &record).as_deref(),
        Some(
            r#"{"context":{"page":{"title":"A"},"locale":"en"},"properties":{"n":1},"anonymousId":"a-1"}"#
        )
    );
}

#[test]
fn of_an_envelope_only_the_event_is_kept() {
    let decoder = storing(EventsSpec {
        envelope: Some("/data".to_owned()),
        ..EventsSpec::default()
    });
    let event = with("price", "4.5");
    let quoted = serde_json::to_string(&event).unwrap();
    for data in [&event, &quoted] {
        let record = format!(r#"{{"source":"/web","data":{data},"type":"click"}}"#);
        assert_eq!(
            kept(&decoder, &record).as_deref(),
            Some(r#"{"price":4.5}"#),
            "{record}"
        );
    }
}
