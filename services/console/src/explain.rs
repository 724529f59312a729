//! *Explain this minute*: which records a window's number is made of, and whether it can still
//! change.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::database::{Checkpoint, Rules, SampleRow, StoredRows, WindowFacts};
use crate::view::watermark;

/// Whether a window still takes events from a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Standing {
    /// The partition's watermark has passed the window's grace: an event that comes now is late.
    Closed,
    /// Events still count until event time has moved on by this much.
    Open {
        /// Milliseconds of event time.
        left: i64,
    },
    /// The partition has too few events for a clock, or the rules are not known.
    Unknown,
}

/// What is known about a window.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    start: i64,
    end: i64,
    hits: i64,
    visitors: i64,
    sessions: i64,
    urls: i64,
    is_final: bool,
    final_until: Option<i64>,
    delay: Option<i64>,
    lateness: Option<i64>,
    partitions: Vec<PartitionLine>,
    pages: Vec<(String, i64)>,
    rows: Option<i64>,
    rows_unavailable: Option<String>,
    /// Whether late rows are among the counted ones.
    merges: bool,
    sample: Vec<SampleLine>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionLine {
    topic: String,
    partition: i32,
    hits: i64,
    rows: Option<i64>,
    late: Option<i64>,
    first_offset: Option<i64>,
    last_offset: Option<i64>,
    /// Milliseconds since 1970.
    watermark: Option<i64>,
    idle: bool,
    standing: Standing,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SampleLine {
    topic: String,
    partition: i32,
    offset: i64,
    event_ts: i64,
    received_at: i64,
    url: String,
}

/// Judges a window by the clock of one partition: the rule of lateness, read as a question about
/// the next event.
pub fn standing(end: i64, checkpoint: &Checkpoint, rules: Option<Rules>) -> Standing {
    let (Some(watermark), Some(rules)) = (watermark(checkpoint, rules), rules) else {
        return Standing::Unknown;
    };
    let left = end * 1_000_000 + rules.lateness - watermark;
    if left > 0 {
        // rounded up: 0 would read as closed
        Standing::Open {
            left: (left + 999) / 1000,
        }
    } else {
        Standing::Closed
    }
}

/// Puts together what was read about the window that begins at `start`, in seconds since 1970.
pub fn explain(start: i64, facts: WindowFacts) -> Explanation {
    let end = start + facts.core.window;
    let parts: BTreeMap<_, _> = facts
        .parts
        .iter()
        .map(|(topic, partition, hits)| ((topic.as_str(), *partition), *hits))
        .collect();
    let (stored, rows_unavailable) = match facts.rows {
        Ok(rows) => (Some(rows), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let of = |topic: &str, partition: i32| -> Option<StoredRows> {
        let rows = stored.as_ref()?;
        rows.iter()
            .find(|rows| rows.topic == topic && rows.partition == partition)
            .cloned()
    };
    let partitions: Vec<PartitionLine> = facts
        .core
        .checkpoints
        .iter()
        .map(|checkpoint| {
            let place = (checkpoint.topic.as_str(), checkpoint.partition);
            let found = of(&checkpoint.topic, checkpoint.partition);
            let counted = |count: fn(&StoredRows) -> i64| {
                stored.is_some().then(|| found.as_ref().map_or(0, count))
            };
            PartitionLine {
                topic: checkpoint.topic.clone(),
                partition: checkpoint.partition,
                hits: parts.get(&place).copied().unwrap_or_default(),
                rows: counted(|rows| rows.rows),
                late: counted(|rows| rows.late),
                first_offset: found.as_ref().map(|rows| rows.first_offset),
                last_offset: found.as_ref().map(|rows| rows.last_offset),
                watermark: watermark(checkpoint, facts.rules).map(|micros| micros.div_euclid(1000)),
                idle: checkpoint.idle_since.is_some(),
                standing: standing(end, checkpoint, facts.rules),
            }
        })
        .collect();
    Explanation {
        start,
        end,
        hits: facts.parts.iter().map(|(_, _, hits)| hits).sum(),
        visitors: facts.visitors.0,
        sessions: facts.visitors.1,
        urls: facts.urls,
        is_final: facts.core.final_until.is_some_and(|until| end <= until),
        final_until: facts.core.final_until,
        delay: facts.rules.map(|rules| rules.delay / 1000),
        lateness: facts.rules.map(|rules| rules.lateness / 1000),
        merges: facts.rules.is_none_or(|rules| rules.merges),
        partitions,
        pages: facts
            .pages
            .into_iter()
            .map(|page| (page.url, page.hits))
            .collect(),
        rows: stored
            .as_ref()
            .map(|rows| rows.iter().map(|rows| rows.rows).sum()),
        rows_unavailable,
        sample: facts.sample.into_iter().map(SampleLine::from).collect(),
    }
}

impl From<SampleRow> for SampleLine {
    fn from(row: SampleRow) -> Self {
        Self {
            topic: row.topic,
            partition: row.partition,
            offset: row.offset,
            event_ts: row.event_ts,
            received_at: row.received_at,
            url: row.url,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;
    use crate::database::{Core, ReadError, Totals};

    const RULES: Option<Rules> = Some(Rules {
        delay: 10_000_000,
        lateness: 60_000_000,
        merges: true,
    });

    fn checkpoint(clock_seconds: Option<i64>) -> Checkpoint {
        Checkpoint {
            topic: "t".to_owned(),
            partition: 0,
            next_offset: 9,
            clock: clock_seconds.map(|seconds| seconds * 1_000_000),
            consumed: 9,
            idle_since: None,
            owner: "p".to_owned(),
            updated_at: 0,
        }
    }

    fn facts(rows: Result<Vec<StoredRows>, ReadError>) -> WindowFacts {
        WindowFacts {
            core: Core {
                pipeline: None,
                window: 60,
                totals: Totals::default(),
                checkpoints: vec![checkpoint(Some(200))],
                clock: Some(200),
                final_until: Some(120),
            },
            rules: RULES,
            parts: vec![("t".to_owned(), 0, 5)],
            visitors: (3, 2),
            pages: Vec::new(),
            urls: 4,
            rows,
            sample: Vec::new(),
        }
    }

    #[test]
    fn a_window_closes_when_the_watermark_reaches_the_end_of_its_grace() {
        // end 60, grace until 120, the watermark is the clock less ten
        let at = |clock| standing(60, &checkpoint(Some(clock)), RULES);
        assert_eq!(at(129), Standing::Open { left: 1000 });
        assert_eq!(at(130), Standing::Closed);
        assert_eq!(standing(60, &checkpoint(None), RULES), Standing::Unknown);
        assert_eq!(standing(60, &checkpoint(Some(1)), None), Standing::Unknown);
    }

    #[test]
    fn a_window_is_explained_by_its_partitions() {
        let rows = vec![StoredRows {
            topic: "t".to_owned(),
            partition: 0,
            first_offset: 3,
            last_offset: 8,
            rows: 5,
            late: 1,
        }];
        let found = serde_json::to_value(explain(60, facts(Ok(rows)))).unwrap();
        assert_eq!((&found["hits"], &found["rows"]), (&5.into(), &5.into()));
        assert_eq!(found["isFinal"], true);
        let line = &found["partitions"][0];
        assert_eq!(
            (&line["firstOffset"], &line["lastOffset"]),
            (&3.into(), &8.into())
        );
        assert_eq!(line["standing"]["is"], "closed");
        assert_eq!(line["late"], 1);
    }

    #[test]
    fn rows_that_could_not_be_counted_are_not_called_zero() {
        let found = serde_json::to_value(explain(60, facts(Err(ReadError::TooSlow)))).unwrap();
        assert!(found["rows"].is_null() && found["partitions"][0]["rows"].is_null());
        assert!(
            found["rowsUnavailable"]
                .as_str()
                .unwrap()
                .contains("longer")
        );
        assert_eq!(found["hits"], 5);
    }

    #[test]
    fn a_window_without_rows_has_zero_of_them() {
        let found = serde_json::to_value(explain(60, facts(Ok(Vec::new())))).unwrap();
        assert_eq!(
            (&found["rows"], &found["partitions"][0]["rows"]),
            (&0.into(), &0.into())
        );
    }
}
