//! Processors and producer of a pipeline with all that they need, before any of it is applied. Pure.

use clickstream_pipeline::spec::{SecretKeys, TargetSpec};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Child, inputs};
use crate::{controller::validate::ValidatedPipeline, hash::short_hash, settings::Settings};

/// Label of a Deployment: the operator's release that made its pod template.
pub const RELEASE: &str = "clickstream.dev/release";

/// Label of a Deployment: a hash of its pod template as it was sent.
pub const TEMPLATE: &str = "clickstream.dev/template-hash";

/// Label of a Deployment: a hash of what people say about its pods, or [`NOT_PINNED`].
pub const INPUTS: &str = "clickstream.dev/inputs-hash";

/// What is noted of pods whose image is the operator's. The label is always there, so that one that is missing means a release that
/// did not know it.
pub const NOT_PINNED: &str = "none";

/// Label of a Deployment: which keys of Secrets its pods read, and what they said, as two hashes.
pub const SECRETS: &str = "clickstream.dev/secrets";

/// Label of a Deployment: the ConfigMap that its pods read.
pub const CONFIG_MAP: &str = "clickstream.dev/config-map";

/// The Secrets of a Deployment's pods.
pub struct Secrets {
    /// Hash of the names of Secrets and keys.
    pub keys: String,
    /// Hash of what they say.
    pub values: String,
}

impl Secrets {
    /// Of a target's processors.
    pub fn of_processors(valid: &ValidatedPipeline, target: &TargetSpec) -> Self {
        let keys = valid.document.spec.kafka.secret_keys();
        Self::of(valid, &keys.and(target.connection.secret_keys()))
    }

    /// Of the producer.
    pub fn of_producer(valid: &ValidatedPipeline) -> Self {
        Self::of(valid, &valid.document.spec.kafka.secret_keys())
    }

    fn of(valid: &ValidatedPipeline, keys: &SecretKeys) -> Self {
        let names: Vec<(&str, Vec<&str>)> = keys
            .iter()
            .map(|(secret, keys)| (secret, keys.collect()))
            .collect();
        Self {
            keys: short_hash(&Sha256::digest(json!(names).to_string())),
            values: valid.secrets.hash(keys),
        }
    }

    /// As it stands in the label [`SECRETS`].
    pub fn noted(&self) -> String {
        format!("{}.{}", self.keys, self.values)
    }

    /// Whether what the same keys say is another thing than what was noted.
    pub fn differ_from(&self, noted: &str) -> bool {
        noted
            .split_once('.')
            .is_some_and(|(keys, values)| keys == self.keys && values != self.values)
    }
}

/// Notes on a Deployment what its pods were made from, as labels: another annotation is another generation of a Deployment, which would
/// not be Ready until its controller has seen it.
pub fn stamp(deployment: &mut Child, release: &str, secrets: &Secrets, inputs: Option<&String>) {
    let template = super::template_hash(deployment);
    let document = document_of(&deployment.body);
    let document = document.to_owned();
    let labels = &mut deployment.body["metadata"]["labels"];
    labels[RELEASE] = json!(release);
    labels[TEMPLATE] = json!(template);
    labels[SECRETS] = json!(secrets.noted());
    labels[CONFIG_MAP] = json!(document);
    labels[INPUTS] = json!(inputs.map_or(NOT_PINNED, String::as_str));
}

fn document_of(deployment: &Value) -> &str {
    let volumes = deployment.pointer("/spec/template/spec/volumes");
    let mut volumes = volumes.and_then(Value::as_array).into_iter().flatten();
    let name = volumes.find_map(|volume| volume.pointer("/configMap/name")?.as_str());
    name.unwrap_or_default()
}

/// A Deployment with all that it needs.
pub struct Workload {
    /// All but the Deployment; changing them touches none of its pods.
    pub around: Vec<Child>,
    /// Processors, or the producer.
    pub deployment: Child,
    /// What its pods read of Secrets.
    pub secrets: Secrets,
    /// A hash of what people say about its pods, if their image is pinned.
    pub inputs: Option<String>,
}

/// The processors of a target.
pub struct Processors {
    /// As they should be.
    pub now: Workload,
    /// As the image of before has them, where they may come back with it.
    pub before: Option<Workload>,
}

/// Everything that is to be there but migrations.
pub struct Children {
    /// Of each target, in the order of the spec.
    pub targets: Vec<Processors>,
    /// Of the producer, if it is on.
    pub producer: Option<Workload>,
}

impl Children {
    /// Builds all of them. `made_by`: the operator's release; `created`: the topics that the pipeline made; `runs_on`: images of before, for each target.
    pub fn of(
        valid: &ValidatedPipeline,
        settings: &Settings,
        made_by: &str,
        created: &[String],
        runs_on: &[Option<&str>],
    ) -> Self {
        let targets = valid.document.spec.targets.iter().zip(runs_on);
        let targets = targets.map(|(target, runs_on)| {
            let processors = |settings: &Settings, release: &str, inputs| {
                let children = super::target(valid, target, settings, created);
                let secrets = Secrets::of_processors(valid, target);
                Workload::new(
                    children.around,
                    children.deployment,
                    secrets,
                    inputs,
                    release,
                )
            };
            let before = runs_on.map(|image| {
                let before = Settings {
                    processor_image: image.to_owned(),
                    ..settings.clone()
                };
                processors(&before, &release(&before), None)
            });
            let inputs = inputs::of_processors(valid, target, settings);
            Processors {
                now: processors(settings, made_by, inputs),
                before,
            }
        });
        let targets = targets.collect();
        let mut producer = super::producer(valid, settings);
        let producer = producer.pop().map(|deployment| {
            let secrets = Secrets::of_producer(valid);
            let inputs = inputs::of_producer(valid, settings);
            Workload::new(producer, deployment, secrets, inputs, made_by)
        });
        Self { targets, producer }
    }
}

impl Workload {
    fn new(
        around: Vec<Child>,
        mut deployment: Child,
        secrets: Secrets,
        inputs: Option<String>,
        release: &str,
    ) -> Self {
        stamp(&mut deployment, release, &secrets, inputs.as_ref());
        Self {
            around,
            deployment,
            secrets,
            inputs,
        }
    }
}

/// The operator's release: its version, and whatever of its code and its settings stands on pods.
pub fn release(settings: &Settings) -> String {
    format!(
        "{}-{}",
        // a label has no place for what is behind a plus sign
        env!("CARGO_PKG_VERSION").replace('+', "-"),
        super::form_of_pods(settings)
    )
}
