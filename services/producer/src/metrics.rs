//! What the producer counts, for `/metrics` and for the summary alike.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::record::RecordKind;

/// From a broker next door to one that is far away or struggling, in seconds.
const ACKNOWLEDGE_BUCKETS: [f64; 12] = [
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// The producer's metrics; every counter is the one truth for its number.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records handed to the Kafka client, by [`RecordKind::NAMES`].
    pub sent: [IntCounter; 5],
    /// Bytes of keys and values handed to the Kafka client.
    pub sent_bytes: IntCounter,
    /// Records that the brokers have acknowledged.
    pub acknowledged: IntCounter,
    /// Records given up.
    pub failed: IntCounter,
    /// Lines that became events.
    pub lines_replayed: IntCounter,
    /// Lines that are broken.
    pub lines_unparsable: IntCounter,
    /// Lines that are no clicks.
    pub lines_skipped: IntCounter,
    /// Records handed over and neither acknowledged nor given up.
    pub unacknowledged: IntGauge,
    /// How far sending is behind the schedule, in seconds.
    pub schedule_lag: Gauge,
    /// Time from handing a record over to its acknowledgement, in seconds.
    pub acknowledge: Histogram,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// A metric of the same name is in the registry already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("clickstream_producer_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let family = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let family = IntCounterVec::new(
                Opts::new(format!("clickstream_producer_{name}"), help),
                &[label],
            )?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let sent = family(
            "sent_records_total",
            "Records handed to the Kafka client; alert when it stops rising while the producer runs",
            "kind",
        )?;
        let lines = family(
            "lines_total",
            "Lines of replayed logs, by what became of them",
            "outcome",
        )?;
        let unacknowledged = IntGauge::new(
            "clickstream_producer_unacknowledged_records",
            "Records in the client's queue or on their way; near the queue's limit the brokers are the bottleneck",
        )?;
        let schedule_lag = Gauge::new(
            "clickstream_producer_schedule_lag_seconds",
            "How far sending is behind the schedule; alert when it keeps growing, the offered load is not met",
        )?;
        let acknowledge = Histogram::with_opts(
            HistogramOpts::new(
                "clickstream_producer_acknowledge_seconds",
                "Time from handing a record to the Kafka client to its acknowledgement by all in-sync replicas",
            )
            .buckets(ACKNOWLEDGE_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(unacknowledged.clone()))?;
        registry.register(Box::new(schedule_lag.clone()))?;
        registry.register(Box::new(acknowledge.clone()))?;
        Ok(Self {
            sent: RecordKind::NAMES.map(|kind| sent.with_label_values(&[kind])),
            sent_bytes: counter(
                "sent_bytes_total",
                "Bytes of keys and values handed to the Kafka client",
            )?,
            acknowledged: counter(
                "acknowledged_records_total",
                "Records acknowledged by all in-sync replicas",
            )?,
            failed: counter(
                "failed_records_total",
                "Records given up; alert on any: they are not in the log",
            )?,
            lines_replayed: lines.with_label_values(&["event"]),
            lines_unparsable: lines.with_label_values(&["unparsable"]),
            lines_skipped: lines.with_label_values(&["skipped"]),
            unacknowledged,
            schedule_lag,
            acknowledge,
        })
    }

    /// Records of all kinds handed to the Kafka client.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.iter().map(IntCounter::get).sum()
    }

    /// Records whose fate is open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.sent()
            .saturating_sub(self.acknowledged.get() + self.failed.get())
    }
}
