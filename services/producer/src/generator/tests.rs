#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;

use clickstream_pipeline::decode::{Decoder, Field, RejectReason};
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::SemanticSpec;
use sha2::{Digest, Sha256};

use super::{Generator, GeneratorOptions, IdForm, InvalidOptions, Malformed};
use crate::record::{Record, RecordKind};

/// 2026-01-01T00:00:00Z.
const BASE: EventTime = EventTime::from_micros(1_767_225_600_000_000);

static DECODER: LazyLock<Decoder> = LazyLock::new(|| SemanticSpec::default().decoder());

fn records(options: GeneratorOptions, count: usize) -> Vec<Record> {
    Generator::new(options, BASE).unwrap().take(count).collect()
}

fn plain() -> GeneratorOptions {
    GeneratorOptions {
        duplicates: 0.0,
        late: 0.0,
        malformed: 0.0,
        ..GeneratorOptions::default()
    }
}

fn received_at(record: &Record) -> EventTime {
    EventTime::from_micros(BASE.micros() + record.due.as_micros() as i64)
}

fn fraction(records: &[Record], kind: fn(&RecordKind) -> bool) -> f64 {
    records.iter().filter(|record| kind(&record.kind)).count() as f64 / records.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let options = GeneratorOptions {
        duplicates: 0.1,
        malformed: 0.1,
        late: 0.1,
        ..GeneratorOptions::default()
    };
    assert_eq!(records(options.clone(), 20_000), records(options, 20_000));
}

#[test]
fn another_seed_gives_other_bytes() {
    let first = records(plain(), 100);
    let second = records(
        GeneratorOptions {
            seed: 43,
            ..plain()
        },
        100,
    );
    assert!(
        first
            .iter()
            .zip(&second)
            .all(|(first, second)| first.payload != second.payload)
    );
}

#[test]
fn a_later_run_with_the_same_seed_has_the_same_visitors_and_other_ids() {
    let options = GeneratorOptions {
        ids: IdForm::V4,
        users: 50,
        ..plain()
    };
    let later = EventTime::from_micros(BASE.micros() + 1_000_000);
    let second: Vec<_> = Generator::new(options.clone(), later)
        .unwrap()
        .take(2_000)
        .collect();
    let first = records(options, 2_000);
    let ids = |records: &[Record]| -> HashSet<_> {
        let events = records
            .iter()
            .map(|record| DECODER.decode(&record.payload, EventTime::MAX).unwrap());
        events.map(|event| event.event_id).collect()
    };
    assert!(ids(&first).is_disjoint(&ids(&second)));
    let visitors = |records: &[Record]| -> HashMap<_, _> {
        let events = records.iter().map(|record| {
            (
                record.key.clone(),
                DECODER.decode(&record.payload, EventTime::MAX),
            )
        });
        events
            .map(|(key, event)| (key, event.unwrap().ip))
            .collect()
    };
    let (before, after) = (visitors(&first), visitors(&second));
    let again = before
        .iter()
        .filter(|(key, ip)| after.get(*key) == Some(ip))
        .count();
    assert!(again > 40 && after.keys().filter(|key| before.contains_key(*key)).count() == again);
}

#[test]
fn the_stream_of_seed_42_stays_as_it_is() {
    let mut hash = Sha256::new();
    for record in records(GeneratorOptions::default(), 5_000) {
        hash.update(record.key.as_bytes());
        hash.update(&record.payload);
        hash.update(record.due.as_nanos().to_le_bytes());
    }
    let digest: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        digest, "cb4b64c3e850d9db97cc893326f4ce57168b71bb6f30ec9cdc76ef5d5427ba74",
        "same seed, same bytes holds between releases too: a change belongs in the changelog"
    );
}

#[test]
fn records_are_due_at_the_rate_asked_for() {
    let records = records(
        GeneratorOptions {
            rate: 1_000,
            ..plain()
        },
        10_001,
    );
    assert_eq!(records[1].due, Duration::from_millis(1));
    assert_eq!(records[10_000].due, Duration::from_secs(10));
}

#[test]
fn every_well_formed_event_is_accepted_and_keyed_by_its_user() {
    let options = GeneratorOptions {
        malformed: 0.0,
        duplicates: 0.1,
        late: 0.1,
        ..GeneratorOptions::default()
    };
    for record in records(options, 30_000) {
        let event = DECODER
            .decode(&record.payload, received_at(&record))
            .unwrap_or_else(|rejected| {
                panic!("{rejected:?}: {}", String::from_utf8_lossy(&record.payload))
            });
        assert_eq!(event.user_id.to_string(), record.key);
    }
}

#[test]
fn every_malformed_record_gets_the_verdict_it_is_made_for() {
    let options = GeneratorOptions {
        malformed: 1.0,
        duplicates: 0.0,
        late: 0.0,
        ..GeneratorOptions::default()
    };
    let mut seen = HashSet::new();
    for record in records(options, 10_000) {
        let RecordKind::Malformed(how) = record.kind else {
            panic!("{:?} among malformed records", record.kind)
        };
        let verdict = DECODER
            .decode(&record.payload, received_at(&record))
            .map(|_| ())
            .map_err(|rejected| (rejected.reason, rejected.field));
        assert_eq!(verdict, Err(how.expected()), "{how:?}");
        seen.insert(how);
    }
    assert_eq!(seen.len(), Malformed::ALL.len());
}

#[test]
fn malformed_records_cover_every_reason_and_every_required_field() {
    let (reasons, fields): (HashSet<_>, HashSet<_>) =
        Malformed::ALL.into_iter().map(Malformed::expected).unzip();
    for reason in RejectReason::ALL
        .into_iter()
        .filter(|&reason| reason != RejectReason::RefusedByDatabase)
    {
        assert!(reasons.contains(&reason), "{reason}");
    }
    // of the others nothing costs an event
    for field in &Field::ALL[..4] {
        assert!(fields.contains(&Some(*field)), "{field}");
    }
}

#[test]
fn fractions_are_kept() {
    let options = GeneratorOptions {
        duplicates: 0.2,
        late: 0.1,
        malformed: 0.3,
        ..GeneratorOptions::default()
    };
    let records = records(options, 40_000);
    for (kind, expected) in [
        (
            (|kind| matches!(kind, RecordKind::Duplicate)) as fn(&RecordKind) -> bool,
            0.2,
        ),
        (|kind| matches!(kind, RecordKind::Late), 0.1),
        (|kind| matches!(kind, RecordKind::Malformed(_)), 0.3),
    ] {
        let seen = fraction(&records, kind);
        assert!(
            (seen - expected).abs() < 0.01,
            "{seen} instead of {expected}"
        );
    }
}

#[test]
fn a_duplicate_repeats_key_and_bytes_of_an_earlier_event() {
    let mut sent = HashMap::new();
    let mut repeated = 0;
    for record in records(
        GeneratorOptions {
            duplicates: 0.3,
            malformed: 0.0,
            ..plain()
        },
        20_000,
    ) {
        match record.kind {
            RecordKind::Duplicate => {
                assert_eq!(sent.get(&record.payload), Some(&record.key));
                repeated += 1;
            }
            _ => assert_eq!(
                sent.insert(record.payload, record.key),
                None,
                "an event id was used twice"
            ),
        }
    }
    assert!(repeated > 5_000);
}

#[test]
fn a_duplicate_sent_elsewhere_has_another_users_key() {
    let options = GeneratorOptions {
        duplicates: 0.3,
        cross_partition_duplicates: 0.5,
        users: 3,
        ..plain()
    };
    let records = records(options, 20_000);
    let elsewhere = fraction(&records, |kind| {
        matches!(kind, RecordKind::DuplicateElsewhere)
    });
    assert!((elsewhere - 0.15).abs() < 0.01, "{elsewhere}");
    for record in records
        .iter()
        .filter(|record| record.kind == RecordKind::DuplicateElsewhere)
    {
        let event = DECODER
            .decode(&record.payload, received_at(record))
            .unwrap();
        assert_ne!(event.user_id.to_string(), record.key);
    }
}

#[test]
fn events_lie_within_the_disorder_and_late_ones_beyond_it() {
    let options = GeneratorOptions {
        late: 0.2,
        disorder: Duration::from_secs(8),
        ..plain()
    };
    let mut out_of_order = 0;
    let mut newest = i64::MIN;
    for record in records(options, 20_000) {
        let event = DECODER
            .decode(&record.payload, received_at(&record))
            .unwrap();
        let age = received_at(&record).micros() - event.event_ts.micros();
        if record.kind == RecordKind::Late {
            assert!((900_000_000..=1_808_001_000).contains(&age), "{age}");
        } else {
            assert!((0..=8_001_000).contains(&age), "{age}");
            out_of_order += u32::from(event.event_ts.micros() < newest);
            newest = newest.max(event.event_ts.micros());
        }
    }
    assert!(out_of_order > 4_000, "{out_of_order}");
}

#[test]
fn ids_have_the_form_asked_for_and_v7_carries_the_events_time() {
    for (ids, version) in [(IdForm::V4, 4), (IdForm::V7, 7)] {
        for record in records(GeneratorOptions { ids, ..plain() }, 200) {
            let event = DECODER
                .decode(&record.payload, received_at(&record))
                .unwrap();
            assert_eq!(event.event_id.get_version_num(), version);
            if ids == IdForm::V7 {
                let (seconds, nanos) = event.event_id.get_timestamp().unwrap().to_unix();
                let micros = seconds as i64 * 1_000_000 + i64::from(nanos) / 1_000;
                assert_eq!(micros, event.event_ts.micros());
            }
        }
    }
}

#[test]
fn events_have_the_size_of_real_ones() {
    let records = records(plain(), 20_000);
    let mean = records
        .iter()
        .map(|record| record.payload.len())
        .sum::<usize>()
        / records.len();
    assert!((230..=300).contains(&mean), "{mean} bytes");
}

#[test]
fn sessions_belong_to_one_user_and_have_several_pages() {
    let mut sessions: HashMap<String, (String, u32)> = HashMap::new();
    for record in records(plain(), 20_000) {
        let event = DECODER
            .decode(&record.payload, received_at(&record))
            .unwrap();
        let entry = sessions
            .entry(event.session_id.unwrap().into_owned())
            .or_insert((record.key.clone(), 0));
        assert_eq!(entry.0, record.key);
        entry.1 += 1;
    }
    let pages = 20_000.0 / sessions.len() as f64;
    assert!((3.0..8.0).contains(&pages), "{pages} pages a session");
}

#[test]
fn options_out_of_bounds_are_refused_by_name() {
    let refused = |change: fn(&mut GeneratorOptions)| {
        let mut options = GeneratorOptions::default();
        change(&mut options);
        Generator::new(options, BASE).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        refused(|options| options.users = 0),
        InvalidOptions::NoUsers
    );
    assert_eq!(refused(|options| options.rate = 0), InvalidOptions::NoRate);
    assert_eq!(
        refused(|options| options.late = -0.1),
        InvalidOptions::Fraction("late")
    );
    assert_eq!(
        refused(|options| options.malformed = f64::NAN),
        InvalidOptions::Fraction("malformed")
    );
    assert_eq!(
        refused(|options| options.duplicates = 0.995),
        InvalidOptions::FractionSum
    );
}
