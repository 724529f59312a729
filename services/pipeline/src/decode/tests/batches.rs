//! Records with several events: each is read by itself, and none costs another one.

use super::mapping::MAX_ELEMENTS;
use super::*;
use crate::spec::{EventsSpec, Preset};

/// One event's place, bytes, and time or reason.
type Shown = (i16, String, Result<i64, (RejectReason, String)>);

fn decoder(change: impl FnOnce(&mut EventsSpec)) -> Decoder {
    let mut events = EventsSpec::default();
    change(&mut events);
    let spec = SemanticSpec {
        max_event_bytes: 1 << 20,
        events: events.rules(),
        ..SemanticSpec::default()
    };
    spec.decoder()
}

fn at(batch: &str) -> Decoder {
    decoder(|events| events.batch = Some(batch.to_owned()))
}

fn shown(decoder: &Decoder, record: &[u8]) -> Vec<Shown> {
    let mut all = Vec::new();
    decoder.decode_each(record, RECEIVED_AT, |element| {
        let verdict = element.verdict.map(|event| event.event_ts.micros());
        all.push((
            element.index,
            String::from_utf8_lossy(element.payload).into_owned(),
            verdict.map_err(|rejected| (rejected.reason, rejected.detail.into_owned())),
        ));
    });
    all
}

/// An event of a second of 2026-03-01, and its time.
fn event(second: i64) -> (String, i64) {
    let micros = 1_772_366_300_000_000 + second * 1_000_000;
    (with("event_ts", &(micros / 1_000).to_string()), micros)
}

#[test]
fn each_element_is_read_by_itself() {
    let (one, two) = (event(1), event(2));
    let broken = r#"{"url":"/"}"#;
    let record = format!(r#"{{"batch":[{}, {broken},{} ],"sentAt":1}}"#, one.0, two.0);
    let missing = (
        RejectReason::MissingField,
        "event_id: nothing at /event_id".to_owned(),
    );
    assert_eq!(
        shown(&at("/batch"), record.as_bytes()),
        [
            (0, one.0.clone(), Ok(one.1)),
            (1, broken.to_owned(), Err(missing)),
            (2, two.0.clone(), Ok(two.1)),
        ]
    );
    // a record without the array is an event, and so is any where the rules know no batch
    for decoder in [&at("/batch"), &at(""), &decoder(|_| ())] {
        let single = shown(decoder, one.0.as_bytes());
        assert_eq!(single, [(0, one.0.clone(), Ok(one.1))]);
    }
}

#[test]
fn an_empty_batch_holds_nothing() {
    for record in [r#"{"batch":[]}"#, r#" {"a":1,"batch": [ ] }"#] {
        assert_eq!(shown(&at("/batch"), record.as_bytes()), []);
    }
    for record in ["[]", " [ ]\n"] {
        assert_eq!(shown(&at(""), record.as_bytes()), []);
    }
}

#[test]
fn a_record_that_cannot_be_read_is_rejected_once_as_a_whole() {
    let valid = event(1).0;
    for (batch, record, reason) in [
        ("/batch", "", RejectReason::Empty),
        ("/batch", "{", RejectReason::InvalidJson),
        ("/batch", "[]", RejectReason::NotAnObject),
        ("/batch", r#"{"batch":7}"#, RejectReason::NotAnObject),
        (
            "/batch",
            &format!(r#"{{"batch":[{valid}]"#),
            RejectReason::InvalidJson,
        ),
        ("", "[", RejectReason::InvalidJson),
        ("", &format!("[{valid}"), RejectReason::InvalidJson),
        ("", &format!("[{valid}]]"), RejectReason::InvalidJson),
        ("", &format!("[{valid}] []"), RejectReason::InvalidJson),
        ("", "7", RejectReason::NotAnObject),
    ] {
        let all = shown(&at(batch), record.as_bytes());
        assert_eq!(all.len(), 1, "{record}");
        assert_eq!((all[0].0, all[0].1.as_str()), (0, record));
        assert_eq!(all[0].2.as_ref().unwrap_err().0, reason, "{record}");
    }
    let all = shown(&at("/batch"), b"{\"batch\":[\xff]}");
    assert_eq!(all[0].2.as_ref().unwrap_err().0, RejectReason::InvalidUtf8);
    assert_eq!(all.len(), 1);
}

#[test]
fn a_record_that_is_an_array_holds_records() {
    let (one, two) = (event(1), event(2));
    let decoder = decoder(|events| {
        events.batch = Some(String::new());
        events.envelope = Some("/data".to_owned());
        events
            .fields
            .insert("event_ts".to_owned(), vec!["$/time".to_owned()]);
    });
    let quoted = serde_json::to_string(&two.0).unwrap();
    let first = format!(r#"{{"time":1772366301,"data":{}}}"#, one.0);
    let second = format!(r#"{{"data":{quoted},"time":1772366302}}"#);
    let record = format!(" [{first},{second},7]");
    let all = shown(&decoder, record.as_bytes());
    assert_eq!(all[0], (0, first.clone(), Ok(one.1)));
    assert_eq!(all[1], (1, second, Ok(two.1)));
    assert_eq!((all[2].0, all[2].1.as_str()), (2, "7"));
    assert_eq!(all[2].2.as_ref().unwrap_err().0, RejectReason::NotAnObject);
    // and one that is none is a record, as ever
    assert_eq!(shown(&decoder, first.as_bytes()), [(0, first, Ok(one.1))]);
}

#[test]
fn a_batch_may_stand_in_a_text_behind_a_prefix() {
    let decoder = decoder(|events| {
        events.batch = Some("/events".to_owned());
        events.envelope = Some("/data".to_owned());
        events.schema_registry_prefix = crate::spec::SchemaRegistryPrefix::Strip;
    });
    let one = event(1);
    let inner = format!(r#"{{"events":[{},7]}}"#, one.0);
    let record = serde_json::json!({ "data": inner }).to_string();
    let record = [&[0, 0, 0, 0, 7], record.as_bytes()].concat();
    let all = shown(&decoder, &record);
    assert_eq!(all[0], (0, one.0, Ok(one.1)));
    assert_eq!((all[1].0, all[1].1.as_str()), (1, "7"));
    assert_eq!(all.len(), 2);
}

#[test]
fn no_record_holds_more_events_than_a_flush_can_take_at_once() {
    for (batch, head, tail) in [("/batch", "{\"batch\":", "}"), ("", "", "")] {
        let record = |count: usize| {
            let elements = vec!["{}"; count].join(",");
            format!("{head}[{elements}]{tail}")
        };
        let decoder = at(batch);
        let all = shown(&decoder, record(MAX_ELEMENTS).as_bytes());
        assert_eq!(all.len(), MAX_ELEMENTS);
        assert_eq!(all[MAX_ELEMENTS - 1].0, 999);
        for count in [MAX_ELEMENTS + 1, 300_000] {
            let record = record(count);
            let all = shown(&decoder, record.as_bytes());
            let too_many = (
                RejectReason::TooLarge,
                "more than 1000 events in one record".to_owned(),
            );
            assert_eq!(all, [(0, record, Err(too_many))]);
        }
    }
}

#[test]
fn no_record_holds_events_of_more_days_than_a_flush_can_take_at_once() {
    let day = |day: i64| with("event_ts", &(1_700_000_000 + day * 86_400).to_string());
    let days = (0..MAX_BATCH_DAYS as i64 + 2).chain([0, 3]);
    let elements: Vec<String> = days.map(day).collect();
    let record = format!(r#"{{"batch":[{}]}}"#, elements.join(","));
    let all = shown(&at("/batch"), record.as_bytes());
    let kept: Vec<bool> = all.iter().map(|(.., verdict)| verdict.is_ok()).collect();
    let mut expected = vec![true; MAX_BATCH_DAYS];
    expected.extend([false, false, true, true]);
    assert_eq!(kept, expected);
    let (reason, detail) = all[MAX_BATCH_DAYS].2.clone().unwrap_err();
    assert_eq!(reason, RejectReason::TooLarge);
    assert_eq!(detail, "events of more than 16 days in one record");
}

#[test]
fn batches_of_products_are_read_by_their_presets() {
    let with_preset = |preset, batch: &str| {
        decoder(|events| {
            events.preset = Some(preset);
            events.batch = Some(batch.to_owned());
        })
    };
    let segment = r#"{"batch":[
        {"type":"page","messageId":"m-1","userId":"anna","timestamp":"2026-03-01T11:59:58Z",
         "context":{"page":{"url":"https://shop.example/"}}},
        {"type":"track","event":"Added","messageId":"m-2","anonymousId":"b",
         "originalTimestamp":"2026-03-01T11:59:59Z","properties":{"url":"https://shop.example/cart"}}
        ],"sentAt":"2026-03-01T12:00:00Z","writeKey":"k"}"#;
    let post_hog = r#"{"api_key":"k","historical_migration":false,"batch":[
        {"uuid":"0195514e-8d8b-7c2b-a5f7-c1a2b3d4e5f6","event":"$pageview","distinct_id":"anna",
         "properties":{"$current_url":"https://shop.example/"},"timestamp":"2026-03-01T11:59:58Z"},
        {"uuid":"0195514e-8d8b-7c2b-a5f7-c1a2b3d4e5f7","event":"$pageview","distinct_id":"anna",
         "properties":{"$current_url":"https://shop.example/"},"timestamp":"2026-03-01T11:59:59Z"}]}"#;
    let ga4 = r#"{"client_id":"c-1","timestamp_micros":"1772366398000000","events":[
        {"name":"page_view","params":{"page_location":"https://shop.example/"}},
        {"name":"session_start","params":{"page_location":"https://shop.example/"}}]}"#;
    for (preset, batch, record) in [
        (Preset::Segment, "/batch", segment),
        (Preset::RudderStack, "/batch", segment),
        (Preset::PostHog, "/batch", post_hog),
        (Preset::Ga4, "/events", ga4),
    ] {
        let mut ids = Vec::new();
        with_preset(preset, batch).decode_each(record.as_bytes(), RECEIVED_AT, |element| {
            ids.push(element.verdict.unwrap().event_id);
        });
        assert_eq!(ids.len(), 2, "{preset:?}");
        assert_ne!(ids[0], ids[1], "{preset:?}");
    }
}

#[test]
fn a_key_that_appears_twice_on_the_way_to_the_batch_rejects_the_record_and_skips_no_event() {
    let valid = event(1).0;
    let twice = |at: &str| {
        let detail = format!("a key appears twice on the way to the batch at {at}");
        Err((RejectReason::NotAnObject, detail))
    };
    for record in [
        format!(r#"{{"batch":[{valid}],"batch":[]}}"#),
        format!(r#"{{"batch":[{valid}],"b\u0061tch":[]}}"#),
        format!(r#"{{"batch":[],"batch":[{valid}]}}"#),
        format!(r#"{{"batch":[{valid}],"batch":[{valid}]}}"#),
        format!(r#"{{"batch":[{valid}],"batch":null}}"#),
    ] {
        let shown = shown(&at("/batch"), record.as_bytes());
        assert_eq!(shown, [(0, record.clone(), twice("/batch"))]);
    }
    let inside = at("/data/items");
    let record = format!(r#"{{"data":{{"items":[{valid}]}},"data":{{"items":[]}}}}"#);
    assert_eq!(
        shown(&inside, record.as_bytes()),
        [(0, record.clone(), twice("/data/items"))]
    );
}

#[test]
fn elements_under_one_id_of_their_record_are_events_of_their_own_and_the_same_when_sent_again() {
    let decoder = decoder(|events| {
        events.preset = Some(Preset::CloudEvents);
        events.batch = Some("/items".to_owned());
    });
    let ids = |record: &str| {
        let mut ids = Vec::new();
        decoder.decode_each(record.as_bytes(), RECEIVED_AT, |element| {
            ids.push(element.verdict.unwrap().event_id);
        });
        ids
    };
    let own = r#""event_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","#;
    let item = |id: &str, url: &str| format!(r#"{{{id}"user_id":"anna","url":"{url}"}}"#);
    let record = |id: &str| {
        let items = [item("", "/a"), item(own, "/b"), item("", "/c")].join(",");
        format!(r#"{{"id":"{id}","time":"2026-03-01T09:00:00Z","data":{{"items":[{items}]}}}}"#)
    };
    let first = ids(&record("A-1"));
    assert_eq!(first[1].to_string(), "6f9619ff-8b86-d011-b42d-00c04fc964ff");
    let of_record = event::id::of_text("A-1");
    let of = |place: i32| event::id::of_text(&format!("{of_record}/{place}"));
    assert_eq!((first[0], first[2]), (of(0), of(2)));
    assert_eq!(ids(&record("A-1")), first);
    assert_ne!(ids(&record("A-2"))[0], first[0]);
    // a record that is one event keeps its id
    let single =
        r#"{"id":"A-1","time":"2026-03-01T09:00:00Z","data":{"user_id":"anna","url":"/"}}"#;
    assert_eq!(ids(single), [of_record]);
}
