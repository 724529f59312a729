//! How each pipeline is, for alerts. The series are made when they are asked for, from what is
//! known of the pipelines that there are: a pipeline that goes takes its series with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clickstream_protocol::conditions::ConditionType;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parking_lot::Mutex;
use prometheus::{
    GaugeVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::{self, LabelPair, Metric, MetricFamily},
};

use crate::crd::ClickstreamPipelineStatus;

/// What may have become of a migration: the words of its state.
const STATES: [&str; 8] = [
    "done",
    "running",
    "retrying",
    "blocked",
    "failed",
    "no_secret",
    "queued",
    "paused",
];

/// What a condition may be, as the label and as the API has it.
const STATUSES: [(&str, &str); 3] = [("true", "True"), ("false", "False"), ("unknown", "Unknown")];

/// The pipelines; a clone is the same.
#[derive(Clone)]
pub struct Pipelines(Arc<Inner>);

struct Inner {
    known: Mutex<BTreeMap<(String, String), Known>>,
    /// Without series: what is asked of descriptions.
    described: Series,
}

/// What is known of a pipeline.
#[derive(Clone, Default)]
struct Known {
    conditions: Vec<(&'static str, &'static str)>,
    suspended_since: Option<f64>,
    paused_since: Option<f64>,
    failures: u32,
    last_success: Option<f64>,
    targets: Vec<Target>,
}

#[derive(Clone)]
struct Target {
    name: String,
    lag: Option<i64>,
    wanted: Option<i32>,
    ready: Option<i32>,
    unowned: Option<i64>,
    migration: Option<&'static str>,
}

impl Pipelines {
    /// None yet.
    ///
    /// # Errors
    /// A name or a help text that Prometheus does not take.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self(Arc::new(Inner {
            known: Mutex::default(),
            described: Series::new()?,
        })))
    }

    /// A pipeline is there.
    pub fn seen(&self, namespace: &str, pipeline: &str) {
        self.0
            .known
            .lock()
            .entry(key(namespace, pipeline))
            .or_default();
    }

    /// Whether it is.
    pub fn knows(&self, namespace: &str, pipeline: &str) -> bool {
        self.0.known.lock().contains_key(&key(namespace, pipeline))
    }

    /// A pipeline is gone.
    pub fn gone(&self, namespace: &str, pipeline: &str) {
        self.0.known.lock().remove(&key(namespace, pipeline));
    }

    /// These are all that there are in a namespace, or anywhere. Returns those that are gone.
    pub fn only(
        &self,
        namespace: Option<&str>,
        there: &BTreeSet<(String, String)>,
    ) -> Vec<(String, String)> {
        let mut known = self.0.known.lock();
        let gone: Vec<_> = known
            .keys()
            .filter(|key| namespace.is_none_or(|namespace| key.0 == namespace))
            .filter(|key| !there.contains(*key))
            .cloned()
            .collect();
        for key in &gone {
            known.remove(key);
        }
        gone
    }

    /// Another process leads, and tells of them.
    pub fn clear(&self) {
        self.0.known.lock().clear();
    }

    /// The status that was decided.
    pub fn status(&self, namespace: &str, pipeline: &str, status: &ClickstreamPipelineStatus) {
        self.conditions(namespace, pipeline, &status.conditions);
        self.change(namespace, pipeline, |known| {
            known.targets = status
                .targets
                .iter()
                .map(|target| Target {
                    name: target.name.clone(),
                    lag: target.lag,
                    wanted: target.replicas,
                    ready: target.ready_replicas,
                    unowned: None,
                    migration: None,
                })
                .collect();
        });
    }

    /// What was found out of targets besides: partitions that no processor has, if that is known,
    /// and how far the migration is.
    pub fn targets<'t>(
        &self,
        namespace: &str,
        pipeline: &str,
        targets: impl Iterator<Item = (&'t str, Option<i64>, &'static str)>,
    ) {
        self.change(namespace, pipeline, |known| {
            for (name, unowned, migration) in targets {
                let mut targets = known.targets.iter_mut();
                if let Some(target) = targets.find(|target| target.name == name) {
                    target.unowned = unowned;
                    target.migration = Some(migration);
                }
            }
        });
    }

    /// The conditions alone.
    pub fn conditions(&self, namespace: &str, pipeline: &str, conditions: &[Condition]) {
        let held = conditions.iter().filter_map(|condition| {
            let kind = ConditionType::ALL
                .iter()
                .find(|kind| condition.type_ == **kind)?;
            let (status, _) = STATUSES.iter().find(|(_, api)| *api == condition.status)?;
            Some((kind.as_str(), *status))
        });
        let held: Vec<_> = held.collect();
        let since = |kind: ConditionType| {
            let mut holding = conditions.iter();
            let held = holding.find(|held| held.type_ == kind && held.status == "True");
            held.map(|held| seconds(held.last_transition_time.0))
        };
        self.change(namespace, pipeline, |known| {
            known.conditions = held;
            known.suspended_since = since(ConditionType::Suspended);
            known.paused_since = since(ConditionType::Paused);
        });
    }

    /// A reconcile failed, so many in a row.
    pub fn failed(&self, namespace: &str, pipeline: &str, failures: u32) {
        self.change(namespace, pipeline, |known| known.failures = failures);
    }

    /// A reconcile ended well.
    pub fn succeeded(&self, namespace: &str, pipeline: &str) {
        self.change(namespace, pipeline, |known| {
            known.failures = 0;
            known.last_success = Some(seconds(jiff::Timestamp::now()));
        });
    }

    /// Of a pipeline that is gone nothing is told: a reconcile may end after that.
    fn change(&self, namespace: &str, pipeline: &str, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.0.known.lock().get_mut(&key(namespace, pipeline)) {
            change(known);
        }
    }
}

impl Collector for Pipelines {
    fn desc(&self) -> Vec<&Desc> {
        self.0
            .described
            .all()
            .into_iter()
            .flat_map(Collector::desc)
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut rows = Rows::default();
        for ((namespace, pipeline), known) in self.0.known.lock().iter() {
            rows.add(namespace, pipeline, known);
        }
        let described = self.0.described.all().into_iter();
        let families = described.flat_map(Collector::collect);
        families
            .zip(rows.all())
            .map(|(mut family, rows)| {
                family.set_metric(rows);
                family
            })
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

/// The families.
struct Series {
    condition: IntGaugeVec,
    suspended_since: GaugeVec,
    paused_since: GaugeVec,
    failures: IntGaugeVec,
    last_success: GaugeVec,
    lag: IntGaugeVec,
    wanted: IntGaugeVec,
    ready: IntGaugeVec,
    unowned: IntGaugeVec,
    migration: IntGaugeVec,
}

impl Series {
    fn new() -> prometheus::Result<Self> {
        let pipeline = ["namespace", "pipeline"];
        let target = ["namespace", "pipeline", "target"];
        let whole = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        Ok(Self {
            condition: whole(
                "clickstream_pipeline_condition",
                "1 for the status (true, false, unknown) that a condition of the pipeline has, 0 for the others. Alert on Ready that is not true for ten minutes, and on DataLossDetected.",
                &["namespace", "pipeline", "type", "status"],
            )?,
            suspended_since: GaugeVec::new(
                Opts::new(
                    "clickstream_pipeline_suspended_since_timestamp_seconds",
                    "Since when the pipeline is suspended, in seconds since 1970; absent unless it is. Alert when that is longer than a day: Kafka's retention goes on.",
                ),
                &pipeline,
            )?,
            paused_since: GaugeVec::new(
                Opts::new(
                    "clickstream_pipeline_paused_since_timestamp_seconds",
                    "Since when an annotation keeps the operator from changing anything of the pipeline, in seconds since 1970; absent unless it does. Alert when that is longer than a day: no change of the spec, no release and no rotated Secret reaches the pods meanwhile.",
                ),
                &pipeline,
            )?,
            failures: whole(
                "clickstream_pipeline_reconcile_failures",
                "Reconciles of the pipeline that have failed in a row; 0 when the last one ended well. Alert at 5.",
                &pipeline,
            )?,
            last_success: GaugeVec::new(
                Opts::new(
                    "clickstream_pipeline_last_success_timestamp_seconds",
                    "When a reconcile of the pipeline last ended well, in seconds since 1970.",
                ),
                &pipeline,
            )?,
            lag: whole(
                "clickstream_pipeline_lag_records",
                "Records behind the end of the log, over the partitions of a target, as the operator last heard; absent while it is not known.",
                &target,
            )?,
            wanted: whole(
                "clickstream_pipeline_processors_wanted",
                "Processors that a target should have.",
                &target,
            )?,
            ready: whole(
                "clickstream_pipeline_processors_ready",
                "Processors of a target that are ready. Alert when it is below the wanted number for ten minutes.",
                &target,
            )?,
            unowned: whole(
                "clickstream_pipeline_partitions_unowned",
                "Partitions of a target that none of the processors that answer has; absent while none answers, or while it is not known how many there are. Alert when it is over 0 for ten minutes.",
                &target,
            )?,
            migration: whole(
                "clickstream_pipeline_migration_state",
                "1 for how far the migration of a target is, 0 for the other states: done, running, retrying (an attempt has failed), blocked (its pod does not start), failed (the next attempt waits), no_secret, queued (other pipelines roll first), paused. Alert on retrying, blocked, failed and no_secret for a quarter of an hour.",
                &["namespace", "pipeline", "target", "state"],
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 10] {
        [
            &self.condition,
            &self.suspended_since,
            &self.paused_since,
            &self.failures,
            &self.last_success,
            &self.lag,
            &self.wanted,
            &self.ready,
            &self.unowned,
            &self.migration,
        ]
    }
}

/// The series of each family. A gauge of the library carries a description of its own, 1 KiB of it:
/// with 1,000 pipelines that would be 50 MiB for each time that somebody asks.
#[derive(Default)]
struct Rows {
    condition: Vec<Metric>,
    suspended_since: Vec<Metric>,
    paused_since: Vec<Metric>,
    failures: Vec<Metric>,
    last_success: Vec<Metric>,
    lag: Vec<Metric>,
    wanted: Vec<Metric>,
    ready: Vec<Metric>,
    unowned: Vec<Metric>,
    migration: Vec<Metric>,
}

impl Rows {
    /// In the order of [`Series::all`].
    fn all(self) -> [Vec<Metric>; 10] {
        [
            self.condition,
            self.suspended_since,
            self.paused_since,
            self.failures,
            self.last_success,
            self.lag,
            self.wanted,
            self.ready,
            self.unowned,
            self.migration,
        ]
    }

    fn add(&mut self, namespace: &str, pipeline: &str, known: &Known) {
        let place = [("namespace", namespace), ("pipeline", pipeline)];
        let [of_namespace, of_pipeline] = place;
        for (kind, held) in &known.conditions {
            for (status, _) in STATUSES {
                let labels = [
                    of_namespace,
                    of_pipeline,
                    ("status", status),
                    ("type", kind),
                ];
                let is_held = f64::from(u8::from(status == *held));
                self.condition.push(row(&labels, is_held));
            }
        }
        for (rows, number) in [
            (&mut self.suspended_since, known.suspended_since),
            (&mut self.paused_since, known.paused_since),
            (&mut self.failures, Some(f64::from(known.failures))),
            (&mut self.last_success, known.last_success),
        ] {
            rows.extend(number.map(|number| row(&place, number)));
        }
        for target in &known.targets {
            let of_target = ("target", target.name.as_str());
            let place = [of_namespace, of_pipeline, of_target];
            for (rows, number) in [
                (&mut self.lag, target.lag.map(float)),
                (&mut self.wanted, target.wanted.map(f64::from)),
                (&mut self.ready, target.ready.map(f64::from)),
                (&mut self.unowned, target.unowned.map(float)),
            ] {
                rows.extend(number.map(|number| row(&place, number)));
            }
            if let Some(now) = target.migration {
                for state in STATES {
                    let labels = [of_namespace, of_pipeline, ("state", state), of_target];
                    let is_now = f64::from(u8::from(state == now));
                    self.migration.push(row(&labels, is_now));
                }
            }
        }
    }
}

/// A series. Labels are in the order of their names, as the library has them.
fn row(labels: &[(&str, &str)], number: f64) -> Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(number);
    let mut metric = Metric::from_gauge(gauge);
    let labels = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    metric.set_label(labels.collect());
    metric
}

#[expect(
    clippy::cast_precision_loss,
    reason = "records beyond 2^53 are as good as 2^53"
)]
fn float(number: i64) -> f64 {
    number as f64
}

fn key(namespace: &str, pipeline: &str) -> (String, String) {
    (namespace.to_owned(), pipeline.to_owned())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of this century are exact"
)]
fn seconds(time: jiff::Timestamp) -> f64 {
    time.as_second() as f64
}
