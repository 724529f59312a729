//! The document that pods read: the pipeline itself, without what does not concern them and what
//! goes without saying, so that pods of another release can read it.

use clickstream_pipeline::spec::{
    ClickstreamPipeline, DeletionPolicySpec, EventsSpec, HeartbeatSpec, LateEventsSpec,
    MigrationSpec, PodTemplateSpec, ProcessorSpec, ProducerSpec, TargetSpec, TopicManagement,
    WatermarkSpec,
};
use clickstream_protocol::annotations::{CREATED_TOPICS, OPERATOR, WRITTEN_BY};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Child, Kind, labels, names};
use crate::controller::validate::ValidatedPipeline;

/// Key of the document.
pub const KEY: &str = "pipeline.yaml";

/// The ConfigMap of a Deployment's pods, and what of it replaces them.
pub struct Given {
    /// The ConfigMap.
    pub config: Child,
    /// What pods read at their start only: where it changes, they are replaced.
    pub at_start: Value,
    /// When they read the document.
    pub read: Read,
}

/// When pods read their document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// At their start.
    Once,
    /// Again and again: rules in it are followed while they run.
    Again,
}

/// The ConfigMap of a target's processors. An image that the spec names may be of a release that
/// reads its document once: what it is given never changes. Processors of the operator's own
/// release follow rules while they run, so their document changes in its place where nothing but
/// rules does.
pub fn of_target(pipeline: &ValidatedPipeline, target: &TargetSpec, created: &[String]) -> Given {
    let mut document = for_target(&pipeline.document, target);
    for target in &mut document.spec.targets {
        // what only a migration looks at
        target.migration = MigrationSpec::default();
        target.readers.clear();
        target.raw_readers.clear();
    }
    if !created.is_empty() {
        document
            .metadata
            .annotations
            .insert(CREATED_TOPICS.to_owned(), created.join(","));
    }
    let labels = labels::of(pipeline, "processor", Some(&target.name));
    if pipeline.document.spec.image.is_some() {
        let config = of_pods(pipeline, &[&target.name], &labels, &document);
        return Given {
            at_start: config.body["data"].clone(),
            config,
            read: Read::Once,
        };
    }
    let text = pipeline.texts.of(&document);
    let lasting = &text.without_rules;
    // never the name of a ConfigMap that cannot change
    let hash =
        crate::hash::short_hash(&Sha256::digest(format!("rules change in place\0{lasting}")));
    let config = Child {
        kind: Kind::ConfigMap,
        name: names::child(&pipeline.name, &[&target.name, &hash]),
        body: json!({ "metadata": { "labels": labels }, "data": { KEY: text.whole } }),
    };
    Given {
        config,
        at_start: json!({ KEY: lasting }),
        read: Read::Again,
    }
}

/// Whether a ConfigMap may change under its name.
pub fn changes_in_place(config: &Child) -> bool {
    config.body["immutable"] != true
}

/// A ConfigMap that never changes: it is named after what it says as well, so a pod that restarts
/// finds the document that it was made for, whatever has become of the pipeline meanwhile.
pub fn of_pods(
    pipeline: &ValidatedPipeline,
    parts: &[&str],
    labels: &Map<String, Value>,
    document: &ClickstreamPipeline,
) -> Child {
    let text = &pipeline.texts.of(document).whole;
    let hash = crate::hash::short_hash(&Sha256::digest(text));
    Child {
        kind: Kind::ConfigMap,
        name: names::child(&pipeline.name, &[parts, &[&hash]].concat()),
        body: json!({
            "metadata": { "labels": labels },
            "immutable": true,
            "data": { KEY: text },
        }),
    }
}

/// What a target's migrations are given, and with a little less its processors. Fields that act
/// without a restart are left out, so that changing them leaves the pods alone.
pub fn for_target(pipeline: &ClickstreamPipeline, target: &TargetSpec) -> ClickstreamPipeline {
    let mut document = bare(pipeline);
    let processor = &pipeline.spec.processor;
    document.spec.processor = ProcessorSpec {
        filter_memory: processor.filter_memory,
        max_event_bytes: processor.max_event_bytes,
        flush: processor.flush.clone(),
        ..ProcessorSpec::default()
    };
    document.spec.targets = vec![TargetSpec {
        replicas: None,
        migration: MigrationSpec {
            // its Job's business
            timeout: None,
            pod_template: PodTemplateSpec::default(),
            ..target.migration.clone()
        },
        ..target.clone()
    }];
    document
}

/// What the producer is given: where it writes, what, and from when on an event is late. It reads
/// nothing of the targets, without which a document would not be valid: one that is nobody's stands
/// for them.
pub fn for_producer(pipeline: &ClickstreamPipeline) -> ClickstreamPipeline {
    let mut document = bare(pipeline);
    let nobodys = json!({ "connection": { "host": "none", "database": "none", "user": "none" } });
    document.spec.targets =
        vec![serde_json::from_value(nobodys).expect("what a target must have, and no more")];
    let producer = &pipeline.spec.producer;
    document.spec.producer = ProducerSpec {
        enabled: true,
        rate: producer.rate,
        users: producer.users,
        seed: producer.seed,
        disorder: producer.disorder,
        duplicates: producer.duplicates,
        late: producer.late,
        malformed: producer.malformed,
        ..ProducerSpec::default()
    };
    document.spec.topics.truncate(1);
    document.spec.heartbeat = HeartbeatSpec::default();
    document.spec.events = EventsSpec::default();
    document.spec.late_events = LateEventsSpec {
        allowed_lateness: pipeline.spec.late_events.allowed_lateness,
        ..LateEventsSpec::default()
    };
    document.spec.watermark = WatermarkSpec {
        delay: pipeline.spec.watermark.delay,
        ..WatermarkSpec::default()
    };
    document.spec.processor = ProcessorSpec {
        max_event_bytes: pipeline.spec.processor.max_event_bytes,
        ..ProcessorSpec::default()
    };
    document
}

fn bare(pipeline: &ClickstreamPipeline) -> ClickstreamPipeline {
    let mut document = pipeline.clone();
    document.metadata.labels.clear();
    document.metadata.annotations.clear();
    let annotations = &mut document.metadata.annotations;
    annotations.insert(WRITTEN_BY.to_owned(), OPERATOR.to_owned());
    let spec = &mut document.spec;
    spec.kafka.admin = None;
    for topic in &mut spec.topics {
        // how a topic is kept is the operator's business
        topic.management = TopicManagement::default();
        topic.adopt = false;
        topic.replication_factor = None;
        topic.retention = None;
        topic.config.clear();
        topic.partitions = None;
    }
    spec.image = None;
    spec.suspend = false;
    spec.pod_template = PodTemplateSpec::default();
    spec.deletion_policy = DeletionPolicySpec::default();
    spec.processor = ProcessorSpec::default();
    spec.producer = ProducerSpec::default();
    document
}
