//! Gauges of the present state: set once a second, whatever the writer is waiting for.

use std::collections::BTreeSet;

use clickstream_pipeline::checkpoint::Counters;
use clickstream_telemetry::metrics::register;
use parking_lot::Mutex;
use prometheus::{GaugeVec, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use super::{Collectors, boxed, counter, gauge};

/// The gauges.
pub struct Gauges {
    lag: IntGaugeVec,
    lag_seconds: GaugeVec,
    group_lag: IntGaugeVec,
    group_offset: IntGaugeVec,
    watermark: GaugeVec,
    watermark_delay: GaugeVec,
    conservation: IntGaugeVec,
    halted: IntGaugeVec,
    paused: IntGaugeVec,
    headroom: GaugeVec,
    heartbeat_age: GaugeVec,
    open_transaction: GaugeVec,
    assigned: IntGauge,
    buffered_bytes: IntGauge,
    buffered_rows: IntGauge,
    filter_entries: IntGauge,
    filter_capacity: IntGauge,
    filter_generations: IntCounter,
    cold: IntGauge,
    /// Group, topic and partition of the series that there are.
    shown: Mutex<BTreeSet<(String, String, String)>>,
}

/// A partition as the gauges show it. What is not known has no series.
#[derive(Clone, Debug, Default)]
pub struct PartitionGauges {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Committed position.
    pub next: Option<i64>,
    /// Records between the committed position and the end of the log.
    pub lag: Option<i64>,
    /// Age of the oldest record that is not committed, in seconds.
    pub lag_seconds: Option<f64>,
    /// Watermark, in seconds since the epoch.
    pub watermark_seconds: Option<f64>,
    /// How far it is behind the clock, in seconds.
    pub watermark_delay_seconds: Option<f64>,
    /// Committed totals.
    pub counters: Counters,
    /// Not read on until a person has looked at it.
    pub halted: bool,
    /// Not fetched at the moment.
    pub paused: bool,
    /// Until Kafka drops what is not stored, in seconds.
    pub headroom_seconds: Option<f64>,
    /// Age of the newest committed heartbeat, in seconds.
    pub heartbeat_age_seconds: Option<f64>,
    /// For how long an open Kafka transaction has held it back, in seconds; 0 when none does.
    pub open_transaction_seconds: Option<f64>,
}

/// The rest of the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessGauges {
    /// Partitions that the group has given to this process.
    pub assigned: usize,
    /// Bytes that wait for the next flush.
    pub buffered_bytes: usize,
    /// Rows that wait for it.
    pub buffered_rows: usize,
    /// Ids that the filter remembers.
    pub filter_entries: usize,
    /// Ids that it remembers at most.
    pub filter_capacity: usize,
    /// How often it has forgotten its older half.
    pub filter_generations: u64,
    /// Partitions whose rows are all suspects.
    pub cold: usize,
}

impl Gauges {
    /// The gauges, not registered yet.
    ///
    /// # Errors
    /// A name or help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        let place = ["topic", "partition"];
        let in_group = ["consumergroup", "topic", "partition"];
        let whole = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &place);
        let real = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &place);
        Ok(Self {
            lag: whole(
                "clickstream_consumer_lag_records",
                "Records between the committed position and the end of the log; absent while either is not known (not claimed yet, or the partition's broker does not answer). Alert when it grows for 10 minutes.",
            )?,
            lag_seconds: real(
                "clickstream_consumer_lag_seconds",
                "Age of the oldest record that is not committed, at most: 0 when all are, absent while it is not known. Alert when it is over 2 minutes.",
            )?,
            group_lag: IntGaugeVec::new(
                Opts::new(
                    "kafka_consumergroup_lag",
                    "The same lag under the name that Kafka exporters use.",
                ),
                &in_group,
            )?,
            group_offset: IntGaugeVec::new(
                Opts::new(
                    "kafka_consumergroup_current_offset",
                    "Committed position under the name that Kafka exporters use.",
                ),
                &in_group,
            )?,
            watermark: real(
                "clickstream_watermark_timestamp_seconds",
                "Watermark of the partition in seconds since 1970; absent before its 16th event. Alert when it stands still while records come.",
            )?,
            watermark_delay: real(
                "clickstream_watermark_delay_seconds",
                "How far the watermark is behind the clock. It grows while no traffic comes.",
            )?,
            conservation: whole(
                "clickstream_conservation_difference",
                "consumed - accepted - duplicate - rejected - late, of the committed totals: 0, or something is wrong. Alert on anything else.",
            )?,
            halted: whole(
                "clickstream_partition_halted",
                "1: the partition is not read on until a person has looked at it (see /status). Alert on 1.",
            )?,
            paused: whole(
                "clickstream_partition_paused",
                "1: the partition is not fetched at the moment: it waits for its claim, or for room in the buffer.",
            )?,
            headroom: real(
                "clickstream_retention_headroom_seconds",
                "How long until Kafka drops what is not stored yet, by the topic's retention in time and size; infinite where it keeps everything, absent while it is not known (the processor may not read the topic's settings, or does not know the age of the oldest record). Alert when it is below 6 hours.",
            )?,
            heartbeat_age: real(
                "clickstream_heartbeat_age_seconds",
                "Age of the newest committed heartbeat; before the first one, time since the claim. Only with spec.heartbeat.enabled. Alert when it is over six intervals.",
            )?,
            open_transaction: real(
                "clickstream_open_transaction_seconds",
                "For how long a Kafka transaction that is still open has held the partition back: nothing behind it is given out before its producer ends it; 0 when none does. Alert when it is over 5 minutes.",
            )?,
            assigned: gauge(
                "clickstream_partitions_assigned",
                "Partitions that the group has given to this process. 0 for hours: a spare.",
            )?,
            buffered_bytes: gauge(
                "clickstream_buffered_bytes",
                "Bytes waiting for the next flush.",
            )?,
            buffered_rows: gauge(
                "clickstream_buffered_rows",
                "Rows waiting for the next flush.",
            )?,
            filter_entries: gauge(
                "clickstream_filter_entries",
                "Event ids that the filter of surely new events remembers.",
            )?,
            filter_capacity: gauge(
                "clickstream_filter_capacity_entries",
                "Event ids that it remembers at most (spec.processor.filterMemory).",
            )?,
            filter_generations: counter(
                "clickstream_filter_generations_total",
                "Times that the filter has forgotten the older half of its ids.",
            )?,
            cold: gauge(
                "clickstream_filter_cold_partitions",
                "Partitions of which every row is a suspect for now: after a claim, or after the filter was wrong.",
            )?,
            shown: Mutex::default(),
        })
    }

    /// What is registered.
    pub fn collectors(&self) -> Collectors {
        boxed![
            self.lag,
            self.lag_seconds,
            self.group_lag,
            self.group_offset,
            self.watermark,
            self.watermark_delay,
            self.conservation,
            self.halted,
            self.paused,
            self.headroom,
            self.heartbeat_age,
            self.open_transaction,
            self.assigned,
            self.buffered_bytes,
            self.buffered_rows,
            self.filter_entries,
            self.filter_capacity,
            self.filter_generations,
            self.cold,
        ]
    }

    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = Self::new()?;
        register(registry, gauges.collectors())?;
        Ok(gauges)
    }

    /// Shows the state. A partition that is not among these any more disappears; no series that
    /// stays is missing meanwhile.
    pub fn show(&self, group: &str, process: &ProcessGauges, partitions: &[PartitionGauges]) {
        let set = |gauge: &IntGauge, value: usize| gauge.set(value.try_into().unwrap_or(i64::MAX));
        set(&self.assigned, process.assigned);
        set(&self.buffered_bytes, process.buffered_bytes);
        set(&self.buffered_rows, process.buffered_rows);
        set(&self.filter_entries, process.filter_entries);
        set(&self.filter_capacity, process.filter_capacity);
        set(&self.cold, process.cold);
        let counted = self.filter_generations.get();
        self.filter_generations
            .inc_by(process.filter_generations.saturating_sub(counted));

        let mut present = BTreeSet::new();
        for shown in partitions {
            let number = shown.partition.to_string();
            let place = [shown.topic.as_str(), number.as_str()];
            let in_group = [group, shown.topic.as_str(), number.as_str()];
            let c = &shown.counters;
            put(&self.lag, &place, shown.lag);
            put(&self.lag_seconds, &place, shown.lag_seconds);
            put(&self.group_lag, &in_group, shown.lag);
            put(&self.group_offset, &in_group, shown.next);
            put(&self.watermark, &place, shown.watermark_seconds);
            put(&self.watermark_delay, &place, shown.watermark_delay_seconds);
            put(
                &self.conservation,
                &place,
                // an unclaimed partition's totals are not known
                shown
                    .next
                    .map(|_| c.consumed - c.accepted - c.duplicate - c.rejected - c.late),
            );
            put(&self.halted, &place, Some(i64::from(shown.halted)));
            put(&self.paused, &place, Some(i64::from(shown.paused)));
            put(&self.headroom, &place, shown.headroom_seconds);
            put(&self.heartbeat_age, &place, shown.heartbeat_age_seconds);
            put(
                &self.open_transaction,
                &place,
                shown.open_transaction_seconds,
            );
            present.insert((group.to_owned(), shown.topic.clone(), number));
        }
        let mut known = self.shown.lock();
        for (group, topic, number) in known.difference(&present) {
            let place = [topic.as_str(), number.as_str()];
            let in_group = [group.as_str(), topic.as_str(), number.as_str()];
            for gauge in [&self.lag, &self.conservation, &self.halted, &self.paused] {
                put(gauge, &place, None);
            }
            for gauge in [
                &self.lag_seconds,
                &self.watermark,
                &self.watermark_delay,
                &self.headroom,
                &self.heartbeat_age,
                &self.open_transaction,
            ] {
                put(gauge, &place, None);
            }
            put(&self.group_lag, &in_group, None);
            put(&self.group_offset, &in_group, None);
        }
        *known = present;
    }
}

/// A gauge per place.
trait Family<T> {
    fn put(&self, labels: &[&str], value: T);
    fn take(&self, labels: &[&str]);
}

impl Family<i64> for IntGaugeVec {
    fn put(&self, labels: &[&str], value: i64) {
        self.with_label_values(labels).set(value);
    }

    fn take(&self, labels: &[&str]) {
        // it was not there
        let _ = self.remove_label_values(labels);
    }
}

impl Family<f64> for GaugeVec {
    fn put(&self, labels: &[&str], value: f64) {
        self.with_label_values(labels).set(value);
    }

    fn take(&self, labels: &[&str]) {
        // it was not there
        let _ = self.remove_label_values(labels);
    }
}

/// Sets a series, or takes it away where nothing is known.
fn put<T>(family: &impl Family<T>, labels: &[&str], value: Option<T>) {
    match value {
        Some(value) => family.put(labels, value),
        None => family.take(labels),
    }
}
