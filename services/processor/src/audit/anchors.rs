//! Where an audit of a partition can start: the first anchor that the log still reaches. Anchors
//! are loaded by partition, and only from there on: there is one for every hour and claim.

use std::ops::Range;

use anyhow::Context;
use clickstream_pipeline::{
    checkpoint::Counters, event::EventTime, offset::NextOffset, spec::SemanticSpec,
};
use tokio_postgres::{Client, Row};

use super::{
    column::Instant,
    report::RulesReport,
    snapshot::{Progress, State, clock, counters},
};

const COLUMNS: &str = "next_offset, spec::text, clock_t, clock_times, consumed, accepted, duplicate, rejected, late, skipped, merged";

/// A state that was written down on the way: an audit starts from one and passes the others.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// Everything below was done.
    pub next: NextOffset,
    /// The rules from there on.
    pub spec: SemanticSpec,
    /// The state there.
    pub state: State,
}

/// Where an audit of a partition starts, and ends.
#[derive(Debug)]
pub struct Start {
    /// First offset that Kafka still has.
    pub log_start: i64,
    /// Offsets of the log that were not reached yet.
    pub unread: i64,
    /// The offsets to read.
    pub offsets: Range<i64>,
    /// The anchor to start from; `None`: none lies in the log any more.
    pub anchor: Option<Anchor>,
    /// Offsets that the log has, but that no anchor lies below. Everything was read after a claim,
    /// which wrote one.
    pub lost: Option<Range<i64>>,
}

impl Start {
    /// The first anchor that the log still reaches back to. An anchor right before a gap is as good
    /// as one behind it: there was nothing to read in between.
    ///
    /// # Errors
    /// What the server says, or an anchor that this version cannot read.
    pub async fn find(
        client: &Client,
        progress: &Progress,
        log: Range<i64>,
    ) -> anyhow::Result<Self> {
        let (next, log_start) = (progress.next.get(), log.start);
        let end = next.min(log.end);
        let behind = |offset| behind_gaps(&progress.gaps, offset);
        let before_gaps: Vec<i64> = progress
            .gaps
            .iter()
            .map(|gap| gap.start)
            .filter(|&start| start < log_start && behind(start) >= log_start)
            .collect();
        let (topic, partition) = (&progress.topic, progress.tp.partition);
        let row = client
            .query_opt(
                &format!(
                    "select {COLUMNS} from clickstream_anchors
                     where topic = $1 and partition = $2 and next_offset <= $3
                       and (next_offset >= $4 or next_offset = any($5)) order by next_offset limit 1"
                ),
                &[topic, &partition, &end, &log_start, &before_gaps],
            )
            .await?;
        let anchor = row.map(|row| anchor(progress, &row)).transpose()?;
        let from = anchor
            .as_ref()
            .map_or(end, |anchor| behind(anchor.next.get()).min(end));
        let lost = match &anchor {
            Some(anchor) if from > log_start && !anchor.state.is_beginning() => {
                let row = client
                    .query_one(
                        "select exists (select from clickstream_anchors where topic = $1 and partition = $2 and next_offset <= $3)",
                        &[topic, &partition, &log_start],
                    )
                    .await?;
                (!row.try_get::<_, bool>(0)?).then_some(log_start..from)
            }
            _ => None,
        };
        Ok(Self {
            log_start,
            unread: (log.end - next.max(log_start)).max(0),
            offsets: from..end,
            anchor,
            lost,
        })
    }

    /// Whether everything that the partition's tables hold comes from records that the log still
    /// has.
    pub fn is_whole(&self) -> bool {
        self.anchor
            .as_ref()
            .is_some_and(|anchor| anchor.state.is_beginning())
    }

    /// The anchor to start from and those that are passed, in the order of their positions.
    ///
    /// # Errors
    /// What the server says, or an anchor that this version cannot read.
    pub async fn anchors(
        &self,
        client: &Client,
        progress: &Progress,
    ) -> anyhow::Result<Vec<Anchor>> {
        let Some(first) = &self.anchor else {
            return Ok(Vec::new());
        };
        let rows = client
            .query(
                &format!(
                    "select {COLUMNS} from clickstream_anchors
                     where topic = $1 and partition = $2 and next_offset > $3 and next_offset <= $4 order by next_offset"
                ),
                &[
                    &progress.topic,
                    &progress.tp.partition,
                    &first.next.get(),
                    &progress.next.get(),
                ],
            )
            .await?;
        let mut anchors = vec![first.clone()];
        for row in rows {
            anchors.push(anchor(progress, &row)?);
        }
        Ok(anchors)
    }
}

/// The sets of rules that records at these offsets were judged by, each with the first of them.
pub fn rules_in_force(anchors: &[Anchor], offsets: &Range<i64>) -> Vec<RulesReport> {
    let mut found: Vec<(i64, &SemanticSpec)> = Vec::new();
    for anchor in anchors {
        let from = anchor.next.get().max(offsets.start);
        // an anchor at the end says how what comes next will be judged
        if from < offsets.end && found.last().is_none_or(|(_, rules)| **rules != anchor.spec) {
            found.push((from, &anchor.spec));
        }
    }
    let report = |(from_offset, rules): (i64, &SemanticSpec)| RulesReport {
        from_offset,
        name: rules.short_hash(),
    };
    found.into_iter().map(report).collect()
}

impl State {
    /// Whether nothing was counted before.
    pub fn is_beginning(&self) -> bool {
        self.counters == Counters::default()
    }
}

/// Totals that are known of an offset.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Known {
    /// The offset.
    pub offset: i64,
    /// Records below it that were rejected.
    pub rejected: i64,
    /// Records below it that were late, and those that were counted all the same.
    pub late: i64,
}

/// The oldest totals below `end` of which `kept` says that nothing since can have expired; it is
/// asked with the time at which they were written down.
///
/// # Errors
/// What the server says.
pub async fn oldest_known(
    client: &Client,
    progress: &Progress,
    end: i64,
    kept: impl Fn(EventTime) -> bool,
) -> anyhow::Result<Option<Known>> {
    let rows = client
        .query(
            "select next_offset, rejected, late + merged, created_at from clickstream_anchors
             where topic = $1 and partition = $2 and next_offset < $3 order by next_offset",
            &[&progress.topic, &progress.tp.partition, &end],
        )
        .await?;
    for row in rows {
        if kept(row.try_get::<_, Instant>(3)?.0) {
            return Ok(Some(Known {
                offset: row.try_get(0)?,
                rejected: row.try_get(1)?,
                late: row.try_get(2)?,
            }));
        }
    }
    Ok(None)
}

/// The policies for late events that were in force from the anchor at `from` on, up to `end`, by
/// their names.
///
/// # Errors
/// What the server says.
pub async fn policies(
    client: &Client,
    progress: &Progress,
    offsets: Range<i64>,
) -> anyhow::Result<Vec<Option<String>>> {
    let rows = client
        .query(
            "select distinct spec->>'late_policy' from clickstream_anchors
             where topic = $1 and partition = $2 and next_offset >= $3 and next_offset < $4",
            &[
                &progress.topic,
                &progress.tp.partition,
                &offsets.start,
                &offsets.end,
            ],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

fn behind_gaps(gaps: &[Range<i64>], mut offset: i64) -> i64 {
    for gap in gaps {
        if gap.start == offset {
            offset = gap.end;
        }
    }
    offset
}

fn anchor(progress: &Progress, row: &Row) -> anyhow::Result<Anchor> {
    let next: i64 = row.try_get(0)?;
    let spec = serde_json::from_str(row.try_get(1)?).with_context(|| {
        format!(
            "the anchor of {}[{}] at {next} holds rules that this version cannot read",
            progress.topic, progress.tp.partition
        )
    })?;
    Ok(Anchor {
        next: NextOffset::at(next),
        spec,
        state: State {
            counters: counters(row, 4)?,
            ..clock(row, 2)?
        },
    })
}
