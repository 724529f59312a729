//! What people say about pods: the spec, annotations and the operator's settings, whichever release turns it into pods.

use clickstream_pipeline::spec::{
    ClickstreamPipeline, DeletionPolicySpec, MigrationSpec, ProcessorSpec, ProducerSpec,
    TargetSpec, TopicManagement,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::config_map;
use crate::{controller::validate::ValidatedPipeline, settings::Settings};

/// A hash of what people say about a target's processors, if their image is pinned. While it stays the same, another pod template
/// is another release's doing. What is followed without a restart is left out, and so is what only the operator or a migration
/// reads.
pub fn of_processors(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
) -> Option<String> {
    let spec = &pipeline.document.spec;
    spec.image.as_ref()?;
    let mut document = about_pods(pipeline);
    let unsaid = ProcessorSpec::default();
    document.spec.processor.replicas = unsaid.replicas;
    document.spec.processor.lag_target = unsaid.lag_target;
    document.spec.producer = ProducerSpec::default();
    document.spec.targets = vec![TargetSpec {
        replicas: None,
        migration: MigrationSpec::default(),
        readers: Vec::new(),
        raw_readers: Vec::new(),
        ..target.clone()
    }];
    Some(hash(pipeline, &document, settings))
}

/// The same of the producer.
pub fn of_producer(pipeline: &ValidatedPipeline, settings: &Settings) -> Option<String> {
    let producer = &pipeline.document.spec.producer;
    producer.image.as_ref()?;
    let mut document = config_map::for_producer(&pipeline.document);
    document.spec.producer = producer.clone();
    document.spec.pod_template = pipeline.document.spec.pod_template.clone();
    Some(hash(pipeline, &document, settings))
}

/// The document without what concerns no pod. A field that is not named here concerns them.
fn about_pods(pipeline: &ValidatedPipeline) -> ClickstreamPipeline {
    let mut document = pipeline.document.clone();
    document.metadata.labels.clear();
    document.metadata.annotations.clear();
    let spec = &mut document.spec;
    spec.suspend = false;
    spec.deletion_policy = DeletionPolicySpec::default();
    spec.kafka.admin = None;
    for topic in &mut spec.topics {
        topic.management = TopicManagement::default();
        topic.adopt = false;
        topic.replication_factor = None;
        topic.retention = None;
        topic.config.clear();
        topic.partitions = None;
    }
    document
}

fn hash(
    pipeline: &ValidatedPipeline,
    document: &ClickstreamPipeline,
    settings: &Settings,
) -> String {
    // what is left out stands on no pod, or is the image that is pinned
    let Settings {
        processor_image: _,
        producer_image: _,
        image_pull_policy,
        image_pull_secrets,
        cluster,
        installation: _,
        network_policy: _,
        pod_monitor: _,
        guarding,
        tracing,
        allowed: _,
    } = settings;
    let guarding = guarding.as_ref().map(|guarding| {
        let token = guarding.token.as_ref();
        let token = token.map(|token| [&token.secret, &token.key]);
        json!([guarding.certificate, token])
    });
    let said = json!({
        "document": document.minimal(),
        "restart": pipeline.asked.restart_at,
        "cluster": cluster,
        "imagePullPolicy": image_pull_policy,
        "imagePullSecrets": image_pull_secrets,
        "guarding": guarding,
        "tracing": tracing,
    });
    crate::hash::short_hash(&Sha256::digest(said.to_string()))
}
