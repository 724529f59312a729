//! What Prometheus sees of the operator, under the names that dashboards for controllers expect,
//! and of each pipeline.
//!
//! `docs/metrics.md` is made from the help texts here, which say what to alert on.

mod pipelines;
mod queue;
mod requests;

use clickstream_telemetry::metrics::{Family, common, families, register};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
};

pub use pipelines::Pipelines;
pub use queue::Queue;
pub use requests::Requests;

use crate::health::Hearing;

/// Reconciles take milliseconds when nothing is to be done, and seconds when Kafka is slow.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The operator's metrics; a clone counts into the same ones.
#[derive(Clone)]
pub struct OperatorMetrics {
    reconciles: IntCounterVec,
    reconcile_errors: IntCounter,
    reconcile_seconds: Histogram,
    active: IntGauge,
    max_concurrent: IntGauge,
    leader: IntGauge,
    applied: IntCounterVec,
    deleted: IntCounterVec,
    last_success: Gauge,
    /// What there is to reconcile.
    pub queue: Queue,
    /// How each pipeline is.
    pub pipelines: Pipelines,
    /// Requests to the API server.
    pub requests: Requests,
    /// How well the API server is heard.
    pub hearing: Hearing,
}

/// All metrics of the operator, for the documentation.
///
/// # Errors
/// A name or a help text that Prometheus does not take.
pub fn documented() -> prometheus::Result<Vec<Family>> {
    let mut all = OperatorMetrics::new()?.collectors();
    all.extend(common("operator")?);
    Ok(families(&all))
}

impl OperatorMetrics {
    /// Makes and registers all of them.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::new()?;
        register(registry, metrics.collectors())?;
        Ok(metrics)
    }

    /// All of them, not registered yet.
    ///
    /// # Errors
    /// A name or a help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            reconciles: IntCounterVec::new(
                Opts::new(
                    "controller_runtime_reconcile_total",
                    "Reconciles by result: success, requeue_after (waiting for something) or error. Alert when errors grow and successes do not.",
                ),
                &["controller", "result"],
            )?,
            reconcile_errors: IntCounter::with_opts(
                Opts::new(
                    "controller_runtime_reconcile_errors_total",
                    "Reconciles that failed. Alert when it goes on rising for ten minutes.",
                )
                .const_label("controller", CONTROLLER),
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
            max_concurrent: IntGauge::with_opts(
                Opts::new(
                    "controller_runtime_max_concurrent_reconciles",
                    "Reconciles that may run at the same time.",
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
                "When a reconcile last ended well, in seconds since 1970. Alert when it is over ten minutes ago while there are pipelines.",
            ))?,
            queue: Queue::new(CONTROLLER)?,
            pipelines: Pipelines::new()?,
            requests: Requests::new()?,
            hearing: Hearing::new()?,
        };
        for result in [Ended::Success, Ended::RequeueAfter, Ended::Error] {
            metrics
                .reconciles
                .with_label_values(&[CONTROLLER, result.as_str()]);
        }
        Ok(metrics)
    }

    /// What is registered.
    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all: Vec<Box<dyn Collector>> = vec![
            Box::new(self.reconciles.clone()),
            Box::new(self.reconcile_errors.clone()),
            Box::new(self.reconcile_seconds.clone()),
            Box::new(self.active.clone()),
            Box::new(self.max_concurrent.clone()),
            Box::new(self.leader.clone()),
            Box::new(self.applied.clone()),
            Box::new(self.deleted.clone()),
            Box::new(self.last_success.clone()),
            Box::new(self.pipelines.clone()),
            Box::new(self.requests.collector()),
            Box::new(self.hearing.collector()),
        ];
        all.extend(self.queue.collectors());
        all
    }

    /// How many reconciles may run at the same time.
    pub fn may_run(&self, reconciles: u16) {
        self.max_concurrent.set(i64::from(reconciles));
    }

    /// A reconcile begins; it ends when the guard is told its result, or dropped.
    pub fn reconcile(&self) -> Running {
        self.active.inc();
        Running {
            metrics: self.clone(),
            ticket: self.queue.begun(),
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
        if !leads {
            self.pipelines.clear();
            self.queue.clear();
        }
    }

    /// A pipeline is there.
    pub fn seen(&self, namespace: &str, pipeline: &str) {
        self.pipelines.seen(namespace, pipeline);
    }

    /// A pipeline is gone, and all that was told of it.
    pub fn gone(&self, namespace: &str, pipeline: &str) {
        self.pipelines.gone(namespace, pipeline);
        self.queue.gone(namespace, pipeline);
    }

    /// Something happened that a pipeline has to be reconciled for. Children may outlive theirs:
    /// they count for nothing.
    pub fn triggered(&self, namespace: &str, pipeline: &str) {
        if self.pipelines.knows(namespace, pipeline) {
            self.queue.added(namespace, pipeline);
        }
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

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RequeueAfter => "requeue_after",
            Self::Error => "error",
        }
    }
}

/// A running reconcile.
pub struct Running {
    metrics: OperatorMetrics,
    ticket: queue::Ticket,
    started: std::time::Instant,
}

impl Running {
    /// Counts its end.
    pub fn ended(self, ended: Ended) {
        self.metrics
            .reconciles
            .with_label_values(&[CONTROLLER, ended.as_str()])
            .inc();
        if ended == Ended::Error {
            self.metrics.reconcile_errors.inc();
        } else {
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
        let took = self.started.elapsed();
        self.metrics.reconcile_seconds.observe(took.as_secs_f64());
        self.metrics.queue.worked(self.ticket, took);
    }
}

#[cfg(test)]
mod tests;
