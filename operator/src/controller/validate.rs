//! From a resource and what it refers to, to a pipeline that can be built; or everything that
//! stands against it. Pure.

use std::{collections::BTreeMap, sync::Arc};

use clickstream_pipeline::spec::{
    ClickstreamPipeline as Document, ConnectionSpec, PipelineSpec, PodSettings, Problem,
    SecretError, SecretKeys, Secrets, in_words,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{asked::Asked, texts::Texts};
use crate::{
    crd::{ClickstreamPipeline, PodOptions},
    hash::short_hash,
    settings::Settings,
};

/// Secrets as they were read for one reconcile, with their values: `None` for a Secret that does
/// not exist.
#[derive(Default)]
pub struct FetchedSecrets(pub BTreeMap<String, Option<BTreeMap<String, Vec<u8>>>>);

impl FetchedSecrets {
    /// A hash of these keys' values; nothing can be read from it, and it changes when one of them
    /// does.
    fn hash(&self, keys: &SecretKeys) -> String {
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

/// What is kept of the Secrets of a pipeline while they stay as they are: no value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    there: Vec<String>,
    /// Of the keys' values, by a digest of their names.
    hashes: BTreeMap<[u8; 32], String>,
    /// Where PostgreSQL is reached, if only a Secret says so.
    ports: Vec<(ConnectionSpec, u16)>,
}

impl SecretFacts {
    /// What was read for this spec.
    pub fn of(spec: &PipelineSpec, values: &FetchedSecrets) -> Self {
        let kafka = spec.kafka.secret_keys();
        let mut sets = vec![kafka.clone(), spec.kafka.admin_secret_keys()];
        let mut ports = Vec::new();
        for target in &spec.targets {
            sets.push(kafka.clone().and(target.connection.secret_keys()));
            sets.push(target.migration_secret_keys());
            for connection in [&target.connection, target.migration_connection()] {
                if connection.port.is_none()
                    && connection.secret.is_some()
                    && let Ok(settings) = connection.settings(values)
                {
                    ports.push((connection.clone(), settings.port));
                }
            }
        }
        let there = values.0.iter().filter(|(_, data)| data.is_some());
        Self {
            there: there.map(|(name, _)| name.clone()).collect(),
            hashes: sets
                .iter()
                .map(|keys| (digest(keys), values.hash(keys)))
                .collect(),
            ports,
        }
    }

    /// A digest of everything in a spec that says what is read of Secrets.
    pub fn inputs(spec: &PipelineSpec) -> [u8; 32] {
        let connections = spec
            .targets
            .iter()
            .map(|target| json!([target.connection, target.migration_connection()]));
        let of = json!([spec.kafka, connections.collect::<Vec<_>>()]);
        Sha256::digest(of.to_string()).into()
    }

    /// Names of Secrets that are referred to and do not exist.
    pub fn missing<'k>(&self, keys: &'k SecretKeys) -> Vec<&'k str> {
        keys.iter()
            .map(|(secret, _)| secret)
            .filter(|secret| !self.there.iter().any(|there| there == secret))
            .collect()
    }

    /// A hash of these keys' values; nothing can be read from it, and it changes when one of them
    /// does.
    pub fn hash(&self, keys: &SecretKeys) -> String {
        let known = self.hashes.get(&digest(keys)).cloned();
        known.unwrap_or_else(|| FetchedSecrets::default().hash(keys))
    }

    /// The port of a connection, if only a Secret can say it and does.
    pub fn port(&self, connection: &ConnectionSpec) -> Option<u16> {
        let mut ports = self.ports.iter();
        ports
            .find(|(of, _)| of == connection)
            .map(|(_, port)| *port)
    }
}

fn digest(keys: &SecretKeys) -> [u8; 32] {
    let names: Vec<(&str, Vec<&str>)> = keys
        .iter()
        .map(|(secret, keys)| (secret, keys.collect()))
        .collect();
    Sha256::digest(json!(names).to_string()).into()
}

/// A pipeline that can be built: the only thing that `build` takes.
pub struct ValidatedPipeline {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The document without Kubernetes' metadata.
    pub document: Document,
    /// What is known of its Secrets.
    pub secrets: Arc<SecretFacts>,
    /// Their values, if they were read for this reconcile.
    pub values: Option<FetchedSecrets>,
    /// What annotations ask for.
    pub asked: Asked,
    /// Texts of its documents, as far as they were made before.
    pub texts: Arc<Texts>,
}

impl ValidatedPipeline {
    /// A document that refers to no Secret, and of which nothing is asked.
    pub fn plain(document: Document) -> Self {
        Self {
            name: document.metadata.name.clone(),
            namespace: document.metadata.namespace.clone(),
            document,
            asked: Asked::default(),
            secrets: Arc::default(),
            values: None,
            texts: Arc::default(),
        }
    }

    /// The same with what it refers to.
    #[must_use]
    pub fn with(mut self, secrets: Arc<SecretFacts>, values: Option<FetchedSecrets>) -> Self {
        self.secrets = secrets;
        self.values = values;
        self
    }

    /// The same with what was read just now.
    #[must_use]
    pub fn with_values(self, values: FetchedSecrets) -> Self {
        let facts = SecretFacts::of(&self.document.spec, &values);
        self.with(Arc::new(facts), Some(values))
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

/// Checks the document by its own rules, and what it says in Kubernetes' terms by Kubernetes'
/// types. What it refers to is for [`ValidatedPipeline::with`].
///
/// # Errors
/// Every problem, by its field.
pub fn validate(pipeline: &ClickstreamPipeline) -> Result<ValidatedPipeline, Vec<Problem>> {
    let document = pipeline.document();
    let mut problems = document.validate().err().unwrap_or_default();
    let own = problems.len();
    for (path, pod) in document.spec.places_of_pods() {
        check_pod(&path, &pod, &mut problems);
    }
    Problem::name_entries(&mut problems[own..], &document);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(ValidatedPipeline {
        asked: Asked::of(pipeline.annotations()),
        ..ValidatedPipeline::plain(document)
    })
}

fn check_pod(path: &str, pod: &PodSettings<'_>, problems: &mut Vec<Problem>) {
    if let Err(error) = PodOptions::try_from(pod) {
        problems.push(Problem {
            path: format!("{path}.{}", error.field),
            message: in_words(&error.source.to_string()),
        });
    }
}
