#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::{offset::TopicId, spec::SemanticSpec, window::TumblingWindow};

#[test]
fn a_record_behind_a_prefix_is_refused_as_it_came() {
    let mut spec = SemanticSpec::default();
    spec.events.mapping.strip_registry_prefix = true;
    let decoder = spec.decoder();
    let json = br#"{"event_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","user_id":"anna",
        "event_ts":1772366398123,"url":"/a\u0062"}"#;
    let place = Place {
        source: TopicPartition {
            topic: TopicId(1),
            partition: 0,
        },
        offset: 7,
        index: 0,
        received_at: EventTime::from_micros(1_772_366_400_000_000),
    };
    for prefix in [&[][..], &[0, 0, 0, 0, 9], &[0, 0xff, 0xfe, 0x80, 0]] {
        let payload = [prefix, json].concat();
        let event = decoder.decode(&payload, place.received_at).unwrap();
        let mut batch = Batch::default();
        let judged = Judged {
            window: TumblingWindow::new(spec.window_micros).containing(event.event_ts),
            late: false,
            suspect: false,
        };
        batch.push_event(place, &payload, &event, judged);
        let texts = batch.texts(&batch.rows[0]);
        assert_eq!((texts.user_id, texts.url), ("anna", "/ab"));
        batch.refuse(0, String::new());
        assert_eq!(batch.payload(&batch.dead_letters[0]), payload);
    }
}
