//! The document that pods read: the pipeline itself, without what does not concern them.

use clickstream_pipeline::spec::{
    ClickstreamPipeline, DeletionPolicySpec, HeartbeatSpec, LateEventsSpec, MigrationSpec,
    ProcessorSpec, ProducerSpec, TargetSpec, TopicManagement, WatermarkSpec,
};
use serde_json::json;

use super::{Child, Kind, labels, names};
use crate::controller::validate::ValidatedPipeline;

/// Key of the document.
pub const KEY: &str = "pipeline.yaml";
/// Tells the processors which topics the pipeline made, so that the target's schema knows it when the resource is gone.
pub const CREATED_TOPICS: &str = "clickstream.dev/created-topics";

/// The ConfigMap of a target's processors.
pub fn of_target(pipeline: &ValidatedPipeline, target: &TargetSpec, created: &[String]) -> Child {
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
    Child {
        kind: Kind::ConfigMap,
        name: names::child(&pipeline.name, &[&target.name]),
        body: json!({
            "metadata": { "labels": labels::of(pipeline, "processor", Some(&target.name)) },
            "data": { KEY: yaml(&document) },
        }),
    }
}

/// What a target's migrations are given, and with a little less its processors. Fields that act without a restart are left
/// out, so that changing them leaves the pods alone.
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
        ..target.clone()
    }];
    document
}

/// What the producer is given: where it writes, what, and from when on an event is late. It reads nothing of the targets,
/// without which a document would not be valid.
pub fn for_producer(pipeline: &ClickstreamPipeline) -> ClickstreamPipeline {
    let mut document = bare(pipeline);
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
    let spec = &mut document.spec;
    spec.kafka.admin = None;
    for topic in &mut spec.topics {
        // how a topic is kept is the operator's business
        topic.management = TopicManagement::default();
        topic.adopt = false;
        topic.replication_factor = None;
        topic.retention = None;
        topic.config.clear();
        topic.partitions = clickstream_pipeline::spec::TopicSpec::default().partitions;
    }
    spec.image = None;
    spec.suspend = false;
    spec.deletion_policy = DeletionPolicySpec::default();
    spec.processor = ProcessorSpec::default();
    spec.producer = ProducerSpec::default();
    document
}

/// The document as text, the same for the same document.
pub fn yaml(document: &ClickstreamPipeline) -> String {
    serde_yaml::to_string(document).expect("a document that was read can be written")
}
