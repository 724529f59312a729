//! What the reading thread counts.

use clickstream_telemetry::metrics::register;
use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use super::{COMMIT_SECONDS, Collectors, boxed, counter, gauge, histogram};

/// From a claim that is made while the callback waits to one that PostgreSQL kept waiting for
/// minutes.
const GAP_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Counted by the reading thread.
#[derive(Clone)]
pub struct SourceMetrics {
    /// Records taken.
    pub decoded: IntCounter,
    /// Records below the position.
    pub stale: IntCounter,
    /// Records with a timestamp of their own that cannot be true.
    pub implausible: IntCounter,
    /// Rebalance callbacks.
    pub rebalances: IntCounter,
    /// How long they took.
    pub rebalance_seconds: Histogram,
    /// From the assignment of a partition to reading on from its position.
    pub rebalance_gap: Histogram,
    /// Times the buffer stayed full.
    pub pauses: IntCounter,
    /// Whether a broker answers.
    pub kafka_up: IntGauge,
    /// Partitions that are not fetched from their leader.
    pub from_followers: IntGauge,
}

impl SourceMetrics {
    /// The metrics, not registered yet.
    ///
    /// # Errors
    /// A name or help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self {
            decoded: counter(
                "clickstream_records_decoded_total",
                "Records taken from Kafka by this process. Over all processes it exceeds the records of the log by what was read again after a kill.",
            )?,
            stale: counter(
                "clickstream_records_stale_total",
                "Records below the position, read again and passed over.",
            )?,
            implausible: counter(
                "clickstream_implausible_record_timestamps_total",
                "Records whose own timestamp is before 2000: a client writes them in another unit than milliseconds, or none, and every event of the topic counts as dated ahead. Alert when it rises.",
            )?,
            rebalances: counter(
                "clickstream_rebalances_total",
                "Changes of the consumer group's assignment that this process took part in. Alert when it goes on rising for ten minutes: members come and go, and each change holds partitions up.",
            )?,
            rebalance_seconds: histogram(
                "clickstream_rebalance_duration_seconds",
                "How long a change of the assignment held the reader up.",
                COMMIT_SECONDS,
            )?,
            rebalance_gap: histogram(
                "clickstream_rebalance_gap_seconds",
                "From the moment the group gave a partition to this process until it was read on from the claimed position: its records wait that long. Alert when the 99th percentile is over 10 s.",
                GAP_SECONDS,
            )?,
            pauses: counter(
                "clickstream_intake_pauses_total",
                "Times that intake was paused because the buffer stayed full: PostgreSQL is the bottleneck.",
            )?,
            kafka_up: gauge(
                "clickstream_kafka_up",
                "1 while some broker answers, looked at every 5 s. Alert when it is 0 for a minute.",
            )?,
            from_followers: gauge(
                "clickstream_kafka_partitions_from_followers",
                "Partitions of this process that are fetched from a replica that is not their leader, since that one is in its zone; looked at every 5 s. 0 where brokers select no replicas, or the pod has no zone (docs/kubernetes.md).",
            )?,
        })
    }

    /// What is registered.
    pub fn collectors(&self) -> Collectors {
        boxed![
            self.decoded,
            self.stale,
            self.implausible,
            self.rebalances,
            self.rebalance_seconds,
            self.rebalance_gap,
            self.pauses,
            self.kafka_up,
            self.from_followers,
        ]
    }

    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::new()?;
        register(registry, metrics.collectors())?;
        Ok(metrics)
    }
}
