//! Nothing that comes from outside makes a series: every source of labels is flooded, and the
//! series are counted.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::collections::BTreeSet;

use clickstream_pipeline::{
    checkpoint::Counters,
    commit::Remedy,
    decode::RejectReason,
    event::EventTime,
    offset::{TopicId, TopicPartition},
    spec::SemanticSpec,
};
use prometheus::{Registry, TextEncoder};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    DayChange, FlushOutcome, Gauges, HeartbeatMetrics, PartitionGauges, ProcessGauges, Skew,
    SourceMetrics, WriterMetrics, documented,
};
use crate::{retry::ErrorClass, runner::outcome::word};

/// Partitions of the pipeline in these tests.
const PARTITIONS: i32 = 4;

struct All {
    registry: Registry,
    writer: WriterMetrics,
    gauges: Gauges,
}

fn all() -> All {
    let registry = Registry::new();
    SourceMetrics::register(&registry).unwrap();
    HeartbeatMetrics::register(&registry).unwrap();
    All {
        writer: WriterMetrics::register(&registry, true).unwrap(),
        gauges: Gauges::register(&registry).unwrap(),
        registry,
    }
}

/// Names and labels of all series, histograms by their parts.
fn series(registry: &Registry) -> BTreeSet<String> {
    TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

fn shown(partition: i32) -> PartitionGauges {
    PartitionGauges {
        topic: "clicks".to_owned(),
        partition,
        next: Some(1),
        lag: Some(1),
        lag_seconds: Some(1.0),
        watermark_seconds: Some(1.0),
        watermark_delay_seconds: Some(1.0),
        headroom_seconds: Some(1.0),
        heartbeat_age_seconds: Some(1.0),
        ..PartitionGauges::default()
    }
}

/// Everything that the pipeline itself can count, once.
fn ordinary(all: &All) {
    let counters = Counters {
        consumed: 4,
        accepted: 1,
        merged: 1,
        duplicate: 1,
        rejected: 1,
        late: 1,
        skipped: 1,
        revised: 1,
    };
    for partition in 0..PARTITIONS {
        let topic = TopicId(1);
        all.writer
            .committed("clicks", TopicPartition { topic, partition }, &counters);
    }
    let partitions: Vec<_> = (0..PARTITIONS).map(shown).collect();
    all.gauges
        .show("group", &ProcessGauges::default(), &partitions);
    for outcome in FlushOutcome::ALL {
        all.writer.flush(outcome);
    }
    for reason in RejectReason::ALL {
        all.writer.rejected(reason);
    }
    all.writer.future(Skew::Tolerated, 1);
    all.writer.days_changed(DayChange::Dropped, 1);
}

/// The words for errors that there may be.
fn remedies() -> [Remedy; 6] {
    let detail = "x".to_owned();
    [
        Remedy::Repeat { later: true },
        Remedy::Repeat { later: false },
        Remedy::Distrust,
        Remedy::DeadLetter { detail },
        Remedy::Reclaim,
        Remedy::Stop,
    ]
}

#[test]
fn hostile_input_from_every_side_makes_no_series_beyond_the_closed_lists() {
    let all = all();
    ordinary(&all);
    let before = series(&all.registry);
    let mut rng = StdRng::seed_from_u64(20);
    let mut garbage = |most: usize| -> Vec<u8> {
        (0..rng.random_range(0..=most))
            .map(|_| rng.random())
            .collect()
    };

    // what a server may call its errors
    for number in 0..20_000_u32 {
        let state = match number {
            // every class of two characters
            0..1_296 => {
                let digit = |d| char::from_digit(d, 36).unwrap().to_ascii_uppercase();
                format!("{}{}000", digit(number / 36), digit(number % 36))
            }
            _ => String::from_utf8_lossy(&garbage(40)).into_owned(),
        };
        for remedy in remedies() {
            all.writer
                .postgres_error(ErrorClass::of_state(&state), word(&remedy));
        }
    }
    // what a client may send
    let decoder = SemanticSpec {
        max_event_bytes: 1_000,
        max_future_skew_micros: 0,
        ..SemanticSpec::default()
    }
    .decoder();
    let shapes: [&[u8]; 6] = [
        b"",
        b"{",
        b"[]",
        br#"{"event_id":1}"#,
        br#"{"event_id":"018e2f00-0000-7000-8000-000000000001","user_id":1,"event_ts":4070908800000,"url":"/"}"#,
        &[0xff; 2_000],
    ];
    for number in 0..20_000_usize {
        let value = match shapes.get(number) {
            Some(shape) => shape.to_vec(),
            None => garbage(1_200),
        };
        let Err(rejected) = decoder.decode(&value, EventTime::from_micros(0)) else {
            continue;
        };
        all.writer.rejected(rejected.reason);
    }
    let after = series(&all.registry);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(
        new.iter()
            .all(|name| name.starts_with("clickstream_postgres_errors_total{")),
        "{new:?}"
    );
    // five words, whatever the remedy holds
    assert!(new.len() <= ErrorClass::ALL.len() * 5, "{}", new.len());
    assert_eq!(before.difference(&after).count(), 0);
}

#[test]
fn partitions_that_come_and_go_leave_no_series_behind() {
    let all = all();
    ordinary(&all);
    let before = series(&all.registry);
    for first in 0..500 {
        let partitions: Vec<_> = (first * 20..first * 20 + 20).map(shown).collect();
        all.gauges
            .show("group", &ProcessGauges::default(), &partitions);
    }
    let partitions: Vec<_> = (0..PARTITIONS).map(shown).collect();
    all.gauges
        .show("group", &ProcessGauges::default(), &partitions);
    assert_eq!(series(&all.registry), before);
}

#[test]
fn what_is_not_known_has_no_series() {
    let all = all();
    all.gauges
        .show("group", &ProcessGauges::default(), &[shown(0)]);
    let lag = r#"clickstream_consumer_lag_records{partition="0",topic="clicks"}"#;
    assert!(series(&all.registry).contains(lag));
    let unknown = PartitionGauges {
        topic: "clicks".to_owned(),
        ..PartitionGauges::default()
    };
    all.gauges
        .show("group", &ProcessGauges::default(), &[unknown]);
    let left: Vec<_> = series(&all.registry)
        .into_iter()
        .filter(|name| name.contains("topic="))
        .collect();
    assert_eq!(
        left,
        [
            r#"clickstream_partition_halted{partition="0",topic="clicks"}"#,
            r#"clickstream_partition_paused{partition="0",topic="clicks"}"#,
        ]
    );
}

#[test]
fn every_metric_has_the_form_that_prometheus_asks_for() {
    for family in documented().unwrap() {
        let name = &family.name;
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        if family.kind == "histogram" {
            assert!(!family.buckets.is_empty(), "{name}");
        }
        assert!(!family.help.is_empty(), "{name}");
    }
}
