//! What the producer counts, for `/metrics` and for the summary alike.

use clickstream_telemetry::metrics::{Family, common, families, register};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
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

/// All metrics of the producer, for the documentation.
///
/// # Errors
/// A name or a help text that Prometheus does not take.
pub fn documented() -> prometheus::Result<Vec<Family>> {
    let (_, mut all) = Metrics::make()?;
    all.extend(common("producer")?);
    Ok(families(&all))
}

impl Metrics {
    /// Makes and registers all metrics.
    ///
    /// # Errors
    /// A metric of the same name is in the registry already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let (metrics, collectors) = Self::make()?;
        register(registry, collectors)?;
        Ok(metrics)
    }

    /// The metrics, and what is registered of them.
    fn make() -> prometheus::Result<(Self, Vec<Box<dyn Collector>>)> {
        let counter =
            |name: &str, help: &str| IntCounter::new(format!("clickstream_producer_{name}"), help);
        let family = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(
                Opts::new(format!("clickstream_producer_{name}"), help),
                &[label],
            )
        };
        let sent = family(
            "sent_records_total",
            "Records handed to the Kafka client, by kind. Alert when it stops rising while the producer runs.",
            "kind",
        )?;
        let lines = family(
            "lines_total",
            "Lines of replayed logs, by what became of them: event, unparsable, skipped (no click).",
            "outcome",
        )?;
        let metrics = Self {
            sent: RecordKind::NAMES.map(|kind| sent.with_label_values(&[kind])),
            sent_bytes: counter(
                "sent_bytes_total",
                "Bytes of keys and values handed to the Kafka client.",
            )?,
            acknowledged: counter(
                "acknowledged_records_total",
                "Records acknowledged by all in-sync replicas.",
            )?,
            failed: counter(
                "failed_records_total",
                "Records given up. Alert on any: they are not in the log.",
            )?,
            lines_replayed: lines.with_label_values(&["event"]),
            lines_unparsable: lines.with_label_values(&["unparsable"]),
            lines_skipped: lines.with_label_values(&["skipped"]),
            unacknowledged: IntGauge::new(
                "clickstream_producer_unacknowledged_records",
                "Records in the client's queue or on their way. Near the queue's limit the brokers are the bottleneck.",
            )?,
            schedule_lag: Gauge::new(
                "clickstream_producer_schedule_lag_seconds",
                "How far sending is behind the schedule. Alert when it keeps growing: the offered load is not met.",
            )?,
            acknowledge: Histogram::with_opts(
                HistogramOpts::new(
                    "clickstream_producer_acknowledge_seconds",
                    "Time from handing a record to the Kafka client to its acknowledgement by all in-sync replicas.",
                )
                .buckets(ACKNOWLEDGE_BUCKETS.to_vec()),
            )?,
        };
        let collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(sent),
            Box::new(lines),
            Box::new(metrics.sent_bytes.clone()),
            Box::new(metrics.acknowledged.clone()),
            Box::new(metrics.failed.clone()),
            Box::new(metrics.unacknowledged.clone()),
            Box::new(metrics.schedule_lag.clone()),
            Box::new(metrics.acknowledge.clone()),
        ];
        Ok((metrics, collectors))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn every_metric_has_the_form_that_prometheus_asks_for_and_a_closed_set_of_series() {
        for family in documented().unwrap() {
            let name = &family.name;
            assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
            assert!(!family.help.is_empty(), "{name}");
        }
        // all series there will ever be are there from the start: no label is taken from a record
        // or a line
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let series = || -> usize {
            let gathered = registry.gather();
            gathered
                .iter()
                .map(|family| family.get_metric().len())
                .sum()
        };
        let before = series();
        metrics.sent.iter().for_each(IntCounter::inc);
        metrics.lines_unparsable.inc();
        metrics.failed.inc();
        assert_eq!(series(), before);
    }
}
