//! What Prometheus sees of the operator, under the names that dashboards for controllers expect.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Reconciles take milliseconds when nothing is to be done, and seconds when Kafka is slow.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The operator's metrics; a clone counts into the same ones.
#[derive(Clone)]
pub struct OperatorMetrics {
    reconciles: IntCounterVec,
    reconcile_seconds: Histogram,
    active: IntGauge,
    leader: IntGauge,
    applied: IntCounterVec,
    deleted: IntCounterVec,
    /// Unix time of the last reconcile that ended well.
    last_success: Gauge,
}

impl OperatorMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            reconciles: IntCounterVec::new(
                Opts::new(
                    "controller_runtime_reconcile_total",
                    "Reconciles by result: success, requeue_after (waiting for something) or error. Alert when errors grow and successes do not.",
                ),
                &["controller", "result"],
            )?,
            reconcile_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "controller_runtime_reconcile_time_seconds",
                    "How long a reconcile takes.",
                )
                .buckets(SECONDS.to_vec())
                .const_label("controller", CONTROLLER),
            )?,
            active: IntGauge::with_opts(
                Opts::new(
                    "controller_runtime_active_workers",
                    "Reconciles that are running.",
                )
                .const_label("controller", CONTROLLER),
            )?,
            leader: IntGauge::with_opts(
                Opts::new(
                    "leader_election_master_status",
                    "1 while this process is the one that acts. Alert when no process is.",
                )
                .const_label("name", CONTROLLER),
            )?,
            applied: IntCounterVec::new(
                Opts::new(
                    "clickstream_operator_applied_total",
                    "Children that were sent to the API server, by resource. Alert when it grows while nothing changes.",
                ),
                &["resource"],
            )?,
            deleted: IntCounterVec::new(
                Opts::new(
                    "clickstream_operator_deleted_total",
                    "Children that were deleted, by resource.",
                ),
                &["resource"],
            )?,
            last_success: Gauge::with_opts(Opts::new(
                "clickstream_operator_last_success_timestamp_seconds",
                "When a reconcile last ended well.",
            ))?,
        };
        let all: [Box<dyn Collector>; 7] = [
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.reconcile_seconds.clone()),
            Box::new(metrics.active.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.applied.clone()),
            Box::new(metrics.deleted.clone()),
            Box::new(metrics.last_success.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// A reconcile begins; it ends when the guard is told its result, or dropped.
    pub fn reconcile(&self) -> Running {
        self.active.inc();
        Running {
            metrics: self.clone(),
            started: std::time::Instant::now(),
        }
    }

    /// A child was sent.
    pub fn applied(&self, resource: &str) {
        self.applied.with_label_values(&[resource]).inc();
    }

    /// A child was deleted.
    pub fn deleted(&self, resource: &str) {
        self.deleted.with_label_values(&[resource]).inc();
    }

    /// Whether this process acts.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

/// The controller's name in labels.
const CONTROLLER: &str = "clickstreampipeline";

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is as it should be.
    Success,
    /// Something is waited for.
    RequeueAfter,
    /// Something failed.
    Error,
}

/// A running reconcile.
pub struct Running {
    metrics: OperatorMetrics,
    started: std::time::Instant,
}

impl Running {
    /// Counts its end.
    pub fn ended(self, ended: Ended) {
        let result = match ended {
            Ended::Success => "success",
            Ended::RequeueAfter => "requeue_after",
            Ended::Error => "error",
        };
        self.metrics
            .reconciles
            .with_label_values(&[CONTROLLER, result])
            .inc();
        if ended != Ended::Error {
            let now = jiff::Timestamp::now();
            #[expect(
                clippy::cast_precision_loss,
                reason = "seconds of this century are exact"
            )]
            self.metrics.last_success.set(now.as_second() as f64);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.active.dec();
        self.metrics
            .reconcile_seconds
            .observe(self.started.elapsed().as_secs_f64());
    }
}
