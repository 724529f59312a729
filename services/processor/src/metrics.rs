//! What the processor counts. Label sets are closed: topics and partitions of the spec, and the words below.

use clickstream_pipeline::{checkpoint::Counters, offset::TopicPartition};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// From a commit on an idle local disk to a step that has to be looked at.
const COMMIT_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
/// The goal at low rates is 15 ms, an hour is an outage; every step is about a factor of two and a half.
const LATENCY_SECONDS: &[f64] = &[
    0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
    3600.0,
];
/// One row at low rates, 60,000 while catching up.
const FLUSH_ROWS: &[f64] = &[
    1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 60_000.0,
];

/// Counted by the reading thread.
#[derive(Clone)]
pub struct SourceMetrics {
    /// Records taken.
    pub decoded: IntCounter,
    /// Records below the position.
    pub stale: IntCounter,
    /// Rebalance callbacks.
    pub rebalances: IntCounter,
    /// How long they took.
    pub rebalance_seconds: Histogram,
    /// Times the buffer stayed full.
    pub pauses: IntCounter,
}

/// Counted by the writing task.
#[derive(Clone)]
pub struct WriterMetrics {
    records: IntCounterVec,
    rejected: IntCounterVec,
    /// Flushes by what became of them.
    pub flushes: IntCounterVec,
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
    /// Kafka's time stamp → committed; event time → committed.
    pub latency: HistogramVec,
    /// Failed steps by remedy.
    pub postgres_errors: IntCounterVec,
    /// Records lost to retention.
    pub gap_records: IntCounter,
    /// Whether PostgreSQL answers.
    pub sink_up: IntGauge,
    lag: IntGaugeVec,
    group_lag: IntGaugeVec,
    group_offset: IntGaugeVec,
    watermark: GaugeVec,
    conservation: IntGaugeVec,
    halted: IntGaugeVec,
    buffered: IntGauge,
    final_until: Gauge,
}

/// A partition as the gauges show it.
pub struct PartitionGauges<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Committed position.
    pub next: Option<i64>,
    /// Records between the committed position and the end of the log.
    pub lag: Option<i64>,
    /// Watermark, in seconds since the epoch.
    pub watermark_seconds: Option<f64>,
    /// Committed totals.
    pub counters: Counters,
    /// Not read on until a person has looked at it.
    pub halted: bool,
}

impl SourceMetrics {
    /// Registers the reader's metrics.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            decoded: IntCounter::new(
                "clickstream_records_decoded_total",
                "Records taken from Kafka by this process; over all processes it exceeds the records of the log by what was read again after a kill",
            )?,
            stale: IntCounter::new(
                "clickstream_records_stale_total",
                "Records below the position, read again and passed over",
            )?,
            rebalances: IntCounter::new(
                "clickstream_rebalances_total",
                "Changes of the consumer group's assignment; alert when it rises for minutes",
            )?,
            rebalance_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "clickstream_rebalance_duration_seconds",
                    "How long a change of the assignment held the reader up",
                )
                .buckets(COMMIT_SECONDS.to_vec()),
            )?,
            pauses: IntCounter::new(
                "clickstream_intake_pauses_total",
                "Times that intake was paused because the buffer stayed full: PostgreSQL is the bottleneck",
            )?,
        };
        registry.register(Box::new(metrics.decoded.clone()))?;
        registry.register(Box::new(metrics.stale.clone()))?;
        registry.register(Box::new(metrics.rebalances.clone()))?;
        registry.register(Box::new(metrics.rebalance_seconds.clone()))?;
        registry.register(Box::new(metrics.pauses.clone()))?;
        Ok(metrics)
    }
}

impl WriterMetrics {
    /// Registers the writer's metrics.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let place = ["topic", "partition"];
        let counters = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let gauges = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &place);
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let metrics = Self {
            records: counters("clickstream_records_total", "Records committed by this process, by outcome: accepted, duplicate, rejected, late, skipped", &["topic", "partition", "outcome"])?,
            rejected: counters("clickstream_records_rejected_total", "Records in the dead letters, by reason; alert on its share of the records", &["reason"])?,
            flushes: counters("clickstream_flushes_total", "Flushes by outcome: committed, repeated, unknown, failed", &["outcome"])?,
            fenced: IntCounter::new("clickstream_fenced_commits_total", "Partitions that another owner had claimed when a flush wanted to write them")?,
            claims: counters("clickstream_claims_total", "Claims of partitions by outcome: claimed, halted, failed", &["outcome"])?,
            rows: counters("clickstream_db_rows_written_total", "Rows handed to PostgreSQL, by writer: copy (proven new) or insert (suspects)", &["writer"])?,
            commit_seconds: histogram("clickstream_commit_duration_seconds", "Duration of committed flushes, begin to commit", COMMIT_SECONDS)?,
            flush_rows: histogram("clickstream_flush_rows", "Rows of committed flushes", FLUSH_ROWS)?,
            latency: HistogramVec::new(HistogramOpts::new("clickstream_end_to_end_latency_seconds", "From the Kafka record's time stamp (since=received) or the event's own (since=event) to the commit; resolution 1 ms").buckets(LATENCY_SECONDS.to_vec()), &["since"])?,
            postgres_errors: counters("clickstream_postgres_errors_total", "Failed steps by remedy: repeat, distrust, dead_letter, reclaim, stop", &["remedy"])?,
            gap_records: IntCounter::new("clickstream_gap_records_total", "Records that Kafka dropped before they were read: lost data; alert on any increase")?,
            sink_up: IntGauge::new("clickstream_sink_up", "1 while PostgreSQL answers; alert when it is 0 for a minute")?,
            lag: gauges("clickstream_consumer_lag_records", "Records between the committed position and the end of the log; absent while unknown; alert when it grows for 10 minutes")?,
            group_lag: IntGaugeVec::new(Opts::new("kafka_consumergroup_lag", "The same lag under the name that Kafka exporters use"), &["consumergroup", "topic", "partition"])?,
            group_offset: IntGaugeVec::new(Opts::new("kafka_consumergroup_current_offset", "Committed position under the name that Kafka exporters use"), &["consumergroup", "topic", "partition"])?,
            watermark: GaugeVec::new(Opts::new("clickstream_watermark_timestamp_seconds", "Watermark of the partition in seconds since 1970; alert when it stands still while records come"), &place)?,
            conservation: gauges("clickstream_conservation_difference", "consumed - accepted - duplicate - rejected - late: 0, or something is wrong; alert on anything else")?,
            halted: gauges("clickstream_partition_halted", "1: the partition is not read on until a person has looked at it (see /status)")?,
            buffered: IntGauge::new("clickstream_buffered_bytes", "Bytes waiting for the next flush")?,
            final_until: Gauge::new("clickstream_final_until_timestamp_seconds", "Windows that end by then are reported final, seconds since 1970")?,
        };
        let collectors: [Box<dyn prometheus::core::Collector>; 20] = [
            Box::new(metrics.records.clone()),
            Box::new(metrics.rejected.clone()),
            Box::new(metrics.flushes.clone()),
            Box::new(metrics.fenced.clone()),
            Box::new(metrics.claims.clone()),
            Box::new(metrics.rows.clone()),
            Box::new(metrics.commit_seconds.clone()),
            Box::new(metrics.flush_rows.clone()),
            Box::new(metrics.latency.clone()),
            Box::new(metrics.postgres_errors.clone()),
            Box::new(metrics.gap_records.clone()),
            Box::new(metrics.sink_up.clone()),
            Box::new(metrics.lag.clone()),
            Box::new(metrics.group_lag.clone()),
            Box::new(metrics.group_offset.clone()),
            Box::new(metrics.watermark.clone()),
            Box::new(metrics.conservation.clone()),
            Box::new(metrics.halted.clone()),
            Box::new(metrics.buffered.clone()),
            Box::new(metrics.final_until.clone()),
        ];
        collectors
            .into_iter()
            .try_for_each(|collector| registry.register(collector))?;
        Ok(metrics)
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
    }

    /// Counts one dead letter.
    pub fn rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// Sets the gauges anew; a partition that is not among them any more disappears.
    pub fn show(
        &self,
        group: &str,
        buffered: usize,
        final_until_seconds: Option<f64>,
        partitions: &[PartitionGauges<'_>],
    ) {
        for gauge in [
            &self.lag,
            &self.group_lag,
            &self.group_offset,
            &self.conservation,
            &self.halted,
        ] {
            gauge.reset();
        }
        self.watermark.reset();
        self.buffered
            .set(i64::try_from(buffered).unwrap_or(i64::MAX));
        if let Some(seconds) = final_until_seconds {
            self.final_until.set(seconds);
        }
        for shown in partitions {
            let number = shown.partition.to_string();
            let place = [shown.topic, number.as_str()];
            let in_group = [group, shown.topic, number.as_str()];
            if let Some(lag) = shown.lag {
                self.lag.with_label_values(&place).set(lag);
                self.group_lag.with_label_values(&in_group).set(lag);
            }
            if let Some(next) = shown.next {
                self.group_offset.with_label_values(&in_group).set(next);
            }
            if let Some(seconds) = shown.watermark_seconds {
                self.watermark.with_label_values(&place).set(seconds);
            }
            let c = &shown.counters;
            self.conservation
                .with_label_values(&place)
                .set(c.consumed - c.accepted - c.duplicate - c.rejected - c.late);
            self.halted
                .with_label_values(&place)
                .set(i64::from(shown.halted));
        }
    }
}
