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
mod kafka;
mod postgres_uri;
mod processing;
mod quantity;
mod secret;
pub mod semantic;
mod target;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use connection::{ConnectionSecret, ConnectionSpec, PostgresSettings, SslMode};
pub use document::SpecError;
pub use kafka::{
    KafkaAdmin, KafkaSasl, KafkaSpec, KafkaTls, KafkaUserSecret, SaslMechanism, TopicManagement,
    TopicSpec,
};
pub use processing::{
    DeletionPolicy, DeletionPolicySpec, FlushSpec, LateEventsSpec, ProcessorSpec, ProducerSpec,
    WatermarkSpec, WindowSpec,
};
pub use quantity::{Bytes, Duration, QuantityError};
pub use secret::{CaSecret, ClientCertSecret, Redacted, SecretError, Secrets};
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

/// What a pipeline should be. Only `kafka` and `targets` must be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineSpec {
    /// How to reach Kafka.
    pub kafka: KafkaSpec,
    /// The topics with click events, 1 to 16. Default: one managed topic `clickstream` with 4 partitions.
    #[serde(default = "default_topics")]
    pub topics: Vec<TopicSpec>,
    /// The windows that clicks are counted in.
    #[serde(default)]
    pub window: WindowSpec,
    /// How far event time is known to have come.
    #[serde(default)]
    pub watermark: WatermarkSpec,
    /// What happens to events that come after their window.
    #[serde(default)]
    pub late_events: LateEventsSpec,
    /// The PostgreSQL schemas that the events end up in, 1 to 8.
    pub targets: Vec<TargetSpec>,
    /// Image of processors and producer. Rolling. Default: the operator's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The processors.
    #[serde(default)]
    pub processor: ProcessorSpec,
    /// The built-in producer of synthetic clicks.
    #[serde(default)]
    pub producer: ProducerSpec,
    /// Stops processors and producer; progress and tables stay as they are. Live. Default `false`.
    #[serde(default)]
    pub suspend: bool,
    /// What happens to topics and tables when the pipeline is deleted.
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
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Metadata {
    fn check(&self, at: &mut At<'_>) {
        // with a target's 20 characters and two dashes this leaves a Deployment's name room inside a label's 63
        if !secret::is_dns_label(&self.name, 40) {
            at.field("name")
                .problem("use 1 to 40 lowercase letters, digits and inner `-`");
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
        target::check_targets(&self.targets, &mut at.field("targets"));
        if self
            .image
            .as_deref()
            .is_some_and(|image| image.is_empty() || image.contains(char::is_whitespace))
        {
            at.field("image")
                .problem("write an image reference such as registry.example.com/clickstream:1.0.0");
        }
        self.processor.check(&mut at.field("processor"));
        self.producer.check(&mut at.field("producer"));
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
