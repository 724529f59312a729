//! From what was read to what the page gets: pure, one function a section.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use clickstream_pipeline::checkpoint::Counters;
use serde::Serialize;
use serde_json::{Value, json};

use crate::database::{Checkpoint, Core, DeadLetter, Page, Rules, Totals};
use crate::latency::{PERIOD, Percentiles};
use crate::processors::Answer;
use crate::traffic::Window;

/// Rates are of about this long.
const RATE_PERIOD: Duration = Duration::from_secs(10);

/// Where the records went, and how fast.
#[derive(Debug, Default)]
pub struct Flow {
    /// Totals with the milliseconds since 1970 at which they were read.
    readings: VecDeque<(i64, Totals)>,
}

impl Flow {
    /// Takes a reading. Totals that fall (another database, tables made anew) begin a new account.
    pub fn add(&mut self, now_millis: i64, totals: Totals) {
        let fell = self
            .readings
            .back()
            .is_some_and(|(_, last)| totals.counters.consumed < last.counters.consumed);
        if fell {
            self.readings.clear();
        }
        self.readings.push_back((now_millis, totals));
        let period = i64::try_from(RATE_PERIOD.as_millis()).unwrap_or(i64::MAX);
        while self.readings.len() > 2 && now_millis - self.readings[1].0 >= period {
            self.readings.pop_front();
        }
    }

    /// The newest account.
    pub fn section(&self) -> Value {
        let (Some((then, before)), Some((now, totals))) =
            (self.readings.front(), self.readings.back())
        else {
            return Value::Null;
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "differences of seconds, shown with three digits"
        )]
        let rate = |now_total: i64, then_total: i64| {
            (now > then).then(|| (now_total - then_total) as f64 * 1e3 / (now - then) as f64)
        };
        let (counters, before) = (&totals.counters, &before.counters);
        let part = |name, of: fn(&Counters) -> i64| json!({ "name": name, "total": of(counters), "rate": rate(of(counters), of(before)) });
        let parts = [
            part("accepted", |counters| counters.accepted),
            part("duplicate", |counters| counters.duplicate),
            part("rejected", |counters| counters.rejected),
            part("late", |counters| counters.late),
        ];
        let sum = counters.accepted + counters.duplicate + counters.rejected + counters.late;
        json!({
            "consumed": part("consumed", |counters| counters.consumed),
            "parts": parts,
            "difference": counters.consumed - sum,
            "skipped": counters.skipped,
            "expired": totals.expired,
            "revised": counters.revised,
        })
    }
}

/// The chart: windows in order, as arrays; see [`Window`].
pub fn traffic(core: &Core, windows: &[Window]) -> Value {
    json!({
        "window": core.window,
        "clock": core.clock,
        "finalUntil": core.final_until,
        "windows": windows,
    })
}

/// The top pages of a span, with the hits of all pages of it, and those of programs where they are
/// known.
pub fn pages(pages: &[Page], all_hits: i64, bots: Option<i64>, windows: i64, window: i64) -> Value {
    let rows: Vec<_> = pages
        .iter()
        .map(|page| json!([page.url, page.hits]))
        .collect();
    json!({ "hits": all_hits, "bots": bots, "seconds": windows * window, "rows": rows })
}

/// Optional fields that were not usable as they came, by field and reason, the most first. Each
/// processor counts from its own start.
pub fn cleaned(answers: &[Answer]) -> Value {
    let told = answers
        .iter()
        .filter_map(|answer| answer.said.as_ref().ok());
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (field, reasons) in told.flat_map(|told| &told.status.cleaned) {
        for (reason, count) in reasons {
            let sum = counts.entry((field, reason)).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|((field, reason), count)| json!([field, reason, count]))
        .collect();
    json!({ "rows": rows })
}

/// The newest dead letters: never their content.
pub fn dead_letters(letters: &[DeadLetter]) -> Value {
    let rows: Vec<_> = letters
        .iter()
        .map(|letter| {
            json!({
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "reason": letter.reason,
                "detail": letter.detail,
                "bytes": letter.bytes,
                "receivedAt": letter.received_at,
            })
        })
        .collect();
    json!({ "rows": rows })
}

/// What stands in a section's place when it could not be read.
pub fn unavailable(why: &impl ToString) -> Value {
    json!({ "unavailable": why.to_string() })
}

/// Latency of the last minute.
pub fn latency(found: Option<Percentiles>) -> Value {
    let millis = |seconds: f64| (seconds * 1e4).round() / 10.0;
    json!({
        "seconds": PERIOD.as_secs(),
        "records": found.map_or(0.0, |found| found.records),
        "p50": found.map(|found| millis(found.p50)),
        "p90": found.map(|found| millis(found.p90)),
        "p99": found.map(|found| millis(found.p99)),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionRow<'a> {
    topic: &'a str,
    partition: i32,
    owner: &'a str,
    next_offset: i64,
    consumed: i64,
    log_end: Option<i64>,
    lag: Option<i64>,
    /// Milliseconds since 1970.
    watermark: Option<i64>,
    /// Milliseconds since 1970.
    idle_since: Option<i64>,
    paused: bool,
    halted: Option<&'a str>,
}

/// Lag and watermark of every partition. The position is the database's, the end of the log the
/// processors': it is unknown while they are away.
pub fn partitions(core: &Core, rules: Option<Rules>, answers: &[Answer]) -> Value {
    let told = || {
        answers
            .iter()
            .filter_map(|answer| answer.said.as_ref().ok())
            .map(|told| &told.status)
    };
    // a partition on the move is told by two: the newer claim knows better
    let mut seen = BTreeMap::new();
    for partition in told().flat_map(|status| &status.partitions) {
        let newest = seen
            .entry((partition.topic.as_str(), partition.partition))
            .or_insert(partition);
        if partition.epoch > newest.epoch {
            *newest = partition;
        }
    }
    let halted: BTreeMap<_, _> = told()
        .flat_map(|status| &status.halted)
        .map(|halted| {
            (
                (halted.topic.as_str(), halted.partition),
                halted.reason.as_str(),
            )
        })
        .collect();
    let rows: Vec<_> = core
        .checkpoints
        .iter()
        .map(|checkpoint| {
            let place = (checkpoint.topic.as_str(), checkpoint.partition);
            // the database may know of records that the processor had not seen when it was asked
            let log_end = seen
                .get(&place)
                .and_then(|partition| partition.log_end)
                .map(|end| end.max(checkpoint.next_offset));
            PartitionRow {
                topic: &checkpoint.topic,
                partition: checkpoint.partition,
                owner: &checkpoint.owner,
                next_offset: checkpoint.next_offset,
                consumed: checkpoint.consumed,
                log_end,
                lag: log_end.map(|end| end - checkpoint.next_offset),
                watermark: watermark(checkpoint, rules).map(|micros| micros.div_euclid(1000)),
                idle_since: checkpoint.idle_since,
                paused: seen.get(&place).is_some_and(|partition| partition.paused),
                halted: halted.get(&place).copied(),
            }
        })
        .collect();
    let known: Option<i64> = rows.iter().map(|row| row.lag).sum();
    json!({ "total": core.totals.partitions, "lag": known, "rows": rows })
}

/// A partition's watermark, microseconds since 1970.
pub fn watermark(checkpoint: &Checkpoint, rules: Option<Rules>) -> Option<i64> {
    Some(checkpoint.clock? - rules?.delay)
}

/// Which of the sources answer, and since when not.
pub struct Sources<'a> {
    /// Milliseconds since 1970.
    pub now: i64,
    /// When PostgreSQL last answered, milliseconds since 1970.
    pub database_good: Option<i64>,
    /// What it said instead, if it does not answer.
    pub database_error: Option<String>,
    /// What the processors said.
    pub answers: &'a [Answer],
    /// Whether processors were named at all.
    pub processors_named: bool,
    /// `namespace/name`.
    pub pipeline: Option<&'a str>,
    /// Gaps in the log, and records lost in them.
    pub gaps: (i64, i64),
}

/// The state of the sources; it changes every second, so it is also the page's pulse.
pub fn sources(sources: &Sources<'_>) -> Value {
    let processors: Vec<_> = sources
        .answers
        .iter()
        .map(|answer| match &answer.said {
            Ok(told) => json!({
                "address": answer.address,
                "name": told.status.owner,
                "state": told.status.state,
            }),
            Err(error) => json!({ "address": answer.address, "error": error.to_string() }),
        })
        .collect();
    json!({
        "at": sources.now,
        "database": { "goodAt": sources.database_good, "error": sources.database_error },
        "processors": processors,
        "processorsNamed": sources.processors_named,
        "pipeline": sources.pipeline,
        "gaps": { "count": sources.gaps.0, "records": sources.gaps.1 },
        "version": env!("CARGO_PKG_VERSION"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;
    use clickstream_protocol::status::{Halted, PartitionReport, ProcessorStatus};

    use crate::processors::{AskError, Told};

    fn totals(consumed: i64) -> Totals {
        let counters = Counters {
            consumed,
            accepted: consumed - 6,
            duplicate: 3,
            rejected: 2,
            late: 1,
            ..Counters::default()
        };
        Totals {
            counters,
            ..Totals::default()
        }
    }

    fn checkpoint(partition: i32, next_offset: i64) -> Checkpoint {
        Checkpoint {
            topic: "t".to_owned(),
            partition,
            next_offset,
            clock: Some(20_000_000),
            consumed: next_offset,
            idle_since: None,
            owner: "p".to_owned(),
            updated_at: 0,
        }
    }

    fn core(checkpoints: Vec<Checkpoint>) -> Core {
        Core {
            pipeline: None,
            window: 60,
            totals: totals(10),
            checkpoints,
            clock: None,
            final_until: None,
        }
    }

    fn answer(epoch: i64, log_end: Option<i64>) -> Answer {
        let status = ProcessorStatus {
            partitions: vec![PartitionReport {
                topic: "t".to_owned(),
                partition: 0,
                epoch,
                log_end,
                ..PartitionReport::default()
            }],
            halted: vec![Halted {
                topic: "t".to_owned(),
                partition: 1,
                reason: "another cluster".to_owned(),
            }],
            ..ProcessorStatus::default()
        };
        Answer {
            address: "a".to_owned(),
            said: Ok(Told {
                status,
                latency: None,
            }),
        }
    }

    const RULES: Option<Rules> = Some(Rules {
        delay: 5_000_000,
        lateness: 0,
        merges: true,
    });

    #[test]
    fn the_flow_adds_up_and_says_when_it_does_not() {
        let mut flow = Flow::default();
        assert_eq!(flow.section(), Value::Null);
        flow.add(0, totals(10));
        assert_eq!(flow.section()["difference"], 0);
        assert_eq!(flow.section()["consumed"]["rate"], Value::Null);
        flow.add(
            1000,
            Totals {
                counters: Counters {
                    accepted: 9,
                    ..totals(20).counters
                },
                ..Totals::default()
            },
        );
        assert_eq!(flow.section()["difference"], 5);
    }

    #[test]
    fn rates_are_of_the_last_ten_seconds() {
        let mut flow = Flow::default();
        for second in 0..=60 {
            let consumed = if second < 40 {
                1000
            } else {
                1000 + (second - 39) * 50
            };
            flow.add(second * 1000, totals(consumed));
        }
        assert_eq!(flow.section()["consumed"]["rate"], 50.0);
        assert_eq!(flow.section()["parts"][1]["rate"], 0.0);
    }

    #[test]
    fn tables_that_were_made_anew_begin_a_new_account() {
        let mut flow = Flow::default();
        flow.add(0, totals(1000));
        flow.add(1000, totals(10));
        flow.add(2000, totals(30));
        assert_eq!(flow.section()["consumed"]["rate"], 20.0);
    }

    #[test]
    fn lag_is_the_logs_end_less_the_stored_position() {
        let found = partitions(&core(vec![checkpoint(0, 7)]), RULES, &[answer(1, Some(9))]);
        assert_eq!(found["rows"][0]["lag"], 2);
        assert_eq!(found["lag"], 2);
        assert_eq!(found["rows"][0]["watermark"], 15_000);
        // the database is ahead of what the processor had seen
        let found = partitions(&core(vec![checkpoint(0, 11)]), None, &[answer(1, Some(9))]);
        assert_eq!(found["rows"][0]["lag"], 0);
        assert_eq!(found["rows"][0]["watermark"], Value::Null);
    }

    #[test]
    fn lag_is_unknown_while_nobody_tells_the_logs_end() {
        let two = core(vec![checkpoint(0, 7), checkpoint(1, 7)]);
        let found = partitions(&two, RULES, &[answer(1, Some(9))]);
        assert_eq!(found["rows"][1]["lag"], Value::Null);
        assert_eq!(
            found["lag"],
            Value::Null,
            "a sum over a part would be a lie"
        );
        assert_eq!(found["rows"][1]["halted"], "another cluster");
    }

    #[test]
    fn the_newer_claim_tells_the_logs_end() {
        let one = core(vec![checkpoint(0, 7)]);
        for answers in [
            [answer(1, Some(8)), answer(2, Some(9))],
            [answer(2, Some(9)), answer(1, Some(8))],
        ] {
            assert_eq!(partitions(&one, RULES, &answers)["lag"], 2);
        }
    }

    #[test]
    fn what_processors_cleaned_is_summed_up_and_the_most_comes_first() {
        let cleans = |counts: &[(&str, &str, u64)]| {
            let mut answer = answer(1, None);
            let told = answer.said.as_mut().unwrap();
            for (field, reason, count) in counts {
                let field = told.status.cleaned.entry((*field).to_owned()).or_default();
                field.insert((*reason).to_owned(), *count);
            }
            answer
        };
        let away = Answer {
            address: "b".to_owned(),
            said: Err(AskError::Silent),
        };
        let found = cleaned(&[
            cleans(&[("ip", "empty", 2), ("site", "trimmed", 4)]),
            away,
            cleans(&[("ip", "empty", 3), ("ip", "list", u64::MAX)]),
        ]);
        let expected = json!([
            ["ip", "list", u64::MAX],
            ["ip", "empty", 5],
            ["site", "trimmed", 4]
        ]);
        assert_eq!(found["rows"], expected);
        assert_eq!(cleaned(&[])["rows"], json!([]));
    }

    #[test]
    fn hits_of_programs_are_told_where_they_are_known() {
        assert_eq!(pages(&[], 9, Some(4), 5, 60)["bots"], 4);
        assert_eq!(pages(&[], 9, None, 5, 60)["bots"], Value::Null);
    }

    #[test]
    fn a_processor_that_is_away_is_named_with_its_reason() {
        let away = Answer {
            address: "10.0.0.1:8080".to_owned(),
            said: Err(AskError::Silent),
        };
        let found = sources(&Sources {
            now: 5,
            database_good: Some(3),
            database_error: Some("cannot connect".to_owned()),
            answers: &[away],
            processors_named: true,
            pipeline: None,
            gaps: (0, 0),
        });
        assert_eq!(found["database"]["goodAt"], 3);
        assert_eq!(found["processors"][0]["address"], "10.0.0.1:8080");
        assert!(
            found["processors"][0]["error"]
                .as_str()
                .unwrap()
                .contains("no answer")
        );
    }

    #[test]
    fn latency_is_in_milliseconds_with_a_tenth() {
        let found = latency(Some(Percentiles {
            records: 10.0,
            p50: 0.004_16,
            p90: 0.01,
            p99: 1.0,
        }));
        assert_eq!(
            (&found["p50"], &found["p99"]),
            (&json!(4.2), &json!(1000.0))
        );
        assert_eq!(latency(None)["p50"], Value::Null);
    }
}
