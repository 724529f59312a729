#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::{batch::Row, offset::TopicId, spec::LatePolicy};

fn partition(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(1),
        partition,
    }
}

fn claimed(engine: &mut Engine, tp: TopicPartition) {
    let recovered = Recovered {
        claim: Claim {
            token: Uuid::from_u128(1),
            epoch: 1,
        },
        next: NextOffset::ZERO,
        clock: EventClock::default(),
        first: true,
        rules: Arc::clone(engine.rules()),
    };
    engine.assign(tp, recovered);
}

fn read(engine: &mut Engine, tp: TopicPartition, offset: i64, value: &[u8]) -> Intake {
    let record = Record {
        offset,
        received_at: EventTime::from_micros(1_710_114_600_000_000),
        value: Some(value),
        heartbeat: None,
    };
    engine.record(tp, record)
}

fn beat(engine: &mut Engine, tp: TopicPartition, offset: i64, sent: i64) -> Intake {
    let record = Record {
        offset,
        received_at: EventTime::from_micros(sent + 7),
        value: None,
        heartbeat: Some(EventTime::from_micros(sent)),
    };
    engine.record(tp, record)
}

#[test]
fn a_closed_partition_is_flushed_and_takes_nothing_until_it_is_claimed_again() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    assert_eq!(read(&mut engine, tp, 0, b"{}"), Intake::Buffered);
    engine.close(tp);
    assert_eq!(read(&mut engine, tp, 9, b"{}"), Intake::Unassigned);
    engine.end_of_log(tp, NextOffset::at(10));
    let flush = engine.take_flush(true).unwrap();
    assert_eq!(flush.batch.spans[&tp].to, NextOffset::at(1));
    assert!(!flush.batch.spans[&tp].at_end);
    claimed(&mut engine, tp);
    assert_eq!(read(&mut engine, tp, 0, b"{}"), Intake::Buffered);
}

#[test]
fn a_heartbeat_is_flushed_at_once_and_moves_nothing_but_the_position() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    assert_eq!(beat(&mut engine, tp, 0, 100), Intake::Heartbeat);
    assert_eq!(beat(&mut engine, tp, 1, 200), Intake::Heartbeat);
    let flush = engine.take_flush(false).unwrap();
    let span = &flush.batch.spans[&tp];
    assert_eq!((span.to.get(), span.skipped), (2, 2));
    assert_eq!(span.clock, EventClock::default());
    assert_eq!(span.received, Some(EventTime::from_micros(207)));
    assert_eq!(span.heartbeats, [100, 200].map(EventTime::from_micros));
    // and once only
    assert!(engine.take_flush(false).is_none());
}

#[test]
fn a_silent_partition_stays_silent_under_heartbeats_and_not_under_tombstones() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    engine.end_of_log(tp, NextOffset::ZERO);
    assert!(engine.take_flush(true).unwrap().batch.spans[&tp].at_end);
    beat(&mut engine, tp, 0, 100);
    assert!(engine.take_flush(false).unwrap().batch.spans[&tp].at_end);
    let tombstone = Record {
        offset: 1,
        received_at: EventTime::from_micros(100),
        value: None,
        heartbeat: None,
    };
    assert_eq!(engine.record(tp, tombstone), Intake::Skipped);
    assert!(!engine.take_flush(true).unwrap().batch.spans[&tp].at_end);
}

#[test]
fn records_that_cannot_be_read_yet_end_a_silence() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    engine.end_of_log(tp, NextOffset::ZERO);
    assert!(engine.take_flush(true).unwrap().batch.spans[&tp].at_end);
    engine.left_end(tp);
    assert!(!engine.take_flush(true).unwrap().batch.spans[&tp].at_end);
    // said once, until the end is reached again
    engine.left_end(tp);
    assert!(engine.take_flush(true).is_none());
}

#[test]
fn a_flush_with_traffic_ends_a_silence_even_where_it_reaches_the_end_of_the_log() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    engine.end_of_log(tp, NextOffset::ZERO);
    assert!(engine.take_flush(true).unwrap().batch.spans[&tp].at_end);
    // a record, and the end again before the flush is taken
    read(&mut engine, tp, 0, b"{");
    engine.end_of_log(tp, NextOffset::at(1));
    assert!(!engine.take_flush(false).unwrap().batch.spans[&tp].at_end);
    assert!(engine.take_flush(true).unwrap().batch.spans[&tp].at_end);
    assert!(engine.take_flush(true).is_none());
}

#[test]
fn what_a_released_partition_has_buffered_is_never_written() {
    let event = br#"{"event_id":"018e2f00-0000-7000-8000-000000000001","user_id":1,"event_ts":1710114600000,"url":"/"}"#;
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    for tp in [partition(0), partition(1)] {
        claimed(&mut engine, tp);
        assert_eq!(read(&mut engine, tp, 0, event), Intake::Buffered);
        assert_eq!(read(&mut engine, tp, 1, b"{"), Intake::Buffered);
    }
    engine.release(partition(0));
    let batch = engine.take_flush(false).unwrap().batch;
    assert!(batch.rows.iter().all(|row| row.source == partition(1)));
    assert_eq!((batch.rows.len(), batch.dead_letters.len()), (1, 1));
}

#[test]
fn a_stretch_without_a_surprise_makes_the_next_distrust_cheaper_again() {
    let mut engine = Engine::new(&SemanticSpec::default(), 1 << 20, 1);
    let tp = partition(0);
    claimed(&mut engine, tp);
    let mut offset = 0;
    let mut rows_until_trusted = |engine: &mut Engine| {
        let mut rows = 0_u32;
        while engine.cold_partitions() > 0 {
            let event = format!(
                r#"{{"event_id":"018e2f00-0000-7000-8000-{offset:012x}","user_id":1,"event_ts":1710114600000,"url":"/"}}"#
            );
            read(engine, tp, offset, event.as_bytes());
            offset += 1;
            rows += 1;
        }
        rows
    };
    engine.distrust([tp]);
    engine.distrust([tp]);
    assert_eq!(rows_until_trusted(&mut engine), 2 * COLD_ROWS);
    engine.distrust([tp]);
    assert_eq!(rows_until_trusted(&mut engine), 2 * COLD_ROWS);
    engine.distrust([]);
    assert_eq!(rows_until_trusted(&mut engine), 0);
    engine.distrust([tp]);
    assert_eq!(rows_until_trusted(&mut engine), 2 * COLD_ROWS);
}

/// An event of a second after [`BASE`]; every one is another event.
fn event(second: i64) -> Vec<u8> {
    let (id, at) = (second + 1, BASE / 1_000 + second * 1_000);
    format!(
        r#"{{"event_id":"018e2f00-0000-7000-8000-{id:012x}","user_id":1,"event_ts":{at},"url":"/"}}"#
    )
    .into_bytes()
}

const BASE: i64 = 1_710_114_000_000_000;

/// Rules by which an event is late as soon as T has passed its window.
fn strict() -> SemanticSpec {
    SemanticSpec {
        delay_micros: 0,
        allowed_lateness_micros: 0,
        late_policy: LatePolicy::Divert,
        ..SemanticSpec::default()
    }
}

fn late(flush: &Flush) -> Vec<bool> {
    flush.batch.rows.iter().map(|row| row.late).collect()
}

#[test]
fn a_change_of_the_rules_takes_effect_between_two_flushes_and_never_within_one() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    for offset in 0..16 {
        read(&mut engine, tp, offset, &event(300 + offset));
    }
    assert_eq!(engine.change_rules(&strict()), Ok(true));
    assert_eq!(engine.change_rules(&strict()), Ok(false));
    // four minutes behind T: late by the new rules, and read while the old ones are in force
    read(&mut engine, tp, 16, &event(0));
    let before = engine.take_flush(false).unwrap();
    assert_eq!(late(&before), [false; 17]);
    assert_eq!(*before.rules, SemanticSpec::default());
    assert!(!before.batch.spans[&tp].new_rules);

    read(&mut engine, tp, 17, &event(1));
    let after = engine.take_flush(false).unwrap();
    assert_eq!(late(&after), [true]);
    assert_eq!(*after.rules, strict());
    let span = &after.batch.spans[&tp];
    assert_eq!((span.from.get(), span.new_rules), (17, true));
    // its anchor is written once
    read(&mut engine, tp, 18, &event(2));
    assert!(!engine.take_flush(false).unwrap().batch.spans[&tp].new_rules);
}

#[test]
fn where_no_record_waits_a_change_of_the_rules_is_in_force_at_once() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    beat(&mut engine, tp, 0, 100);
    assert_eq!(engine.change_rules(&strict()), Ok(true));
    assert_eq!(**engine.rules(), strict());
    assert!(engine.take_flush(false).unwrap().batch.spans[&tp].new_rules);
}

#[test]
fn every_partition_tells_of_new_rules_with_its_own_first_span_under_them() {
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    let both = [partition(0), partition(1)];
    for tp in both {
        claimed(&mut engine, tp);
    }
    assert_eq!(engine.change_rules(&strict()), Ok(true));
    for tp in both {
        read(&mut engine, tp, 0, b"{");
        let flush = engine.take_flush(false).unwrap();
        assert_eq!(flush.batch.spans.len(), 1);
        assert!(flush.batch.spans[&tp].new_rules);
    }
}

#[test]
fn rules_that_change_between_a_claim_and_its_first_record_are_noticed() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    let recovered = Recovered {
        claim: Claim {
            token: Uuid::from_u128(1),
            epoch: 1,
        },
        next: NextOffset::at(5),
        clock: EventClock::default(),
        first: false,
        rules: Arc::clone(engine.rules()),
    };
    assert_eq!(engine.change_rules(&strict()), Ok(true));
    engine.assign(tp, recovered);
    read(&mut engine, tp, 5, b"{");
    let flush = engine.take_flush(false).unwrap();
    assert!(flush.batch.spans[&tp].new_rules);
}

#[test]
fn a_change_that_is_taken_back_before_it_takes_effect_leaves_no_trace() {
    let tp = partition(0);
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    claimed(&mut engine, tp);
    read(&mut engine, tp, 0, b"{");
    assert_eq!(engine.change_rules(&strict()), Ok(true));
    assert_eq!(engine.change_rules(&SemanticSpec::default()), Ok(true));
    engine.take_flush(false).unwrap();
    read(&mut engine, tp, 1, b"{");
    assert!(!engine.take_flush(false).unwrap().batch.spans[&tp].new_rules);
}

#[test]
fn windows_of_another_size_are_refused_and_change_nothing() {
    let mut engine = Engine::new(&SemanticSpec::default(), 0, 1);
    let other = SemanticSpec {
        window_micros: 1_000_000,
        ..strict()
    };
    assert_eq!(engine.change_rules(&other), Err(WindowsDiffer));
    assert_eq!(**engine.rules(), SemanticSpec::default());
}

fn batches() -> SemanticSpec {
    let mut spec = SemanticSpec::default();
    spec.events.mapping.batch = Some("/batch".to_owned());
    spec
}

fn click(id: u128) -> String {
    let id = Uuid::from_u128(id);
    format!(r#"{{"event_id":"{id}","user_id":1,"event_ts":1710114600000,"url":"/"}}"#)
}

#[test]
fn the_events_of_a_batch_have_its_offset_and_their_places_in_it_and_are_in_one_flush() {
    let tp = partition(0);
    let mut engine = Engine::new(&batches(), 1 << 20, 1);
    claimed(&mut engine, tp);
    let batch = format!(
        r#"{{"batch":[{}, 7 ,{},{}]}}"#,
        click(1),
        click(2),
        click(1)
    );
    assert_eq!(read(&mut engine, tp, 4, batch.as_bytes()), Intake::Buffered);
    assert_eq!(
        read(&mut engine, tp, 5, click(3).as_bytes()),
        Intake::Buffered
    );
    let flush = engine.take_flush(false).unwrap();
    let places: Vec<_> = flush.batch.rows.iter().map(Row::place).collect();
    assert_eq!(places, [(tp, 4, 0), (tp, 4, 2), (tp, 4, 3), (tp, 5, 0)]);
    let suspects: Vec<_> = flush.batch.rows.iter().map(|row| row.suspect).collect();
    assert_eq!(suspects, [false, false, true, false]);
    let letter = &flush.batch.dead_letters[0];
    assert_eq!((letter.offset, letter.index), (4, 1));
    assert_eq!(flush.batch.payload(letter), b"7");
    assert_eq!(flush.batch.spans[&tp].to, NextOffset::at(6));
    // each row keeps its own element, and not the record
    let mut flushed = flush.batch;
    flushed.refuse(1, String::new());
    let refused = flushed.dead_letters.last().unwrap();
    assert_eq!((refused.offset, refused.index), (4, 2));
    assert_eq!(flushed.payload(refused), click(2).as_bytes());
}

#[test]
fn an_empty_batch_is_skipped_by_the_rules_that_it_was_read_by() {
    let tp = partition(0);
    let mut engine = Engine::new(&batches(), 0, 1);
    claimed(&mut engine, tp);
    assert_eq!(
        read(&mut engine, tp, 0, br#"{"batch":[]}"#),
        Intake::Skipped
    );
    // by these it is a broken event
    assert_eq!(engine.change_rules(&SemanticSpec::default()), Ok(true));
    let flush = engine.take_flush(false).unwrap();
    assert_eq!(*flush.rules, batches());
    let span = &flush.batch.spans[&tp];
    assert_eq!((span.to.get(), span.skipped, span.new_rules), (1, 1, false));
    assert_eq!(
        read(&mut engine, tp, 1, br#"{"batch":[]}"#),
        Intake::Buffered
    );
    let flush = engine.take_flush(false).unwrap();
    assert!(flush.batch.spans[&tp].new_rules);
    assert_eq!(flush.batch.dead_letters.len(), 1);
}
