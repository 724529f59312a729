//! Processors and producer of a pipeline with all that they need, before any of it is applied.
//! Pure.

use std::collections::BTreeMap;

use clickstream_pipeline::spec::{SecretKeys, TargetSpec};
use clickstream_protocol::labels::{CONFIG_MAP, INPUTS, NOT_PINNED, RELEASE, SECRETS, TEMPLATE};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Child, Deployed, Kind, inputs::Inputs};
use crate::{controller::validate::ValidatedPipeline, hash::short_hash, settings::Settings};

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

/// Notes on a Deployment what its pods were made from, as labels: another annotation is another
/// generation of a Deployment, which would not be Ready until its controller has seen it.
/// `config_map`: the document that they read. The hash of their template.
pub fn stamp(
    deployment: &mut Child,
    release: &str,
    secrets: &Secrets,
    config_map: &str,
    inputs: Option<&String>,
) -> String {
    let template = super::template_hash(deployment);
    let labels = &mut deployment.body["metadata"]["labels"];
    labels[RELEASE] = json!(release);
    labels[TEMPLATE] = json!(template);
    labels[SECRETS] = json!(secrets.noted());
    labels[CONFIG_MAP] = json!(config_map);
    labels[INPUTS] = json!(inputs.map_or(NOT_PINNED, String::as_str));
    template
}

/// A Deployment with all that it needs.
pub struct Workload {
    /// All but the Deployment; changing them touches none of its pods.
    pub around: Vec<Child>,
    /// Processors, or the producer.
    pub deployment: Child,
    /// A hash of its pod template.
    template: String,
    /// How many pods it is to have.
    pub replicas: i32,
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
    /// The topics that pods are told the pipeline has made.
    created: Vec<String>,
}

/// What children are made from.
#[derive(Clone, Copy)]
pub struct Made<'m> {
    /// The spec.
    pub valid: &'m ValidatedPipeline,
    /// What the operator was started with.
    pub settings: &'m Settings,
    /// The operator's release.
    pub release: &'m str,
    /// What people say about pods.
    pub inputs: &'m Inputs,
}

impl Children {
    /// Builds all of them as they should be. `created`: the topics that the pipeline has made, as
    /// far as that is known.
    pub fn of(made: Made<'_>, created: Vec<String>) -> Self {
        let Made {
            valid,
            settings,
            inputs,
            release,
        } = made;
        let producer = super::producer(valid, settings).map(|children| {
            let secrets = Secrets::of_producer(valid);
            let replicas = i32::from(!valid.document.spec.suspend);
            let inputs = inputs.producer.clone();
            Workload::new(children, secrets, replicas, inputs, release)
        });
        let mut all = Self {
            targets: Vec::new(),
            producer,
            created,
        };
        all.targets = all.processors(made);
        all
    }

    /// Adds what is known once tables and topics have been looked at. `created`: the topics that
    /// the pipeline has made; `runs_on`: images of before, for each target.
    pub fn complete(&mut self, made: Made<'_>, created: Vec<String>, runs_on: &[Option<&str>]) {
        if created != self.created {
            self.created = created;
            self.targets = self.processors(made);
        }
        let specs = &made.valid.document.spec.targets;
        let targets = self.targets.iter_mut().zip(specs).zip(runs_on);
        for ((target, spec), runs_on) in targets {
            target.before = runs_on.map(|image| {
                let before = Settings {
                    processor_image: image.to_owned(),
                    ..made.settings.clone()
                };
                let release = release(&before);
                let made = Made {
                    settings: &before,
                    release: &release,
                    ..made
                };
                processors(made, spec, &self.created, None)
            });
        }
    }

    fn processors(&self, made: Made<'_>) -> Vec<Processors> {
        let targets = made.valid.document.spec.targets.iter();
        let targets = targets.enumerate().map(|(index, target)| {
            let inputs = made.inputs.processors.get(index).cloned().flatten();
            Processors {
                now: processors(made, target, &self.created, inputs),
                before: None,
            }
        });
        targets.collect()
    }
}

fn processors(
    made: Made<'_>,
    target: &TargetSpec,
    created: &[String],
    inputs: Option<String>,
) -> Workload {
    let valid = made.valid;
    let children = super::target(valid, target, made.settings, created);
    let secrets = Secrets::of_processors(valid, target);
    let replicas = super::deployment::replicas(&valid.document.spec, target);
    let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    Workload::new(children, secrets, replicas, inputs, made.release)
}

impl Workload {
    fn new(
        children: Deployed,
        secrets: Secrets,
        replicas: i32,
        inputs: Option<String>,
        release: &str,
    ) -> Self {
        let Deployed {
            around,
            mut deployment,
        } = children;
        let mut config_map = around.iter();
        let config_map = config_map.find(|child| child.kind == Kind::ConfigMap);
        let config_map = config_map.map_or("", |config| config.name.as_str());
        let template = stamp(
            &mut deployment,
            release,
            &secrets,
            config_map,
            inputs.as_ref(),
        );
        Self {
            around,
            deployment,
            template,
            replicas,
            secrets,
            inputs,
        }
    }

    /// Whether pods with these labels on their Deployment are of the same template.
    pub fn is_of_template(&self, noted: &BTreeMap<String, String>) -> bool {
        noted.get(TEMPLATE) == Some(&self.template)
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
