//! The children that a pipeline is to have. Pure, and cannot fail: whatever could be wrong was
//! found by `validate`.
//!
//! Children are JSON documents in the shape of manifests: what is written here is what is applied,
//! field by field, and the API server checks it strictly.

mod child;
pub mod children;
mod collector;
mod config_map;
mod deployment;
mod guard;
pub mod inputs;
mod labels;
mod migration;
pub mod names;
mod network_policy;
mod pod;
mod pod_monitor;
mod producer;
mod service;
mod tracing;

use clickstream_pipeline::spec::{ClickstreamPipeline as Document, TargetSpec};
use sha2::{Digest, Sha256};

pub use self::{
    child::Child,
    config_map::changes_in_place,
    labels::{PIPELINE_LABEL, TARGET_LABEL, selector},
    migration::{migration, migration_hash, migration_inputs, removal},
    tracing::handed_on,
};
use super::validate::ValidatedPipeline;
pub use crate::kind::Kind;
use crate::settings::Settings;

/// A Deployment, and all that it needs.
pub struct Deployed {
    /// All but the Deployment; changing them touches no pod.
    pub around: Vec<Child>,
    /// Processors, or the producer.
    pub deployment: Child,
}

/// The children of a target, at this number of processors.
pub fn target(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
    created_topics: &[String],
) -> Deployed {
    let given = config_map::of_target(pipeline, target, created_topics);
    let deployment = deployment::of_target(pipeline, target, settings, &given);
    let name = names::child(&pipeline.name, &[&target.name]);
    let labels = labels::of(pipeline, "processor", Some(&target.name));
    let mut around = vec![
        pod::service_account(
            &name,
            &labels,
            &pipeline.document.spec.processor_pod().template,
        ),
        given.config,
        service::headless(&name, &labels),
        service::disruption_budget(&name, &labels),
    ];
    around.extend(network_policy::of_target(pipeline, target, settings));
    if let Some(scraping) = &settings.pod_monitor {
        let mut monitor = pod_monitor::of(&name, &labels, scraping);
        if let Some(guarding) = &settings.guarding {
            guard::monitor(guarding, &mut monitor, &pipeline.namespace);
        }
        around.push(monitor);
    }
    Deployed { around, deployment }
}

/// The producer, if it is on.
pub fn producer(pipeline: &ValidatedPipeline, settings: &Settings) -> Option<Deployed> {
    if !pipeline.document.spec.producer.enabled {
        return None;
    }
    let mut children = producer::children(pipeline, settings);
    if let Some(scraping) = &settings.pod_monitor {
        let name = names::child(&pipeline.name, &["producer"]);
        let labels = labels::of(pipeline, "producer", None);
        let mut monitor = pod_monitor::of(&name, &labels, scraping);
        if let Some(guarding) = &settings.guarding {
            guard::monitor(guarding, &mut monitor, &pipeline.namespace);
        }
        children.around.push(monitor);
    }
    children
        .around
        .extend(network_policy::of_producer(pipeline, settings));
    Some(children)
}

/// A hash of a Deployment's pod template.
pub fn template_hash(deployment: &Child) -> String {
    let template = deployment.body["spec"]["template"].to_string();
    crate::hash::short_hash(&Sha256::digest(template))
}

/// A hash of how the operator makes pods of a pipeline that says as little as possible: it changes
/// with the code and with every setting that stands on pods.
pub fn form_of_pods(settings: &Settings) -> String {
    let document = Document::from_yaml(PLAIN).expect("what a pipeline must have, and no more");
    let plain = ValidatedPipeline::plain(document);
    let mut hash = Sha256::new();
    for target_spec in &plain.document.spec.targets {
        let children = target(&plain, target_spec, settings, &[]);
        hash.update(children.deployment.body.to_string());
    }
    if let Some(children) = producer(&plain, settings) {
        hash.update(children.deployment.body.to_string());
    }
    crate::hash::short_hash(&hash.finalize())
}

/// The pipeline of [`form_of_pods`].
const PLAIN: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: plain }
spec:
  kafka: { bootstrapServers: 'kafka:9092' }
  targets: [{ connection: { host: none, database: none, user: none } }]
  producer: { enabled: true }
";

#[cfg(test)]
mod tests;
