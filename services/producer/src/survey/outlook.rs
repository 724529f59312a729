//! What a pipeline will make of the events of a log, by the pipeline's own rules.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clickstream_pipeline::decode::Decoder;
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::SemanticSpec;
use clickstream_pipeline::watermark::EventClock;
use clickstream_pipeline::window::{Lateness, TumblingWindow};
use serde::Serialize;

use super::rough;
use crate::record::Record;

/// Verdicts that follow from the log alone. What is a duplicate, the tables decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// Events that the pipeline will reject, by the reason that dead letters have.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Events that are older than one before them.
    pub back_in_time: u64,
    /// How far the oldest of those is behind the newest event before it, in microseconds.
    pub furthest_back_micros: u64,
    /// Those of them that would be late on a topic of one partition. Several partitions tell the
    /// time each for itself, so that the number can differ there.
    pub late_in_one_partition: u64,
}

impl Outlook {
    /// Events of all reasons that will be rejected.
    #[must_use]
    pub fn all_rejected(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// `2 will be rejected (invalid_field 2); 12 go back in time, by up to 3 h, 4 of them too far to be
/// on time in one partition`
impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rejected.is_empty() {
            let reasons: Vec<String> = self
                .rejected
                .iter()
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            let all = self.all_rejected();
            write!(f, "{all} will be rejected ({}); ", reasons.join(", "))?;
        }
        let verb = match self.back_in_time {
            0 => return write!(f, "none goes back in time"),
            1 => "goes",
            _ => "go",
        };
        let furthest = rough(Duration::from_micros(self.furthest_back_micros));
        write!(
            f,
            "{} {verb} back in time, by up to {furthest}, ",
            self.back_in_time
        )?;
        match self.late_in_one_partition {
            0 => write!(f, "none too far to be on time in one partition"),
            late => write!(f, "{late} of them too far to be on time in one partition"),
        }
    }
}

/// Takes the events in the order of the log.
pub struct Observer {
    decoder: Decoder,
    /// When the first event is sent.
    begins: EventTime,
    windows: TumblingWindow,
    lateness: Lateness,
    clock: EventClock,
    newest: Option<EventTime>,
    seen: Outlook,
}

impl Observer {
    /// One that has seen nothing; the replay begins at `begins`.
    #[must_use]
    pub fn new(rules: &SemanticSpec, begins: EventTime) -> Self {
        Self {
            decoder: rules.decoder(),
            begins,
            windows: TumblingWindow::new(rules.window_micros),
            lateness: Lateness {
                delay_micros: rules.delay_micros,
                allowed_micros: rules.allowed_lateness_micros,
            },
            clock: EventClock::default(),
            newest: None,
            seen: Outlook::default(),
        }
    }

    /// The next event.
    pub fn observe(&mut self, record: &Record) {
        let due = i64::try_from(record.due.as_micros()).unwrap_or(i64::MAX);
        let received_at = EventTime::from_micros(self.begins.micros().saturating_add(due));
        let time = match self.decoder.decode(&record.payload, received_at) {
            Ok(event) => event.event_ts,
            Err(rejected) => {
                *self
                    .seen
                    .rejected
                    .entry(rejected.reason.as_str())
                    .or_default() += 1;
                return;
            }
        };
        // as the engine does it: judged by the clock as it was before the event
        let late = self
            .lateness
            .is_late(self.windows.containing(time), &self.clock);
        self.clock.observe(time);
        self.seen.late_in_one_partition += u64::from(late);
        let back = self.newest.map_or(0, |newest| {
            newest.micros().saturating_sub(time.micros()).max(0)
        });
        self.seen.back_in_time += u64::from(back > 0);
        self.seen.furthest_back_micros = self.seen.furthest_back_micros.max(back.unsigned_abs());
        self.newest = self.newest.max(Some(time));
    }

    /// What all of them come to.
    #[must_use]
    pub fn outlook(self) -> Outlook {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordKind;

    const MINUTE: i64 = 60_000_000;
    /// 2026-01-01T00:00:00Z
    const BEGIN: i64 = 1_767_225_600_000_000;

    fn event(url: &str, micros: i64, due: Duration) -> Record {
        let time = EventTime::from_micros(micros);
        Record {
            key: "u".to_owned(),
            payload: format!(
                r#"{{"event_id":"6f7c2a3e-8a55-4d42-9d92-0a3c8c8d1f52","user_id":"u","event_ts":"{time}","url":"{url}"}}"#
            )
            .into_bytes(),
            due,
            kind: RecordKind::Event,
        }
    }

    fn outlook(events: &[Record]) -> Outlook {
        let begins = EventTime::from_micros(BEGIN + 60 * MINUTE);
        let mut observer = Observer::new(&SemanticSpec::default(), begins);
        for event in events {
            observer.observe(event);
        }
        observer.outlook()
    }

    fn at(minutes: i64) -> Record {
        event("/a", BEGIN + minutes * MINUTE, Duration::ZERO)
    }

    #[test]
    fn what_the_decoder_refuses_is_told_by_reason() {
        let long = "x".repeat(9_000);
        let seen = outlook(&[
            at(0),
            event(&long, BEGIN, Duration::ZERO),
            event(&long, BEGIN, Duration::ZERO),
            event("/a", 0, Duration::ZERO),
        ]);
        assert_eq!(
            seen.to_string(),
            "3 will be rejected (invalid_field 2, timestamp_out_of_range 1); none goes back in time"
        );
    }

    #[test]
    fn a_time_ahead_counts_from_the_instant_at_which_the_event_is_sent() {
        let ahead = BEGIN + 120 * MINUTE;
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            outlook(&[event("/a", ahead, Duration::ZERO)]).rejected,
            BTreeMap::from([("timestamp_in_future", 1)])
        );
        assert_eq!(outlook(&[event("/a", ahead, hour)]).all_rejected(), 0);
    }

    #[test]
    fn events_are_late_as_the_engine_finds_them_and_not_before_there_is_a_clock() {
        // 15 events make no clock yet: the 16th may lie as far back as it likes
        let mut events: Vec<Record> = (0..15).map(|_| at(30)).collect();
        events.push(at(0));
        let seen = outlook(&events);
        assert_eq!((seen.back_in_time, seen.late_in_one_partition), (1, 0));
        // the clock stands at 30 min: windows are late that ended by 19:50
        events.extend([at(30), at(19), at(18), at(30)]);
        let seen = outlook(&events);
        assert_eq!((seen.back_in_time, seen.late_in_one_partition), (3, 1));
        assert_eq!(
            seen.to_string(),
            "3 go back in time, by up to 30 min, 1 of them too far to be on time in one partition"
        );
    }

    #[test]
    fn disorder_within_the_allowed_lateness_is_told_and_harmless() {
        let mut events: Vec<Record> = (0..20).map(|_| at(30)).collect();
        events.push(at(28));
        assert_eq!(
            outlook(&events).to_string(),
            "1 goes back in time, by up to 2 min, none too far to be on time in one partition"
        );
    }
}
