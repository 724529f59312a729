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

#[test]
fn a_batch_in_the_memory_of_another_one_holds_nothing_of_it() {
    let decoder = SemanticSpec::default().decoder();
    let received_at = EventTime::from_micros(1_772_366_400_000_000);
    let mut batch = Batch::default();
    let push = |batch: &mut Batch, url: &str| {
        let payload = format!(
            r#"{{"event_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","user_id":1,
                "event_ts":1772366398123,"event_name":"buy","url":"{url}"}}"#
        );
        let event = decoder.decode(payload.as_bytes(), received_at).unwrap();
        let place = Place {
            source: TopicPartition {
                topic: TopicId(1),
                partition: 0,
            },
            offset: 7,
            index: 3,
            received_at,
        };
        let judged = Judged {
            window: TumblingWindow::new(60_000_000).containing(event.event_ts),
            late: true,
            suspect: true,
        };
        batch.push_event(place, payload.as_bytes(), &event, judged);
    };
    for _ in 0..100 {
        push(&mut batch, "/a\\u0062");
    }
    batch.refuse(0, "a constraint".to_owned());
    batch.number(9);
    let (room, letters) = (batch.rows.capacity(), batch.dead_letters.len());
    assert_eq!(letters, 1);
    let mut again = batch.recycled().unwrap();
    assert_eq!(again.rows.capacity(), room);
    assert_eq!(
        (again.bytes(), again.days(), again.late_windows()),
        (0, 0, 0)
    );
    assert_eq!((again.rows.len(), again.dead_letters.len()), (0, 0));
    assert_eq!(again.said(), Said::NOTHING);
    assert_eq!(again.identity(), Identity::default());
    push(&mut again, "/c");
    assert_eq!(again.texts(&again.rows[0]).url, "/c");
    assert!(
        again.recycled().is_none(),
        "the memory of a flush that was large is given back by a small one"
    );
}

#[test]
fn a_batch_knows_which_of_the_later_values_its_events_have() {
    let all = [
        More::Index,
        More::EventName,
        More::Site,
        More::Page,
        More::ReferrerHost,
        More::Campaign,
        More::Bot,
        More::Properties,
    ];
    let payload = br#"{"event_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","user_id":1,
        "event_ts":1772366398123,"url":"/"}"#;
    let received_at = EventTime::from_micros(1_772_366_400_000_000);
    let decoder = SemanticSpec::default().decoder();
    let said = |has: &dyn Fn(More) -> bool| {
        let text = |more| has(more).then_some("x".into());
        let mut event = decoder.decode(payload, received_at).unwrap();
        event.event_name = Some(
            if has(More::EventName) {
                "buy"
            } else {
                PAGE_VIEW
            }
            .into(),
        );
        event.site = text(More::Site);
        event.properties = has(More::Properties).then_some("{\"a\":1}".into());
        event.derived = Some(Box::new(Derived {
            page: text(More::Page),
            referrer_host: text(More::ReferrerHost),
            campaign: [None, None, text(More::Campaign), None, None],
            bot: u8::from(has(More::Bot)),
        }));
        let place = Place {
            source: TopicPartition {
                topic: TopicId(1),
                partition: 0,
            },
            offset: 7,
            index: i16::from(has(More::Index)),
            received_at,
        };
        let judged = Judged {
            window: TumblingWindow::new(60_000_000).containing(event.event_ts),
            late: false,
            suspect: false,
        };
        let mut batch = Batch::default();
        batch.push_event(place, payload, &event, judged);
        batch.said()
    };
    assert_eq!(said(&|_| false), Said::NOTHING);
    for one in all {
        let said = said(&|more| more == one);
        for other in all {
            assert_eq!(said.holds(other), other == one, "{other:?} of {one:?}");
        }
    }
    assert_eq!(said(&|_| true), Said::EVERYTHING);
}
