//! What an audit found: the outcome, a bounded list of differences, and per partition.

mod shown;

use std::{collections::BTreeMap, fmt};

use clickstream_pipeline::offset::TopicPartition;
use serde::Serialize;

use super::coverage::Outcome;

/// Differences that are kept with their coordinates; the rest is counted.
const LISTED: usize = 100;
/// So many of each kind are kept whatever came before them.
const OF_EACH_KIND: u64 = 3;

/// The ways in which the tables can contradict the log, the rules or each other.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A record that was to be accepted has no row.
    MissingRow,
    /// A row does not hold what its record holds.
    RowDiffers,
    /// A row that no record explains.
    StrayRow,
    /// A row at or above its partition's checkpoint.
    RowAheadOfCheckpoint,
    /// A record was passed over for a twin that comes later.
    DuplicateOfLater,
    /// A late event stands among the events on time, or the other way round.
    LatenessDiffers,
    /// A rejected record has no dead letter.
    MissingDeadLetter,
    /// A dead letter does not hold what the decoder says.
    DeadLetterDiffers,
    /// A dead letter that no record explains.
    StrayDeadLetter,
    /// A late event is not in the late ledger.
    MissingLateEvent,
    /// A row of the late ledger does not hold what its record holds.
    LateEventDiffers,
    /// A row of the late ledger that no record explains.
    StrayLateEvent,
    /// A counter of a checkpoint or an anchor.
    CounterDiffers,
    /// T or the last 31 event times of a checkpoint or an anchor.
    ClockDiffers,
    /// Hits of a page in a window.
    HitsDiffer,
    /// Hits of a partition in a window.
    TrafficHitsDiffer,
    /// Hits that are said to have come after their window was reported final.
    RevisedDiffers,
    /// Distinct users or visits of a window over all partitions, as the view shows them.
    EstimateDiffers,
    /// Stored users or visits of a partition in a window.
    SketchDiffers,
    /// An aggregate row whose own columns contradict each other.
    AggregateMalformed,
    /// The pages that have rows of their own are not those of the log.
    AdmittedPagesDiffer,
    /// A gap is recorded where the log still has records.
    GapContradicted,
    /// The log ends before what was read from it.
    LogEndsEarly,
    /// More was reported final than can be.
    FinalTooFar,
    /// Rows of a partition that has no checkpoint.
    UnknownPartition,
}

/// One contradiction, with the place where it can be looked at. Field contents of events are never
/// part of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Which way.
    pub kind: Kind,
    /// Kafka topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Kafka partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Kafka offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Start of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// What is wrong, in a sentence.
    pub detail: String,
}

/// The differences of a run: the first hundred and some of each kind, and how many there are.
#[derive(Default, Debug)]
pub struct Differences {
    listed: Vec<Difference>,
    total: u64,
    by_kind: BTreeMap<Kind, u64>,
    by_partition: BTreeMap<TopicPartition, u64>,
}

/// A set of rules that was in force, as the anchors say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RulesReport {
    /// The first offset that was judged by them.
    pub from_offset: i64,
    /// Their short name, the same as in the status of a processor that follows them.
    pub name: String,
}

/// One partition as it was recomputed from the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartitionReport {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// Whether the target has a checkpoint of it; otherwise it was never read.
    pub checkpoint: bool,
    /// First offset that was read again.
    pub from_offset: i64,
    /// The checkpoint's next offset: everything below was read again.
    pub to_offset: i64,
    /// The rules that it was judged by, in the order of the log: each set from its offset on.
    pub rules: Vec<RulesReport>,
    /// Records that lie behind it in the log, counted by offsets; `None` where no broker told.
    pub unread: Option<i64>,
    /// Records with a value.
    pub consumed: i64,
    /// Events stored and counted.
    pub accepted: i64,
    /// Events whose id the same UTC day already held.
    pub duplicate: i64,
    /// Records that are no events.
    pub rejected: i64,
    /// Events behind the end of grace.
    pub late: i64,
    /// Records without a value.
    pub skipped: i64,
    /// Records whose verdict retention has made undecidable.
    pub undecided: i64,
    /// Differences with this partition's coordinates.
    pub differences: u64,
    /// Records whose verdict was recomputed and compared.
    pub records_compared: i64,
    /// Records that the checkpoint counts.
    pub records_counted: i64,
    /// Windows whose traffic was recomputed and compared.
    pub windows_compared: u64,
    /// Windows that have traffic.
    pub windows_stored: u64,
}

/// Everything an audit has to say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AuditReport {
    /// What it comes to.
    pub outcome: Outcome,
    /// Whether the outcome is clean.
    pub clean: bool,
    /// When the snapshot of the target was taken, by its server's clock.
    pub snapshot_at: String,
    /// Everything before it was reported final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_until: Option<String>,
    /// Records that were read again.
    pub records: i64,
    /// Of them, those whose verdict was recomputed and compared.
    pub records_compared: i64,
    /// Records that the checkpoints count.
    pub records_counted: i64,
    /// Rows of `clickstream_events` that belong to them.
    pub rows: i64,
    /// Windows whose aggregates were compared.
    pub windows: usize,
    /// Windows that are stored.
    pub windows_stored: usize,
    /// Of them, those that a processor of an earlier version wrote (also): their distinct counts
    /// were not compared.
    pub windows_of_older_form: usize,
    /// In the order of topic and partition.
    pub partitions: Vec<PartitionReport>,
    /// The first hundred, and the first three of each kind.
    pub differences: Vec<Difference>,
    /// All of them.
    pub differences_total: u64,
    /// All of them, by kind.
    pub differences_by_kind: BTreeMap<Kind, u64>,
    /// What was not compared at all although it is there, and why.
    pub not_proven: Vec<String>,
    /// What was left out, and other things worth knowing.
    pub notes: Vec<String>,
}

impl Difference {
    /// A difference without coordinates.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            topic: None,
            partition: None,
            offset: None,
            window: None,
            detail: detail.into(),
        }
    }

    /// Adds the partition.
    #[must_use]
    pub fn of(mut self, topic: &str, partition: i32) -> Self {
        self.topic = Some(topic.to_owned());
        self.partition = Some(partition);
        self
    }

    /// Adds the offset.
    #[must_use]
    pub fn at(mut self, offset: i64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Adds the window.
    #[must_use]
    pub fn in_window(mut self, start: impl fmt::Display) -> Self {
        self.window = Some(start.to_string());
        self
    }
}

impl Differences {
    /// Notes a difference; `tp` is the partition that it is counted for.
    pub fn add(&mut self, tp: Option<TopicPartition>, difference: Difference) {
        self.total += 1;
        if let Some(tp) = tp {
            *self.by_partition.entry(tp).or_default() += 1;
        }
        let of_kind = self.by_kind.entry(difference.kind).or_default();
        *of_kind += 1;
        if self.listed.len() < LISTED || *of_kind <= OF_EACH_KIND {
            self.listed.push(difference);
        }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many a partition has.
    pub fn of(&self, tp: TopicPartition) -> u64 {
        self.by_partition.get(&tp).copied().unwrap_or(0)
    }

    /// How many there are of each kind.
    pub fn by_kind(&self) -> &BTreeMap<Kind, u64> {
        &self.by_kind
    }

    /// The first hundred, and the first three of each kind.
    pub fn into_listed(self) -> Vec<Difference> {
        self.listed
    }
}

impl Kind {
    /// The kind as the JSON report writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingRow => "missing_row",
            Self::RowDiffers => "row_differs",
            Self::StrayRow => "stray_row",
            Self::RowAheadOfCheckpoint => "row_ahead_of_checkpoint",
            Self::DuplicateOfLater => "duplicate_of_later",
            Self::LatenessDiffers => "lateness_differs",
            Self::MissingDeadLetter => "missing_dead_letter",
            Self::DeadLetterDiffers => "dead_letter_differs",
            Self::StrayDeadLetter => "stray_dead_letter",
            Self::MissingLateEvent => "missing_late_event",
            Self::LateEventDiffers => "late_event_differs",
            Self::StrayLateEvent => "stray_late_event",
            Self::CounterDiffers => "counter_differs",
            Self::ClockDiffers => "clock_differs",
            Self::HitsDiffer => "hits_differ",
            Self::TrafficHitsDiffer => "traffic_hits_differ",
            Self::RevisedDiffers => "revised_differs",
            Self::EstimateDiffers => "estimate_differs",
            Self::SketchDiffers => "sketch_differs",
            Self::AggregateMalformed => "aggregate_malformed",
            Self::AdmittedPagesDiffer => "admitted_pages_differ",
            Self::GapContradicted => "gap_contradicted",
            Self::LogEndsEarly => "log_ends_early",
            Self::FinalTooFar => "final_too_far",
            Self::UnknownPartition => "unknown_partition",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let (Some(topic), Some(partition)) = (&self.topic, self.partition) {
            write!(f, " {topic}[{partition}]")?;
        }
        if let Some(offset) = self.offset {
            write!(f, "@{offset}")?;
        }
        if let Some(window) = &self.window {
            write!(f, " window {window}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::offset::TopicId;

    use super::*;

    #[test]
    fn the_first_hundred_differences_are_listed_and_the_rest_is_counted() {
        let tp = TopicPartition {
            topic: TopicId(1),
            partition: 2,
        };
        let mut differences = Differences::default();
        for offset in 0..250 {
            let found = Difference::new(Kind::MissingRow, "accepted, but not stored");
            differences.add(Some(tp), found.of("clicks", 2).at(offset));
        }
        assert_eq!(differences.total(), 250);
        assert_eq!(differences.of(tp), 250);
        // what comes behind a hundred of another kind is seen all the same
        for window in 0..5 {
            let found = Difference::new(Kind::HitsDiffer, "page /a: stored 1, rows 2");
            differences.add(None, found.in_window(window));
        }
        assert_eq!(
            differences.by_kind(),
            &BTreeMap::from([(Kind::MissingRow, 250), (Kind::HitsDiffer, 5)])
        );
        let listed = differences.into_listed();
        assert_eq!(listed.len(), 103);
        assert_eq!(
            listed[99].to_string(),
            "missing_row clicks[2]@99: accepted, but not stored"
        );
    }
}
