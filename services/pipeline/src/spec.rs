//! The `ClickstreamPipeline` resource: the one document that describes a pipeline, with or without Kubernetes.
//!
//! ```text
//! YAML -> from_yaml -> ClickstreamPipeline -> validate -> semantic()             what decides verdicts
//!                                                      -> client_properties()    how Kafka is reached
//!                                                      -> connection_settings()  how PostgreSQL is reached
//! ```
//!
//! Each field says what a change of it does: *live* changes act at once, *rolling* ones restart the processors one by
//! one, *refused* ones need another way.

mod connection;
mod document;
pub mod events;
mod ip_range;
mod kafka;
mod pod;
mod postgres_uri;
mod processing;
mod quantity;
mod rules;
#[cfg(feature = "schema")]
mod schema;
mod secret;
mod secret_keys;
pub mod semantic;
mod target;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use connection::{ConnectionSecret, ConnectionSpec, PostgresSettings, SslMode};
pub use document::{OPERATOR, SpecError, WRITTEN_BY, in_words};
pub use events::{
    AcquisitionPolicy, BotsPolicy, EventIds, EventRules, EventsSpec, OptionalFields, PageSpec,
    Preset, PropertiesPolicy, PropertyLimitsSpec, RulesVersion, SchemaRegistryPrefix,
    TAKEN_COLUMN_NAMES,
};
pub use ip_range::{IpRange, NoIpRange};
pub use kafka::{
    KafkaAdmin, KafkaSasl, KafkaSpec, KafkaTls, KafkaUserSecret, SaslMechanism, TopicManagement,
    TopicSpec,
};
pub use pod::{PodSettings, PodTemplateSpec, PullSecretSpec, ResourcesSpec};
pub use processing::{
    DeletionPolicy, DeletionPolicySpec, FlushSpec, HeartbeatSpec, LateEventsSpec, ProcessorSpec,
    ProducerSpec, WatermarkSpec, WindowSpec,
};
pub use quantity::{Bytes, Duration, QuantityError};
pub use rules::text_without_rules;
pub use secret::{CaSecret, ClientCertSecret, Redacted, SecretError, Secrets, or};
pub use secret_keys::SecretKeys;
pub use semantic::{LatePolicy, SemanticSpec};
pub use target::{Durability, MigrationSpec, RetentionSpec, TargetSpec};
pub use validate::Problem;

use validate::At;

/// The API group: the one place it is written down.
pub const GROUP: &str = "clickstream.dev";
/// The version of the API.
pub const VERSION: &str = "v1alpha1";
/// The kind of the resource.
pub const KIND: &str = "ClickstreamPipeline";

/// A pipeline from Kafka topics into PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClickstreamPipeline {
    /// `clickstream.dev/v1alpha1`.
    pub api_version: String,
    /// `ClickstreamPipeline`.
    pub kind: String,
    /// The pipeline's name and namespace.
    pub metadata: Metadata,
    /// What the pipeline should be.
    pub spec: PipelineSpec,
}

/// The pipeline's name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Name of the pipeline; together with the namespace it owns the schemas of its targets.
    pub name: String,
    /// Namespace of the pipeline and of all its Secrets. Default `default`.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Labels, without meaning to the pipeline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, without meaning to the pipeline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(feature = "schema")]
const PIPELINE_RULES: [schema::Rule; 9] = [
    schema::Rule {
        rule: "(has(oldSelf.topics) ? oldSelf.topics.map(t, t.name) : ['clickstream']).all(old, (has(self.topics) ? self.topics.map(t, t.name) : ['clickstream']).exists(new, new == old))",
        message: "a topic stays once it is listed, since progress is kept by its name: list the other topic beside it, or delete the pipeline (topics and tables stay by default) and apply it anew",
        field: ".topics",
    },
    schema::Rule {
        rule: "!has(self.heartbeat) || !has(self.heartbeat.enabled) || !self.heartbeat.enabled || !has(self.topics) || self.topics.all(t, !has(t.management) || t.management != 'External')",
        message: "nothing is written to topics of others: set it to false, or make every topic Managed",
        field: ".heartbeat.enabled",
    },
    schema::Rule {
        rule: "!has(self.producer) || !has(self.producer.enabled) || !self.producer.enabled || !has(self.events) || !has(self.events.preset)",
        message: "its events have this project's own form, which cannot be read with events.preset: set it to false, or leave that out",
        field: ".producer.enabled",
    },
    schema::Rule {
        rule: "!has(self.producer) || !has(self.producer.enabled) || !self.producer.enabled || !has(self.events) || !has(self.events.envelope)",
        message: "its events have this project's own form, which cannot be read with events.envelope: set it to false, or leave that out",
        field: ".producer.enabled",
    },
    schema::Rule {
        rule: "!has(self.producer) || !has(self.producer.enabled) || !self.producer.enabled || !has(self.events) || !has(self.events.fields) || ['event_id', 'user_id', 'event_ts', 'url'].all(key, !(key in self.events.fields) || self.events.fields[key].exists(pointer, pointer == '/' + key || pointer == '$/' + key) || (has(self.events.constants) && key in self.events.constants) || (key == 'event_id' && has(self.events.id) && self.events.id == 'FromFields'))",
        message: "its events have this project's own form, which cannot be read with these events.fields: set it to false, or add a pointer such as /url to event_id, user_id, event_ts and url where they are listed",
        field: ".producer.enabled",
    },
    schema::Rule {
        rule: "!has(self.podTemplate) || !has(self.podTemplate.volumeMounts) || self.podTemplate.volumeMounts.all(m, has(self.podTemplate.volumes) && self.podTemplate.volumes.exists(v, v.name == m.name))",
        message: NO_VOLUME,
        field: ".podTemplate.volumeMounts",
    },
    schema::Rule {
        rule: "!has(self.processor) || !has(self.processor.podTemplate) || !has(self.processor.podTemplate.volumeMounts) || self.processor.podTemplate.volumeMounts.all(m, (has(self.processor.podTemplate.volumes) && self.processor.podTemplate.volumes.exists(v, v.name == m.name)) || (has(self.podTemplate) && has(self.podTemplate.volumes) && self.podTemplate.volumes.exists(v, v.name == m.name)))",
        message: NO_VOLUME,
        field: ".processor.podTemplate.volumeMounts",
    },
    schema::Rule {
        rule: "!has(self.producer) || !has(self.producer.podTemplate) || !has(self.producer.podTemplate.volumeMounts) || self.producer.podTemplate.volumeMounts.all(m, (has(self.producer.podTemplate.volumes) && self.producer.podTemplate.volumes.exists(v, v.name == m.name)) || (has(self.podTemplate) && has(self.podTemplate.volumes) && self.podTemplate.volumes.exists(v, v.name == m.name)))",
        message: NO_VOLUME,
        field: ".producer.podTemplate.volumeMounts",
    },
    schema::Rule {
        rule: "self.targets.all(t, !has(t.migration) || !has(t.migration.podTemplate) || !has(t.migration.podTemplate.volumeMounts) || t.migration.podTemplate.volumeMounts.all(m, (has(t.migration.podTemplate.volumes) && t.migration.podTemplate.volumes.exists(v, v.name == m.name)) || (has(self.processor) && has(self.processor.podTemplate) && has(self.processor.podTemplate.volumes) && self.processor.podTemplate.volumes.exists(v, v.name == m.name)) || (has(self.podTemplate) && has(self.podTemplate.volumes) && self.podTemplate.volumes.exists(v, v.name == m.name))))",
        message: NO_VOLUME,
        field: ".targets",
    },
];

#[cfg(feature = "schema")]
const NO_VOLUME: &str =
    "a mount names no volume: add it under volumes, here or in spec.podTemplate";

#[cfg(feature = "schema")]
const TOPIC_LIST_RULES: [schema::Rule; 1] = [schema::Rule {
    rule: "self.all(one, self.exists_one(other, other.name.replace('.', '_') == one.name.replace('.', '_')))",
    message: "a name is listed twice (`.` and `_` count as the same); remove one",
    field: "",
}];

// `connection` means the same database as another one by host, port and name, or else by the same parts and Secret
#[cfg(feature = "schema")]
const TARGET_LIST_RULES: [schema::Rule; 1] = [schema::Rule {
    rule: "self.all(a, self.exists_one(b, (has(a.schema) ? a.schema : 'clickstream') == (has(b.schema) ? b.schema : 'clickstream') && (has(a.connection.host) ? a.connection.host : '') == (has(b.connection.host) ? b.connection.host : '') && (has(a.connection.port) ? a.connection.port : 5432) == (has(b.connection.port) ? b.connection.port : 5432) && (has(a.connection.database) ? a.connection.database : '') == (has(b.connection.database) ? b.connection.database : '') && ((has(a.connection.host) && has(a.connection.database)) || (has(a.connection.secret) ? a.connection.secret.name : '') == (has(b.connection.secret) ? b.connection.secret.name : ''))))",
    message: "two targets write the same schema of the same database; give each its own",
    field: "",
}];

/// What a pipeline should be. Only `kafka` and `targets` must be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&PIPELINE_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineSpec {
    /// How to reach Kafka. Rolling.
    pub kafka: KafkaSpec,
    /// The topics with click events, 1 to 16; more may be added: Rolling. Removing one is Refused. Default: one managed
    /// topic `clickstream` with 4 partitions.
    #[serde(default = "default_topics")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 16),
            extend(
                "x-kubernetes-list-type" = "map",
                "x-kubernetes-list-map-keys" = ["name"],
                "x-kubernetes-validations" = schema::rules(&TOPIC_LIST_RULES)
            )
        )
    )]
    pub topics: Vec<TopicSpec>,
    /// The windows that clicks are counted in. Refused once a schema holds windows.
    #[serde(default)]
    pub window: WindowSpec,
    /// How far event time is known to have come. Rolling, except where a field says otherwise.
    #[serde(default)]
    pub watermark: WatermarkSpec,
    /// What happens to events that come after their window. Live.
    #[serde(default)]
    pub late_events: LateEventsSpec,
    /// How records are read as events. Live.
    // left out where it is the default: processors of the first release refuse fields that they do not know
    #[serde(default, skip_serializing_if = "EventsSpec::is_default")]
    pub events: EventsSpec,
    /// Heartbeats, which measure the way to the tables all the time. Rolling. Default: none are sent.
    #[serde(default)]
    pub heartbeat: HeartbeatSpec,
    /// The PostgreSQL schemas that the events end up in, 1 to 8, each with processors of its own. One may be added or
    /// removed: Live. A removed one's tables stay.
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(min = 1, max = 8),
            extend(
                "x-kubernetes-list-type" = "map",
                "x-kubernetes-list-map-keys" = ["name"],
                "x-kubernetes-validations" = schema::rules(&TARGET_LIST_RULES)
            )
        )
    )]
    pub targets: Vec<TargetSpec>,
    /// Image of the processors, which also runs the migrations. Where it is named, changes of `watermark`, `lateEvents`, `events` and
    /// `processor.maxEventBytes` replace pods as well, since they may be of a release that reads its document once. Rolling.
    /// Default: the operator's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 512), regex(pattern = schema::IMAGE))
    )]
    pub image: Option<String>,
    /// What all pods of the pipeline have beyond what the operator gives them: processors, producers and migrations. The component's
    /// own `podTemplate` goes over it: maps are merged by key, lists of named things by name, and everything else is the component's
    /// where it says anything. Rolling. Default: nothing.
    #[serde(default, skip_serializing_if = "PodTemplateSpec::is_default")]
    pub pod_template: PodTemplateSpec,
    /// The processors. Rolling, except where a field says otherwise.
    #[serde(default)]
    pub processor: ProcessorSpec,
    /// The built-in producer of synthetic clicks. Rolling, except where a field says otherwise.
    #[serde(default)]
    pub producer: ProducerSpec,
    /// Stops processors and producer; progress and tables stay as they are. Live. Default `false`.
    #[serde(default)]
    pub suspend: bool,
    /// What happens to topics and tables when the pipeline is deleted. Live.
    #[serde(default)]
    pub deletion_policy: DeletionPolicySpec,
}

impl ClickstreamPipeline {
    /// The part of the spec that decides verdicts.
    #[must_use]
    pub fn semantic(&self) -> SemanticSpec {
        self.spec.semantic()
    }

    /// Checks every rule and returns all broken ones at once.
    ///
    /// # Errors
    /// One [`Problem`] per broken rule, in the order of the document.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = self.problems();
        if problems.is_empty() {
            return Ok(());
        }
        Problem::name_entries(&mut problems, self);
        Err(problems)
    }

    /// Every broken rule, without the names of what it is broken in.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut at = At::top(&mut problems);
        if self.api_version != format!("{GROUP}/{VERSION}") {
            at.field("apiVersion")
                .problem(format!("write {GROUP}/{VERSION}"));
        }
        if self.kind != KIND {
            at.field("kind").problem(format!("write {KIND}"));
        }
        self.metadata.check(&mut at.field("metadata"));
        self.spec.check(&mut at.field("spec"));
        problems
    }
}

impl Metadata {
    fn check(&self, at: &mut At<'_>) {
        // with a target's 20 characters and two dashes this leaves a Deployment's name room inside a label's 63
        // a Service is named after it, and those begin with a letter
        if !secret::is_dns_label(&self.name, 40)
            || self.name.starts_with(|c: char| c.is_ascii_digit())
        {
            at.field("name").problem(
                "use 1 to 40 lowercase letters, digits and inner `-`, beginning with a letter",
            );
        }
        if !secret::is_dns_label(&self.namespace, 63) {
            at.field("namespace")
                .problem("use 1 to 63 lowercase letters, digits and inner `-`");
        }
    }
}

impl PipelineSpec {
    /// The part of the spec that decides verdicts.
    #[must_use]
    pub fn semantic(&self) -> SemanticSpec {
        SemanticSpec {
            window_micros: self.window.size.micros(),
            delay_micros: self.watermark.delay.micros(),
            max_future_skew_micros: self.watermark.max_future_skew.micros(),
            allowed_lateness_micros: self.late_events.allowed_lateness.micros(),
            late_policy: self.late_events.policy,
            max_event_bytes: self.processor.max_event_bytes.as_len(),
            events: self.events.rules(),
        }
    }

    /// Number of processors for a target.
    #[must_use]
    pub fn replicas_of(&self, target: &TargetSpec) -> u32 {
        target.replicas.unwrap_or(self.processor.replicas)
    }

    fn check(&self, at: &mut At<'_>) {
        self.kafka.check(&mut at.field("kafka"));
        kafka::check_topics(&self.topics, &mut at.field("topics"));
        self.window.check(&mut at.field("window"));
        self.watermark.check(&mut at.field("watermark"));
        self.late_events.check(&mut at.field("lateEvents"));
        self.events.check(&mut at.field("events"));
        self.heartbeat
            .check(&self.topics, &mut at.field("heartbeat"));
        target::check_targets(&self.targets, &mut at.field("targets"));
        check_image(self.image.as_deref(), &mut at.field("image"));
        self.processor.check(&mut at.field("processor"));
        let mut producer = at.field("producer");
        if let Some(rule) = self.events.hides_producer()
            && self.producer.enabled
        {
            producer.field("enabled").problem(format!(
                "its events have this project's own form, which cannot be read with events.{rule}: \
                 set it to false, or leave that out"
            ));
        }
        self.producer.check(&mut producer);
        self.check_pods(at);
    }
}

/// The characters a reference may have, not its grammar: the node that pulls it knows that.
fn check_image(image: Option<&str>, at: &mut At<'_>) {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b':' | b'@' | b'_');
    if image.is_some_and(|image| {
        image.len() > 512
            || !image.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !image.bytes().all(allowed)
    }) {
        at.problem("write an image reference such as registry.example.com/clickstream:1.0.0");
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_topics() -> Vec<TopicSpec> {
    vec![TopicSpec::default()]
}

#[cfg(test)]
mod tests;
