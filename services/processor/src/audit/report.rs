//! What an audit found: per partition, as a list of differences, and as one closing line.

use std::{collections::BTreeMap, fmt};

use clickstream_pipeline::offset::TopicPartition;
use serde::Serialize;

use super::coverage::{Outcome, share};

/// Differences that are kept with their coordinates; the rest is counted.
const LISTED: usize = 100;

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
    /// Distinct users or visits of a window over all partitions, as the view shows them.
    EstimateDiffers,
    /// Stored users or visits of a partition in a window.
    SketchDiffers,
    /// An aggregate row whose own columns contradict each other.
    AggregateMalformed,
    /// A gap is recorded where the log still has records.
    GapContradicted,
    /// The log ends before what was read from it.
    LogEndsEarly,
    /// More was reported final than can be.
    FinalTooFar,
    /// Rows of a partition that has no checkpoint.
    UnknownPartition,
}

/// One contradiction, with the place where it can be looked at. Field contents of events are never part of it.
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

/// The differences of a run: the first hundred, and how many there are.
#[derive(Default, Debug)]
pub struct Differences {
    listed: Vec<Difference>,
    total: u64,
    by_partition: BTreeMap<TopicPartition, u64>,
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
    /// Of them, those that a processor of an earlier version wrote (also): their distinct counts were not compared.
    pub windows_of_older_form: usize,
    /// In the order of topic and partition.
    pub partitions: Vec<PartitionReport>,
    /// The first hundred.
    pub differences: Vec<Difference>,
    /// All of them.
    pub differences_total: u64,
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
        if self.listed.len() < LISTED {
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

    /// The first hundred.
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
            Self::EstimateDiffers => "estimate_differs",
            Self::SketchDiffers => "sketch_differs",
            Self::AggregateMalformed => "aggregate_malformed",
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

const COLUMNS: [&str; 13] = [
    "partition",
    "from",
    "to",
    "consumed",
    "accepted",
    "duplicate",
    "rejected",
    "late",
    "skipped",
    "undecided",
    "differences",
    "of records",
    "of windows",
];

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![COLUMNS.map(str::to_owned)];
        lines.extend(self.partitions.iter().map(PartitionReport::cells));
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        for line in &lines {
            write!(f, "{:<1$}", line[0], widths[0])?;
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        let listed = self.differences.len() as u64;
        if self.differences_total > listed {
            writeln!(f, "… and {} more", self.differences_total - listed)?;
        }
        for doubt in &self.not_proven {
            writeln!(f, "not proven: {doubt}")?;
        }
        write!(f, "{}", self.sum())
    }
}

impl AuditReport {
    /// The last line.
    fn sum(&self) -> String {
        let (records, partitions) = (self.compared_records(), self.partitions.len());
        let [reached, behind, unread] = match self.unread() {
            0 => [const { String::new() }; 3],
            count => [
                " up to the offsets that were reached".to_owned(),
                format!("; {count} records behind them are not read yet"),
                format!("; {count} records are not read yet"),
            ],
        };
        match self.outcome {
            Outcome::Clean if self.records_compared >= self.records_counted => format!(
                "audit clean: {records} of {partitions} partitions, {} rows, {}: everything{}{reached} follows from the log{behind}",
                self.rows,
                self.compared_windows(),
                if self.windows_of_older_form == 0 {
                    ""
                } else {
                    " else"
                }
            ),
            Outcome::Clean => format!(
                "audit clean: {records} of {partitions} partitions, {} rows, {}: all that the log still has{reached} follows from it, and the rest adds up{behind}",
                self.rows,
                self.compared_windows()
            ),
            Outcome::NotProven => format!(
                "audit not proven: nothing differs, but only {records} of {partitions} partitions and {} could be compared{unread}",
                self.compared_windows()
            ),
            Outcome::Differs => format!(
                "audit found {} differences in {records} of {partitions} partitions{unread}",
                self.differences_total
            ),
        }
    }

    fn unread(&self) -> i64 {
        self.partitions.iter().filter_map(|one| one.unread).sum()
    }

    fn compared_records(&self) -> String {
        let (part, whole) = (self.records_compared, self.records_counted);
        if part >= whole {
            format!("{part} records")
        } else {
            let share = share(part.into(), whole.into());
            format!("{part} of {whole} records ({share})")
        }
    }

    fn compared_windows(&self) -> String {
        let (part, whole) = (self.windows, self.windows_stored);
        let compared = if part >= whole {
            format!("{part} windows")
        } else {
            let share = share(part as i128, whole as i128);
            format!("{part} of {whole} windows ({share})")
        };
        match self.windows_of_older_form {
            0 => compared,
            older => format!("{compared}, visitors and sessions of {older} of them left out"),
        }
    }
}

impl PartitionReport {
    fn cells(&self) -> [String; 13] {
        let [of_records, of_windows] = if self.checkpoint {
            [
                share(self.records_compared.into(), self.records_counted.into()),
                share(self.windows_compared.into(), self.windows_stored.into()),
            ]
        } else {
            ["-", "-"].map(str::to_owned)
        };
        [
            format!("{}[{}]", self.topic, self.partition),
            self.from_offset.to_string(),
            self.to_offset.to_string(),
            self.consumed.to_string(),
            self.accepted.to_string(),
            self.duplicate.to_string(),
            self.rejected.to_string(),
            self.late.to_string(),
            self.skipped.to_string(),
            self.undecided.to_string(),
            self.differences.to_string(),
            of_records,
            of_windows,
        ]
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
        let listed = differences.into_listed();
        assert_eq!(listed.len(), 100);
        assert_eq!(
            listed[99].to_string(),
            "missing_row clicks[2]@99: accepted, but not stored"
        );
    }
}
