//! What seeds meet too seldom to be relied on, played by hand on the simulated database.

use std::{
    cell::RefCell,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use clickstream_pipeline::{
    admission::AdmittedPages,
    checkpoint::Counters,
    commit::settle,
    engine::{Engine, Flush, Intake, Record},
    event::EventTime,
    offset::{TopicId, TopicPartition},
    ownership::Claimed,
    spec::LatePolicy,
};
use uuid::Uuid;

use crate::{
    database::{Database, Shared},
    log::{BASE, REFUSED},
    scenario::Scenario,
    transaction::Connection,
};

const TP: TopicPartition = TopicPartition {
    topic: TopicId(1),
    partition: 0,
};

/// Runs a future that only ever waits for the scheduler.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn quiet() -> Rc<Scenario> {
    let mut scenario = Scenario::of(0, None);
    scenario.fault_budget = 0;
    scenario.final_until = None;
    scenario.spec.late_policy = LatePolicy::Divert;
    Rc::new(scenario)
}

/// Claims the partition and buffers these events, in this order.
fn flush_of(
    database: &Shared,
    scenario: &Scenario,
    events: &[(u128, &str)],
) -> (Connection, Flush) {
    let mut engine = Engine::new(&scenario.spec, 0, 1);
    let mut connection = Connection::open(database);
    let rules = Arc::clone(engine.rules());
    let claimed = finish(connection.claim(TP, 0, &rules)).expect("nothing goes wrong");
    let Claimed::Ours(grant) = claimed else {
        panic!("an empty log is not shorter than what was read of it");
    };
    engine.assign(TP, *grant.recovered);
    for (offset, (id, url)) in (0..).zip(events) {
        let json = format!(
            r#"{{"event_id":"{}","user_id":1,"event_ts":{},"url":"{url}"}}"#,
            Uuid::from_u128(*id),
            BASE / 1_000
        );
        let record = Record {
            offset,
            received_at: EventTime::from_micros(BASE),
            value: Some(json.as_bytes()),
            heartbeat: None,
        };
        assert_eq!(engine.record(TP, record), Intake::Buffered);
    }
    (connection, engine.take_flush(false).expect("events wait"))
}

#[test]
fn a_refused_resend_whose_twin_the_filter_forgot_within_the_flush_is_a_duplicate() {
    let scenario = quiet();
    let database = Rc::new(RefCell::new(Database::new(Rc::clone(&scenario))));
    // the smallest filter remembers at most 384 ids
    let mut events: Vec<(u128, &str)> = (1..=500).map(|id| (id, "/")).collect();
    events.push((1, REFUSED));
    let (mut connection, mut flush) = flush_of(&database, &scenario, &events);
    assert!(
        flush.batch.rows.iter().all(|row| !row.suspect),
        "the filter has forgotten the first id"
    );
    let settled = finish(settle(
        &mut connection,
        &mut flush,
        None,
        &mut AdmittedPages::default(),
    ));
    let settlement = settled.expect("one row is no reason to stop");
    let expected = Counters {
        consumed: 501,
        accepted: 500,
        duplicate: 1,
        ..Counters::default()
    };
    assert_eq!(settlement.deltas[&TP].counters, expected);
    assert_eq!(database.borrow().state.letters.len(), 0);
}

/// What was set apart is in no aggregate: once late events are stored it is counted when it is sent
/// again, and no more than once. The checker of all seeds says the same.
#[test]
fn a_diverted_event_is_accepted_once_when_it_is_sent_again_after_late_events_are_merged() {
    let scenario = quiet();
    let database = Rc::new(RefCell::new(Database::new(Rc::clone(&scenario))));
    let mut engine = Engine::new(&scenario.spec, 0, 1);
    let mut connection = Connection::open(&database);
    let rules = Arc::clone(engine.rules());
    let claimed = finish(connection.claim(TP, 0, &rules)).expect("nothing goes wrong");
    let Claimed::Ours(grant) = claimed else {
        panic!("an empty log is not shorter than what was read of it");
    };
    engine.assign(TP, *grant.recovered);
    let mut pages = AdmittedPages::default();
    let mut offset = 0;
    let later = BASE + 4 * 3_600_000_000;
    let mut counted = |engine: &mut Engine, events: &[(u128, i64)]| {
        for (id, at) in events {
            let json = format!(
                r#"{{"event_id":"{}","user_id":1,"event_ts":{},"url":"/"}}"#,
                Uuid::from_u128(*id),
                at / 1_000
            );
            let record = Record {
                offset,
                received_at: EventTime::from_micros(later),
                value: Some(json.as_bytes()),
                heartbeat: None,
            };
            assert_eq!(engine.record(TP, record), Intake::Buffered);
            offset += 1;
        }
        let mut flush = engine.take_flush(false).expect("events wait");
        let settled = finish(settle(&mut connection, &mut flush, None, &mut pages));
        let counters = settled.expect("nothing goes wrong").deltas[&TP].counters;
        (counters.accepted, counters.duplicate, counters.late)
    };
    let mut events: Vec<(u128, i64)> = (1..=40).map(|id| (id, later)).collect();
    events.push((99, BASE));
    assert_eq!(counted(&mut engine, &events), (40, 0, 1));
    assert_eq!(counted(&mut engine, &[(99, BASE)]), (0, 1, 0));

    let mut merging = scenario.spec.clone();
    merging.late_policy = LatePolicy::Merge;
    assert_eq!(engine.change_rules(&merging), Ok(true));
    assert_eq!(counted(&mut engine, &[(99, BASE)]), (1, 0, 0));
    assert_eq!(counted(&mut engine, &[(99, BASE)]), (0, 1, 0));

    let mut dropping = scenario.spec.clone();
    dropping.late_policy = LatePolicy::Drop;
    assert_eq!(engine.change_rules(&dropping), Ok(true));
    assert_eq!(counted(&mut engine, &[(99, BASE)]), (0, 1, 0));
    let state = &database.borrow().state;
    assert_eq!((state.late.len(), state.events.len()), (1, 41));
    assert_eq!(state.parts.values().map(|part| part.hits).sum::<i64>(), 41);
}
