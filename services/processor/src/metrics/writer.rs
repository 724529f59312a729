//! What the writing task counts.

use clickstream_pipeline::{
    checkpoint::Counters,
    decode::{CleanReason, CleanedCounts, Field, RejectReason},
    offset::TopicPartition,
};
use clickstream_telemetry::metrics::register;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry,
};

use super::{COMMIT_SECONDS, Collectors, LATENCY_SECONDS, boxed, counter, gauge, histogram};
use crate::retry::ErrorClass;

/// One row at low rates, 60,000 while catching up.
const FLUSH_ROWS: &[f64] = &[
    1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 60_000.0,
];
/// From one event of half a KiB to the default bound of 16 MiB, in steps of four.
const FLUSH_BYTES: &[f64] = &[
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// What became of a flush.
#[derive(Clone, Copy, Debug)]
pub enum FlushOutcome {
    /// It is in the tables.
    Committed,
    /// Nothing was written, and it is tried again.
    Repeated,
    /// The session was lost on the way; the database is asked what it holds.
    Unknown,
    /// Nothing that trying again would mend.
    Failed,
    /// Every partition in it was another owner's.
    Fenced,
}

/// How an event that is dated ahead of its record fared.
#[derive(Clone, Copy, Debug)]
pub enum Skew {
    /// Within `maxFutureSkew`.
    Tolerated,
    /// Beyond it.
    Rejected,
}

/// What was done to the partition of a day.
#[derive(Clone, Copy, Debug)]
pub enum DayChange {
    /// It was made.
    Created,
    /// It was past its retention.
    Dropped,
    /// Somebody's lock stood in the way.
    LockMissed,
}

/// Counted by the writing task.
#[derive(Clone)]
pub struct WriterMetrics {
    /// Whether anybody can read them: without an admin server, what costs something for each row is
    /// left out.
    read: bool,
    records: IntCounterVec,
    rejected: IntCounterVec,
    revised: IntCounterVec,
    merged: IntCounterVec,
    cleaned: IntCounterVec,
    folded: IntCounterVec,
    /// Properties that were left out or changed.
    pub trimmed: IntCounter,
    /// Keys of properties that the list leaves out.
    pub keys_left_out: IntCounter,
    future: IntCounterVec,
    flushes: IntCounterVec,
    /// Partitions that turned out to be another owner's.
    pub fenced: IntCounter,
    /// Claims by result.
    pub claims: IntCounterVec,
    /// Rows by writer.
    pub rows: IntCounterVec,
    /// Duration of committed flushes.
    pub commit_seconds: Histogram,
    /// Rows of committed flushes.
    pub flush_rows: Histogram,
    /// Bytes of committed flushes.
    pub flush_bytes: Histogram,
    /// Kafka's time stamp → committed; event time → committed.
    pub latency: HistogramVec,
    postgres_errors: IntCounterVec,
    /// Records lost to retention.
    pub gap_records: IntCounter,
    /// Whether PostgreSQL answers.
    pub sink_up: IntGauge,
    /// Flushes in which a row was called new that was not.
    pub misjudged: IntCounter,
    /// Windows with rows that are not final yet.
    pub open_windows: IntGauge,
    /// Windows with rows that became final.
    pub final_windows: IntCounter,
    /// Windows that end by then are final.
    pub final_until: Gauge,
    /// Partitions of days.
    pub days: IntGauge,
    /// Days that wait for one.
    pub days_due: IntGauge,
    /// Days past their retention that wait for the log of a partition.
    pub days_held: IntGauge,
    days_changed: IntCounterVec,
}

impl FlushOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Committed,
        Self::Repeated,
        Self::Unknown,
        Self::Failed,
        Self::Fenced,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Repeated => "repeated",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
            Self::Fenced => "fenced",
        }
    }
}

impl Skew {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tolerated => "tolerated",
            Self::Rejected => "rejected",
        }
    }
}

impl DayChange {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Dropped => "dropped",
            Self::LockMissed => "lock_missed",
        }
    }
}

impl WriterMetrics {
    /// The metrics, not registered yet. `read`: whether anybody can read them.
    ///
    /// # Errors
    /// A name or help text that Prometheus does not take.
    pub fn new(read: bool) -> prometheus::Result<Self> {
        let place = ["topic", "partition"];
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let metrics = Self {
            read,
            records: counters("clickstream_records_total", "Records committed by this process, by outcome: accepted, duplicate, rejected, late, skipped (tombstones, heartbeats, empty batches).", &["topic", "partition", "outcome"])?,
            rejected: counters("clickstream_records_rejected_total", "Records in the dead letters, by reason. Alert when they are more than 1 % of the records for ten minutes.", &["reason"])?,
            merged: counters("clickstream_merged_events_total", "Accepted events that came after their window's grace and were counted in it all the same (lateEvents.policy Merge).", &place)?,
            revised: counters("clickstream_revised_hits_total", "Hits that came to a window after it had been reported final; the window counts them all the same.", &place)?,
            cleaned: counters("clickstream_cleaned_fields_total", "Optional fields and promoted columns (spec.events.columns) of committed events (resends too) that could not be used as they came, by name and by what was the matter: empty, repeated_key, wrong_type, bad_characters, not_an_address and out_of_range are left out; list, trimmed, number and too_long are repaired. The events themselves are kept. Alert when a field is cleaned in more than 1 % of the records and was not before: a client has changed.", &["field", "reason"])?,
            folded: counters("clickstream_folded_hits_total", "Hits that were counted as the page (other), since spec.events.page.maxPerWindow other pages of their window and partition had come before theirs. Alert when they are more than 5 % of the records for an hour: some client sends distinct URLs without end, or the bound is too small.", &place)?,
            trimmed: counter("clickstream_trimmed_properties_total", "Entries of the properties of committed events (resends too) that spec.events.propertyLimits left out, or that had to be changed to be stored. The events themselves are kept. When it rises, look at what the events say and raise the limits.")?,
            keys_left_out: counter("clickstream_property_keys_left_out_total", "How often a property of a stored event had a key that clickstream_property_keys does not list: 1,000 are listed already, or the pointer to it is longer than 256 characters. The property itself is stored. A client that puts ids or texts where keys belong makes it rise.")?,
            future: counters("clickstream_future_events_total", "Events dated more than a second after Kafka's time stamp, by what became of them: tolerated (within maxFutureSkew) or rejected (beyond it, in the dead letters). Alert when they are more than 1 % of the records: some client's clock is wrong.", &["skew"])?,
            flushes: counters("clickstream_flushes_total", "Flushes by outcome: committed, repeated (nothing was written, tried again), unknown (the session was lost on the way; the database is asked what it holds), fenced (all of it was another owner's), failed (the process ends). Alert on failed.", &["outcome"])?,
            fenced: counter("clickstream_fenced_commits_total", "Partitions that another owner had claimed when a flush wanted to write them. A few with a rebalance are in order.")?,
            claims: counters("clickstream_claims_total", "Claims of partitions by outcome: claimed, halted, failed. Alert on halted.", &["outcome"])?,
            rows: counters("clickstream_db_rows_written_total", "Rows handed to PostgreSQL, by writer: copy (proven new) or insert (suspects).", &["writer"])?,
            commit_seconds: histogram("clickstream_commit_duration_seconds", "Duration of committed flushes, begin to commit.", COMMIT_SECONDS)?,
            flush_rows: histogram("clickstream_flush_rows", "Rows of committed flushes.", FLUSH_ROWS)?,
            flush_bytes: histogram("clickstream_flush_bytes", "Bytes that committed flushes held in memory.", FLUSH_BYTES)?,
            latency: HistogramVec::new(HistogramOpts::new("clickstream_end_to_end_latency_seconds", "From the Kafka record's time stamp (since=received) or the event's own (since=event) to the commit that makes the row visible. Kafka's time stamps have a resolution of 1 ms. Alert when the 99th percentile of received is over a second for ten minutes.").buckets(LATENCY_SECONDS.to_vec()), &["since"])?,
            postgres_errors: counters("clickstream_postgres_errors_total", "Failed steps by class of the error and by remedy: repeat, distrust, dead_letter, reclaim (the session is given up), stop (the process ends). Alert on stop, and on resources (disk, memory, connections).", &["class", "remedy"])?,
            gap_records: counter("clickstream_gap_records_total", "Records that Kafka dropped before they were read: lost data. Alert on any increase.")?,
            sink_up: gauge("clickstream_sink_up", "1 while PostgreSQL answers and takes what is written. Alert when it is 0 for a minute.")?,
            misjudged: counter("clickstream_filter_misjudged_total", "Flushes in which a row that the filter called new was stored already; they are written again the slow way. When it goes on rising, raise spec.processor.filterMemory.")?,
            open_windows: gauge("clickstream_open_windows", "Windows of the target that hold rows and are not final yet, looked at every 10 s; 10,000 stands for that many or more. The same in all processors of a target.")?,
            final_windows: counter("clickstream_final_windows_total", "Windows of the target with rows that became final while this process was there. The same in all processors of a target.")?,
            final_until: Gauge::new("clickstream_final_until_timestamp_seconds", "Windows that end by then are reported final, in seconds since 1970. The same in all processors of a target.")?,
            days: gauge("clickstream_days", "Days that have a partition of their own in clickstream_events. The same in all processors of a target.")?,
            days_due: gauge("clickstream_days_due", "Days whose partition could not be made yet; their rows are in the default partition. Alert when it is over 0 for an hour.")?,
            days_held: gauge("clickstream_days_held", "Days past their retention that are kept, since the log of some partition has not come so far; the log of the processor that looks after retention names it. Alert when it is over 0 for a day.")?,
            days_changed: counters("clickstream_days_changed_total", "Partitions of days, by change: created, dropped (past retention), lock_missed (somebody's lock stood in the way; tried again).", &["change"])?,
        };
        // what is known beforehand begins at 0, so that the first one is an increase
        for outcome in FlushOutcome::ALL {
            metrics.flushes.with_label_values(&[outcome.as_str()]);
        }
        for outcome in ["claimed", "halted", "failed"] {
            metrics.claims.with_label_values(&[outcome]);
        }
        for writer in ["copy", "insert"] {
            metrics.rows.with_label_values(&[writer]);
        }
        for since in ["received", "event"] {
            metrics.latency.with_label_values(&[since]);
        }
        for skew in [Skew::Tolerated, Skew::Rejected] {
            metrics.future.with_label_values(&[skew.as_str()]);
        }
        for change in [
            DayChange::Created,
            DayChange::Dropped,
            DayChange::LockMissed,
        ] {
            metrics.days_changed.with_label_values(&[change.as_str()]);
        }
        for reason in RejectReason::ALL {
            metrics.rejected.with_label_values(&[reason.as_str()]);
        }
        for field in Field::ALL.iter().filter(|field| !field.is_required()) {
            for reason in CleanReason::ALL {
                metrics
                    .cleaned
                    .with_label_values(&[field.as_str(), reason.as_str()]);
            }
        }
        Ok(metrics)
    }

    /// What is registered.
    pub fn collectors(&self) -> Collectors {
        boxed![
            self.records,
            self.rejected,
            self.revised,
            self.merged,
            self.cleaned,
            self.folded,
            self.trimmed,
            self.keys_left_out,
            self.future,
            self.flushes,
            self.fenced,
            self.claims,
            self.rows,
            self.commit_seconds,
            self.flush_rows,
            self.flush_bytes,
            self.latency,
            self.postgres_errors,
            self.gap_records,
            self.sink_up,
            self.misjudged,
            self.open_windows,
            self.final_windows,
            self.final_until,
            self.days,
            self.days_due,
            self.days_held,
            self.days_changed,
        ]
    }

    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry, read: bool) -> prometheus::Result<Self> {
        let metrics = Self::new(read)?;
        register(registry, metrics.collectors())?;
        Ok(metrics)
    }

    /// Whether anybody can read them.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// Makes the series of a partition that was claimed, so that the first record of an outcome is
    /// an increase. `unheard` is what was committed without an answer.
    pub fn claimed(&self, topic: &str, tp: TopicPartition, unheard: &Counters) {
        let partition = tp.partition.to_string();
        for outcome in ["accepted", "duplicate", "rejected", "late", "skipped"] {
            self.records
                .with_label_values(&[topic, &partition, outcome]);
        }
        self.revised.with_label_values(&[topic, &partition]);
        self.merged.with_label_values(&[topic, &partition]);
        self.folded.with_label_values(&[topic, &partition]);
        self.committed(topic, tp, unheard);
    }

    /// Counts what a commit did to one partition.
    pub fn committed(&self, topic: &str, tp: TopicPartition, counters: &Counters) {
        let partition = tp.partition.to_string();
        let outcomes = [
            ("accepted", counters.accepted),
            ("duplicate", counters.duplicate),
            ("rejected", counters.rejected),
            ("late", counters.late),
            ("skipped", counters.skipped),
        ];
        for (outcome, count) in outcomes {
            if count > 0 {
                self.records
                    .with_label_values(&[topic, &partition, outcome])
                    .inc_by(count.unsigned_abs());
            }
        }
        for (counter, count) in [
            (&self.revised, counters.revised),
            (&self.merged, counters.merged),
        ] {
            if count > 0 {
                counter
                    .with_label_values(&[topic, &partition])
                    .inc_by(count.unsigned_abs());
            }
        }
    }

    /// Counts hits of a partition that a commit counted as those of other pages.
    pub fn folded(&self, topic: &str, tp: TopicPartition, hits: u64) {
        if hits > 0 {
            let partition = tp.partition.to_string();
            self.folded
                .with_label_values(&[topic, &partition])
                .inc_by(hits);
        }
    }

    /// Counts one dead letter.
    pub fn rejected(&self, reason: RejectReason) {
        self.rejected.with_label_values(&[reason.as_str()]).inc();
        if reason == RejectReason::TimestampInFuture {
            self.future(Skew::Rejected, 1);
        }
    }

    /// Counts what was cleaned in the events of a flush.
    pub fn cleaned(&self, counts: &CleanedCounts) {
        for (field, reason, count) in counts.iter() {
            self.cleaned
                .with_label_values(&[field.as_str(), reason.as_str()])
                .inc_by(count);
        }
        // at most 32 names, out of the spec
        for (column, reason, count) in counts.columns() {
            self.cleaned
                .with_label_values(&[column, reason.as_str()])
                .inc_by(count);
        }
    }

    /// Counts events that are dated ahead of their records.
    pub fn future(&self, skew: Skew, events: u64) {
        if events > 0 {
            self.future
                .with_label_values(&[skew.as_str()])
                .inc_by(events);
        }
    }

    /// Counts a flush.
    pub fn flush(&self, outcome: FlushOutcome) {
        self.flushes.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a failed step; `remedy` is a word of `runner::outcome`.
    pub fn postgres_error(&self, class: ErrorClass, remedy: &'static str) {
        self.postgres_errors
            .with_label_values(&[class.as_str(), remedy])
            .inc();
    }

    /// Counts what was done to partitions of days.
    pub fn days_changed(&self, change: DayChange, days: u64) {
        self.days_changed
            .with_label_values(&[change.as_str()])
            .inc_by(days);
    }
}
