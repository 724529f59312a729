//! What heartbeats measure.

use clickstream_telemetry::metrics::register;
use prometheus::{Histogram, IntCounter, IntCounterVec, Opts, Registry};

use super::{Collectors, LATENCY_SECONDS, boxed, histogram};

/// Registered only where heartbeats are sent, so that nobody takes their absence for silence.
#[derive(Clone)]
pub struct HeartbeatMetrics {
    sent: IntCounterVec,
    /// Those that the brokers took.
    pub acknowledged: IntCounter,
    /// Those that they did not take.
    pub failed: IntCounter,
    /// From sending to the commit.
    pub latency: Histogram,
}

impl HeartbeatMetrics {
    /// The metrics, not registered yet.
    ///
    /// # Errors
    /// A name or help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        let sent = IntCounterVec::new(
            Opts::new(
                "clickstream_heartbeats_total",
                "Heartbeats that this process has sent, by outcome: acknowledged, failed. Alert when failed rises: the brokers are away, or the processor may not write the topics.",
            ),
            &["outcome"],
        )?;
        Ok(Self {
            acknowledged: sent.with_label_values(&["acknowledged"]),
            failed: sent.with_label_values(&["failed"]),
            sent,
            latency: histogram(
                "clickstream_heartbeat_latency_seconds",
                "From sending a heartbeat to the commit that it is part of: what an event would take now, also while none comes. The same buckets as clickstream_end_to_end_latency_seconds.",
                LATENCY_SECONDS,
            )?,
        })
    }

    /// What is registered.
    pub fn collectors(&self) -> Collectors {
        boxed![self.sent, self.latency]
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
