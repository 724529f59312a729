//! What is counted of rules that change while the process runs.

use clickstream_telemetry::metrics::register;
use prometheus::{IntCounter, IntGauge, Registry};

use super::{Collectors, boxed, counter, gauge};

/// Changes of the rules.
#[derive(Clone)]
pub struct RulesMetrics {
    /// Changes that were followed.
    pub changes: IntCounter,
    /// Whether the document cannot be followed as it is.
    pub not_followed: IntGauge,
}

impl RulesMetrics {
    /// The metrics, not registered yet.
    ///
    /// # Errors
    /// A name or help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self {
            changes: counter(
                "clickstream_rules_changes_total",
                "Changes of the rules that were followed without a restart. Every processor of a pipeline counts a change once. Somebody wanted it, so there is nothing to alert on; a change that is not followed shows in clickstream_document_not_followed.",
            )?,
            not_followed: gauge(
                "clickstream_document_not_followed",
                "1 while the document is not followed as it is now: it cannot be read, is not valid, or says something new that takes a restart; the log names the field. Alert when it is 1 for ten minutes.",
            )?,
        })
    }

    /// The metrics, in this registry.
    ///
    /// # Errors
    /// One of them is there already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::new()?;
        register(registry, metrics.collectors())?;
        Ok(metrics)
    }

    pub(super) fn collectors(&self) -> Collectors {
        boxed![self.changes, self.not_followed]
    }
}
