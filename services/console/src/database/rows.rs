//! What is read.

use clickstream_pipeline::checkpoint::Counters;

use super::ReadError;

/// The totals over all partitions; their sum holds at every instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What became of the records.
    pub counters: Counters,
    /// Accepted, and dropped by retention since.
    pub expired: i64,
    /// Partitions with a checkpoint.
    pub partitions: i64,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Everything below is done.
    pub next_offset: i64,
    /// The event clock, microseconds since 1970.
    pub clock: Option<i64>,
    /// Records with a value.
    pub consumed: i64,
    /// Since when nothing has come, milliseconds since 1970.
    pub idle_since: Option<i64>,
    /// The processor that claimed it.
    pub owner: String,
    /// When the checkpoint last moved, milliseconds since 1970.
    pub updated_at: i64,
}

/// The rules that lateness follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Watermark behind the event clock, microseconds.
    pub delay: i64,
    /// Grace after a window's end, microseconds.
    pub lateness: i64,
    /// Whether late events count in their window.
    pub merges: bool,
}

/// What is read every second, of one instant.
#[derive(Debug)]
pub struct Core {
    /// `namespace/name` of the pipeline.
    pub pipeline: Option<String>,
    /// Size of the windows, seconds.
    pub window: i64,
    /// Totals.
    pub totals: Totals,
    /// Partitions.
    pub checkpoints: Vec<Checkpoint>,
    /// The newest event clock, seconds since 1970.
    pub clock: Option<i64>,
    /// Windows that end by then are final, seconds since 1970.
    pub final_until: Option<i64>,
}

/// A page and its hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The address, cut.
    pub url: String,
    /// Accepted clicks.
    pub hits: i64,
}

/// A refused record; its content stays in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Out of a closed list.
    pub reason: String,
    /// What exactly, naming the field.
    pub detail: String,
    /// Size of the record, bytes.
    pub bytes: i64,
    /// Kafka's time stamp, milliseconds since 1970.
    pub received_at: i64,
}

/// Everything about a window that is stored.
#[derive(Debug)]
pub struct WindowFacts {
    /// Checkpoints of the same instant.
    pub core: Core,
    /// The rules in force; None before the first claim.
    pub rules: Option<Rules>,
    /// Traffic by partition: topic, partition, hits.
    pub parts: Vec<(String, i32, i64)>,
    /// Distinct users and visits over all partitions.
    pub visitors: (i64, i64),
    /// Pages with the most hits.
    pub pages: Vec<Page>,
    /// Distinct pages.
    pub urls: i64,
    /// Stored rows by partition, or why they could not be counted.
    pub rows: Result<Vec<StoredRows>, ReadError>,
    /// A few of the rows.
    pub sample: Vec<SampleRow>,
}

/// Rows of a window that came from one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRows {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// The lowest offset among them.
    pub first_offset: i64,
    /// The highest.
    pub last_offset: i64,
    /// Rows that count in the aggregates.
    pub rows: i64,
    /// Rows marked late; whether they count is a rule, see [`Rules`].
    pub late: i64,
}

/// A stored event without what tells who it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRow {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When it happened, milliseconds since 1970.
    pub event_ts: i64,
    /// When the broker took it, milliseconds since 1970.
    pub received_at: i64,
    /// The page, cut.
    pub url: String,
}
