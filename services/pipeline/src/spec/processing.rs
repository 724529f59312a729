//! What happens between the log and the tables: windows, watermarks, late events, and who does the work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kafka::{TopicManagement, TopicSpec};
use super::pod::{PodSettings, PodTemplateSpec, PullSecretSpec, ResourcesSpec};
use super::quantity::{Bytes, Duration};
use super::semantic::LatePolicy;
use super::validate::At;

#[cfg(feature = "schema")]
use super::schema;

/// The windows that clicks are counted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WindowSpec {
    /// Length of a window; windows begin at midnight UTC and never cross it, so a day must be a whole number of them.
    /// Refused by the operator once a schema holds windows: make a second pipeline with a schema of its own instead. 1s to 24h. Default `1m`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::window())))]
    pub size: Duration,
}

/// How far event time is known to have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WatermarkSpec {
    /// How far the watermark stays behind the event times seen: the disorder that is expected. A larger delay makes
    /// windows final later. Live. At most 24h. Default `10s`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("0s", "24h"))))]
    pub delay: Duration,
    /// How long a partition at the end of its log may be silent before it stops holding finality back. It decides no
    /// event's verdict. Rolling. 1s to 24h. Default `30s`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("1s", "24h"))))]
    pub idle_timeout: Duration,
    /// How far an event may be dated after its record; beyond it the event is rejected. Live. At most 24h. Default `5m`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("0s", "24h"))))]
    pub max_future_skew: Duration,
}

/// What happens to events that come after their window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LateEventsSpec {
    /// How long after its end, in event time, a window still takes events. More makes windows final later, and open
    /// windows are held in memory. Live. At most 744h, a month. Default `10m`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("0s", "744h"))))]
    pub allowed_lateness: Duration,
    /// What happens to events later than that. Live. Default `Merge`.
    // left out of what processors are given where it is the default, which theirs may differ from: a pipeline that is pinned
    // to the first release, which does not know Merge, goes on as it was
    #[serde(skip_serializing_if = "LatePolicy::is_default")]
    pub policy: LatePolicy,
}

/// Records that the processors send to the topics themselves, so that the time from produce to commit is known also while
/// no traffic comes. They have no value, and count as skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeartbeatSpec {
    /// Whether each processor sends them to the partitions that it holds. It needs the right to write the topics, and is for
    /// topics that are `Managed`. Rolling. Default `false`.
    pub enabled: bool,
    /// Time between two heartbeats of a partition. Each adds about 100 bytes to the log. Rolling. 1s to 1h. Default `10s`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("1s", "1h"))))]
    pub interval: Duration,
}

#[cfg(feature = "schema")]
const PROCESSOR_RULES: [schema::Rule; 1] = [schema::Rule {
    rule: "quantity(has(self.flush) && has(self.flush.maxBytes) ? string(self.flush.maxBytes) : '16Mi').compareTo(quantity(has(self.maxEventBytes) ? string(self.maxEventBytes) : '64Ki')) >= 0",
    message: "smaller than one event may be: raise flush.maxBytes, or lower maxEventBytes",
    field: ".flush.maxBytes",
}];

/// The processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&PROCESSOR_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProcessorSpec {
    /// Number of processors per target; more than there are partitions are spares. It is what the scale subresource
    /// scales, so a HorizontalPodAutoscaler may own it. Live. 1 to 1000; to stop them all, set `suspend`. Default 2.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub replicas: u32,
    /// Records behind the end of the log from which on the pipeline counts as lagging, summed over a target's
    /// partitions. It changes a condition only. Live. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 1, max = 1_000_000_000_000_u64))
    )]
    pub lag_target: Option<u64>,
    /// Memory of the filter that recognises surely new events, per processor. More keeps long histories fast; it
    /// never changes a result. Rolling. 1Mi to 16Gi. Default `32Mi`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::holding("1Mi", "16Gi"))))]
    pub filter_memory: Bytes,
    /// Longer records are rejected, in bytes. Live. 1Ki to 16Mi. Default `64Ki`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::holding("1Ki", "16Mi"))))]
    pub max_event_bytes: Bytes,
    /// When a transaction is full. Rolling.
    pub flush: FlushSpec,
    /// CPU, memory and other resources of each processor, and of migrations. Rolling. Default: chosen by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// The processors' pods, and those of migrations unless theirs say otherwise, beyond what `spec.podTemplate` says of all. Rolling. Default: nothing.
    #[serde(skip_serializing_if = "PodTemplateSpec::is_default")]
    pub pod_template: PodTemplateSpec,
    /// Deprecated: `podTemplate.labels`, which goes over this. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::labels"))]
    pub labels: BTreeMap<String, String>,
    /// Deprecated: `podTemplate.annotations`, which goes over this. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::annotations"))]
    pub annotations: BTreeMap<String, String>,
    /// Deprecated: `podTemplate.nodeSelector`, which goes over this. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::node_labels"))]
    pub node_selector: BTreeMap<String, String>,
    /// Deprecated: `podTemplate.tolerations`, which goes before this. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Vec<k8s_openapi::api::core::v1::Toleration>", length(max = 16))
    )]
    pub tolerations: Vec<Value>,
    /// Deprecated: `podTemplate.affinity`, which goes before this. Rolling. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<k8s_openapi::api::core::v1::Affinity>")
    )]
    pub affinity: Option<Value>,
    /// Deprecated: `podTemplate.topologySpreadConstraints`, which goes before this. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Vec<k8s_openapi::api::core::v1::TopologySpreadConstraint>",
            length(max = 16)
        )
    )]
    pub topology_spread_constraints: Vec<Value>,
    /// Deprecated: `podTemplate.priorityClassName`, which goes before this. Rolling. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub priority_class_name: Option<String>,
    /// Deprecated: `podTemplate.imagePullSecrets`, which are added to these. Rolling. Default: the operator's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(max = 16),
            extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
        )
    )]
    pub image_pull_secrets: Vec<PullSecretSpec>,
}

/// When a transaction is full. Transactions follow each other without a timer; these only bound them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FlushSpec {
    /// Most records in a transaction. Rolling. 1 to 1000000. Default 60000.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000)))]
    pub max_rows: u32,
    /// Most payload bytes in a transaction; never less than `maxEventBytes`. Rolling. 64Ki to 512Mi. Default `16Mi`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::holding("64Ki", "512Mi"))))]
    pub max_bytes: Bytes,
}

/// The built-in producer of synthetic clicks, for trials and load tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProducerSpec {
    /// Whether it runs. Live. Default `false`.
    pub enabled: bool,
    /// Image of the producer. Rolling. Default: the operator's own release.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 512), regex(pattern = schema::IMAGE)))]
    pub image: Option<String>,
    /// Events per second. Rolling. 1 to 1000000. Default 83, five thousand a minute.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000)))]
    pub rate: u32,
    /// Number of different users. Rolling. 1 to 1000000000. Default 10000.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000_000)))]
    pub users: u64,
    /// Seed of everything random; the same seed writes the same events. Rolling. Default 42.
    #[cfg_attr(
        feature = "schema",
        schemars(range(min = 0, max = 9_007_199_254_740_991_u64))
    )]
    pub seed: u64,
    /// How far events are out of order, at most. Rolling. At most 1h. Default `5s`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = schema::lasting("0s", "1h"))))]
    pub disorder: Duration,
    /// Share of events that are sent twice, 0 to 1. Rolling. Default 0.02.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub duplicates: f64,
    /// Share of events that come too late, 0 to 1. Rolling. Default 0.001.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub late: f64,
    /// Share of records that are no valid event, 0 to 1. Rolling. Default 0.01.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub malformed: f64,
    /// CPU, memory and other resources of each producer. Rolling. Default: chosen by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// The producer's pods, beyond what `spec.podTemplate` says of all. Rolling. Default: nothing.
    #[serde(skip_serializing_if = "PodTemplateSpec::is_default")]
    pub pod_template: PodTemplateSpec,
    /// Deprecated: `podTemplate.labels`, which goes over this. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::labels"))]
    pub labels: BTreeMap<String, String>,
    /// Deprecated: `podTemplate.annotations`, which goes over this. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::annotations"))]
    pub annotations: BTreeMap<String, String>,
    /// Deprecated: `podTemplate.nodeSelector`, which goes over this. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::node_labels"))]
    pub node_selector: BTreeMap<String, String>,
    /// Deprecated: `podTemplate.tolerations`, which goes before this. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Vec<k8s_openapi::api::core::v1::Toleration>", length(max = 16))
    )]
    pub tolerations: Vec<Value>,
    /// Deprecated: `podTemplate.affinity`, which goes before this. Rolling. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<k8s_openapi::api::core::v1::Affinity>")
    )]
    pub affinity: Option<Value>,
    /// Deprecated: `podTemplate.topologySpreadConstraints`, which goes before this. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Vec<k8s_openapi::api::core::v1::TopologySpreadConstraint>",
            length(max = 16)
        )
    )]
    pub topology_spread_constraints: Vec<Value>,
    /// Deprecated: `podTemplate.priorityClassName`, which goes before this. Rolling. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub priority_class_name: Option<String>,
    /// Deprecated: `podTemplate.imagePullSecrets`, which are added to these. Rolling. Default: the operator's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(max = 16),
            extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
        )
    )]
    pub image_pull_secrets: Vec<PullSecretSpec>,
}

/// What happens to things outside Kubernetes when the pipeline is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeletionPolicySpec {
    /// The topics the pipeline created; adopted and external ones always stay. Live. Default `Retain`.
    pub topics: DeletionPolicy,
    /// The tables and the rows in them. Live. Default `Retain`.
    pub tables: DeletionPolicy,
}

/// What happens to a thing when the pipeline is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DeletionPolicy {
    /// It stays, and a pipeline of the same name continues with it.
    #[default]
    Retain,
    /// It is deleted, with everything in it.
    Delete,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self {
            size: Duration::from_secs(60),
        }
    }
}

impl Default for WatermarkSpec {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            max_future_skew: Duration::from_secs(300),
        }
    }
}

impl Default for LateEventsSpec {
    fn default() -> Self {
        Self {
            allowed_lateness: Duration::from_secs(600),
            policy: LatePolicy::Merge,
        }
    }
}

impl Default for HeartbeatSpec {
    fn default() -> Self {
        Self {
            enabled: false,
            interval: Duration::from_secs(10),
        }
    }
}

impl Default for ProcessorSpec {
    fn default() -> Self {
        Self {
            replicas: 2,
            lag_target: None,
            filter_memory: Bytes::from_mebi(32),
            max_event_bytes: Bytes::new(65_536),
            flush: FlushSpec::default(),
            resources: None,
            pod_template: PodTemplateSpec::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            priority_class_name: None,
            image_pull_secrets: Vec::new(),
        }
    }
}

impl Default for FlushSpec {
    fn default() -> Self {
        Self {
            max_rows: 60_000,
            max_bytes: Bytes::from_mebi(16),
        }
    }
}

impl Default for ProducerSpec {
    fn default() -> Self {
        Self {
            enabled: false,
            image: None,
            rate: 83,
            users: 10_000,
            seed: 42,
            disorder: Duration::from_secs(5),
            duplicates: 0.02,
            late: 0.001,
            malformed: 0.01,
            resources: None,
            pod_template: PodTemplateSpec::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
            priority_class_name: None,
            image_pull_secrets: Vec::new(),
        }
    }
}

impl WindowSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        let day = Duration::from_hours(24);
        let mut at = at.field("size");
        if self.size < Duration::from_secs(1) || self.size > day {
            at.within(self.size, Duration::from_secs(1)..=day);
        } else if day.micros() % self.size.micros() != 0 {
            at.problem("a day must be a whole number of windows: choose a divisor of 24h, such as 1m, 5m or 1h");
        }
    }
}

impl WatermarkSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        let day = Duration::from_hours(24);
        at.field("delay").within(self.delay, Duration::ZERO..=day);
        at.field("idleTimeout")
            .within(self.idle_timeout, Duration::from_secs(1)..=day);
        at.field("maxFutureSkew")
            .within(self.max_future_skew, Duration::ZERO..=day);
    }
}

impl LateEventsSpec {
    pub(super) fn check(&self, at: &mut At<'_>) {
        // a month: open windows are held in memory for as long
        at.field("allowedLateness").within(
            self.allowed_lateness,
            Duration::ZERO..=Duration::from_hours(744),
        );
    }
}

impl HeartbeatSpec {
    pub(super) fn check(&self, topics: &[TopicSpec], at: &mut At<'_>) {
        at.field("interval").within(
            self.interval,
            Duration::from_secs(1)..=Duration::from_hours(1),
        );
        let external = |topic: &&TopicSpec| topic.management == TopicManagement::External;
        if self.enabled
            && let Some(topic) = topics.iter().find(external)
        {
            at.field("enabled").problem(format!(
                "topic {} is External, and nothing is written to topics of others: set it to false, or make the topic Managed",
                topic.name
            ));
        }
    }
}

/// The deprecated fields of pods as a template.
macro_rules! former {
    ($part:expr) => {
        PodTemplateSpec {
            labels: $part.labels.clone(),
            annotations: $part.annotations.clone(),
            node_selector: $part.node_selector.clone(),
            tolerations: $part.tolerations.clone(),
            affinity: $part.affinity.clone(),
            topology_spread_constraints: $part.topology_spread_constraints.clone(),
            priority_class_name: $part.priority_class_name.clone(),
            image_pull_secrets: $part.image_pull_secrets.clone(),
            ..PodTemplateSpec::default()
        }
    };
}

impl ProcessorSpec {
    /// What the fields say that pods had before there was a `podTemplate`.
    #[must_use]
    pub fn former_template(&self) -> PodTemplateSpec {
        former!(self)
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        check_replicas(self.replicas, &mut at.field("replicas"));
        if let Some(lag) = self.lag_target {
            at.field("lagTarget").within(lag, 1..=1_000_000_000_000);
        }
        at.field("filterMemory").within(
            self.filter_memory,
            Bytes::from_mebi(1)..=Bytes::from_mebi(16_384),
        );
        at.field("maxEventBytes").within(
            self.max_event_bytes,
            Bytes::new(1024)..=Bytes::from_mebi(16),
        );
        let mut flush = at.field("flush");
        flush
            .field("maxRows")
            .within(self.flush.max_rows, 1..=1_000_000);
        flush.field("maxBytes").within(
            self.flush.max_bytes,
            Bytes::new(65_536)..=Bytes::from_mebi(512),
        );
        if self.flush.max_bytes < self.max_event_bytes {
            flush
                .field("maxBytes")
                .problem("smaller than one event may be: raise it, or lower maxEventBytes");
        }
        PodSettings {
            resources: self.resources.as_ref(),
            template: self.former_template(),
        }
        .check(at);
    }
}

impl ProducerSpec {
    /// What the fields say that pods had before there was a `podTemplate`.
    #[must_use]
    pub fn former_template(&self) -> PodTemplateSpec {
        former!(self)
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        super::check_image(self.image.as_deref(), &mut at.field("image"));
        at.field("rate").within(self.rate, 1..=1_000_000);
        at.field("users").within(self.users, 1..=1_000_000_000);
        // 2^53 - 1: the largest integer that every reader of JSON takes as it is
        at.field("seed")
            .within(self.seed, 0..=9_007_199_254_740_991);
        at.field("disorder")
            .within(self.disorder, Duration::ZERO..=Duration::from_hours(1));
        for (field, share) in [
            ("duplicates", self.duplicates),
            ("late", self.late),
            ("malformed", self.malformed),
        ] {
            // written so that NaN is outside
            at.field(field).within(share, 0.0..=1.0);
        }
        PodSettings {
            resources: self.resources.as_ref(),
            template: self.former_template(),
        }
        .check(at);
    }
}

/// The bound protects the cluster from a slip of the hand.
pub(super) fn check_replicas(replicas: u32, at: &mut At<'_>) {
    at.within(replicas, 1..=1000);
}
