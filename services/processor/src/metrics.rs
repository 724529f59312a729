//! What the processor counts. Label sets are closed: topics and partitions of the spec, and lists
//! of words in the code.
//!
//! `docs/metrics.md` is made from the help texts here, which say what to alert on.

mod gauges;
mod heartbeat;
mod rules;
mod source;
mod writer;

use clickstream_telemetry::metrics::{Family, common, families};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, core::Collector};

pub use gauges::{Gauges, PartitionGauges, ProcessGauges};
pub use heartbeat::HeartbeatMetrics;
pub use rules::RulesMetrics;
pub use source::SourceMetrics;
pub use writer::{DayChange, FlushOutcome, Skew, WriterMetrics};

/// From a commit on an idle local disk to a step that has to be looked at.
const COMMIT_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];
/// The goal at low rates is 15 ms, an hour is an outage; every step is about a factor of two and a
/// half.
const LATENCY_SECONDS: &[f64] = &[
    0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
    3600.0,
];

/// Boxes for the registry.
type Collectors = Vec<Box<dyn Collector>>;

/// All metrics of the processor, for the documentation.
///
/// # Errors
/// A name or a help text that Prometheus does not take.
pub fn documented() -> prometheus::Result<Vec<Family>> {
    let mut all = SourceMetrics::new()?.collectors();
    all.extend(WriterMetrics::new(true)?.collectors());
    all.extend(Gauges::new()?.collectors());
    all.extend(HeartbeatMetrics::new()?.collectors());
    all.extend(RulesMetrics::new()?.collectors());
    all.extend(common("processor")?);
    Ok(families(&all))
}

fn counter(name: &str, help: &str) -> prometheus::Result<IntCounter> {
    IntCounter::new(name, help)
}

fn gauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(name, help)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
}

/// A boxed clone of each, in the order given.
macro_rules! boxed {
    ($($metric:expr),+ $(,)?) => { vec![$(Box::new($metric.clone())),+] };
}
use boxed;

#[cfg(test)]
mod tests;
