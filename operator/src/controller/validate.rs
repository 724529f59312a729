//! From a resource and what it refers to, to a pipeline that can be built; or everything that stands against it. Pure.

use std::collections::BTreeMap;

use clickstream_pipeline::spec::{
    ClickstreamPipeline as Document, PodSettings, Problem, SecretError, SecretKeys, Secrets,
};
use kube::ResourceExt as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Settings, asked::Asked, build::names::short_hash};
use crate::crd::{ClickstreamPipeline, PodOptions};

/// Secrets as they were read for one reconcile: `None` for a Secret that does not exist.
#[derive(Default)]
pub struct FetchedSecrets(pub BTreeMap<String, Option<BTreeMap<String, Vec<u8>>>>);

impl FetchedSecrets {
    /// Names of Secrets that are referred to and do not exist.
    pub fn missing<'k>(&self, keys: &'k SecretKeys) -> Vec<&'k str> {
        keys.iter()
            .map(|(secret, _)| secret)
            .filter(|secret| !matches!(self.0.get(*secret), Some(Some(_))))
            .collect()
    }

    /// A hash of these keys' values; nothing can be read from it, and it changes when one of them does.
    pub fn hash(&self, keys: &SecretKeys) -> String {
        let mut hash = Sha256::new();
        for (secret, keys) in keys.iter() {
            hash.update(secret);
            let data = self.0.get(secret).and_then(Option::as_ref);
            for key in keys {
                hash.update([0]);
                hash.update(key);
                match data.and_then(|data| data.get(key)) {
                    Some(value) => {
                        hash.update([1]);
                        hash.update(value.len().to_le_bytes());
                        hash.update(value);
                    }
                    None => hash.update([2]),
                }
            }
        }
        short_hash(&hash.finalize())
    }
}

impl Secrets for FetchedSecrets {
    fn read(&self, secret: &str, key: &str) -> Result<Option<String>, SecretError> {
        let Some(value) = self
            .0
            .get(secret)
            .and_then(Option::as_ref)
            .and_then(|data| data.get(key))
        else {
            return Ok(None);
        };
        String::from_utf8(value.clone())
            .map(Some)
            .map_err(|error| SecretError::Unreadable {
                secret: secret.to_owned(),
                key: key.to_owned(),
                source: Box::new(error.utf8_error()),
            })
    }
}

/// A pipeline that can be built: the only thing that `build` takes.
pub struct ValidatedPipeline {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The document without Kubernetes' metadata.
    pub document: Document,
    /// Secrets as they are now.
    pub secrets: FetchedSecrets,
    /// What annotations ask for.
    pub asked: Asked,
}

impl ValidatedPipeline {
    /// A document that refers to no Secret, and of which nothing is asked.
    pub fn plain(document: Document) -> Self {
        Self {
            name: document.metadata.name.clone(),
            namespace: document.metadata.namespace.clone(),
            document,
            asked: Asked::default(),
            secrets: FetchedSecrets::default(),
        }
    }

    /// Image of processors and migrations.
    pub fn processor_image<'p>(&'p self, settings: &'p Settings) -> &'p str {
        self.document
            .spec
            .image
            .as_deref()
            .unwrap_or(&settings.processor_image)
    }

    /// Image of the producer.
    pub fn producer_image<'p>(&'p self, settings: &'p Settings) -> &'p str {
        self.document
            .spec
            .producer
            .image
            .as_deref()
            .unwrap_or(&settings.producer_image)
    }

    /// Hash of what a pod reads at its start.
    pub fn hash_of(&self, config: &Value, secrets: &SecretKeys) -> String {
        let mut hash = Sha256::new();
        hash.update(config.to_string());
        hash.update(self.secrets.hash(secrets));
        short_hash(&hash.finalize())
    }
}

/// Checks the document by its own rules, and what it says in Kubernetes' terms by Kubernetes' types.
///
/// # Errors
/// Every problem, by its field.
pub fn validate(
    pipeline: &ClickstreamPipeline,
    secrets: FetchedSecrets,
) -> Result<ValidatedPipeline, Vec<Problem>> {
    let document = pipeline.document();
    let mut problems = document.validate().err().unwrap_or_default();
    check_pod(
        "spec.processor",
        document.spec.processor.pod(),
        &mut problems,
    );
    check_pod("spec.producer", document.spec.producer.pod(), &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(ValidatedPipeline {
        name: document.metadata.name.clone(),
        namespace: document.metadata.namespace.clone(),
        document,
        secrets,
        asked: Asked::of(pipeline.annotations()),
    })
}

fn check_pod(path: &str, pod: PodSettings<'_>, problems: &mut Vec<Problem>) {
    if let Err(error) = PodOptions::try_from(pod) {
        problems.push(Problem {
            path: format!("{path}.{}", error.field),
            message: error.source.to_string(),
        });
    }
}
