//! What people say about pods: the spec, annotations and the operator's settings, whichever release
//! turns it into pods.

use std::fmt::Write as _;

use clickstream_pipeline::spec::{
    ClickstreamPipeline, DeletionPolicySpec, MigrationSpec, ProcessorSpec, ProducerSpec,
    TargetSpec, TopicManagement,
};
use serde_json::json;
use serde_yaml::{Mapping, Value};
use sha2::{Digest, Sha256};

use super::config_map;
use crate::{controller::validate::ValidatedPipeline, settings::Settings};

/// Hashes of what people say about a pipeline's pods, where their image is pinned. While one stays
/// the same, another pod template is another release's doing. What is followed without a restart is
/// left out, and so is what only the operator or a migration reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Of each target's processors, in the order of the spec.
    pub processors: Vec<Option<String>>,
    /// Of the producer.
    pub producer: Option<String>,
}

impl Inputs {
    /// Works them out, which takes a while: each field is left out once, to see whether that says
    /// the same.
    pub fn of(pipeline: &ValidatedPipeline, settings: &Settings) -> Self {
        let targets = pipeline.document.spec.targets.iter();
        let said = [
            targets
                .map(|target| about_processors(pipeline, target, settings))
                .collect(),
            vec![about_producer(pipeline, settings)],
        ];
        let hash = |said: String| crate::hash::short_hash(&Sha256::digest(said));
        let [processors, mut producer] = said.map(|said: Vec<Option<String>>| {
            let hashes = said.into_iter().map(|said| said.map(hash));
            hashes.collect::<Vec<_>>()
        });
        Self {
            processors,
            producer: producer.pop().flatten(),
        }
    }

    /// A digest of everything in a pipeline that they are made of; `None`: nothing of it is pinned.
    pub fn digest(pipeline: &ValidatedPipeline) -> Option<[u8; 32]> {
        let spec = &pipeline.document.spec;
        if spec.image.is_none() && spec.producer.image.is_none() {
            return None;
        }
        let said = json!([spec, pipeline.asked.restart_at]);
        Some(Sha256::digest(said.to_string()).into())
    }
}

/// What people say about a target's processors, if their image is pinned.
pub(super) fn about_processors(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
) -> Option<String> {
    pipeline.document.spec.image.as_ref()?;
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
    Some(said(pipeline, &document, settings))
}

/// The same of the producer.
pub(super) fn about_producer(pipeline: &ValidatedPipeline, settings: &Settings) -> Option<String> {
    let producer = &pipeline.document.spec.producer;
    producer.image.as_ref()?;
    let mut document = config_map::for_producer(&pipeline.document);
    document.metadata.annotations.clear();
    document.spec.producer = producer.clone();
    document.spec.pod_template = pipeline.document.spec.pod_template.clone();
    Some(said(pipeline, &document, settings))
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

/// All of it as text. A release that knows more has to write the same of what says nothing of that:
/// what is not said is not there.
fn said(
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
        let token =
            token.map(|token| vec![token.secret.as_str().into(), token.key.as_str().into()]);
        let token = token.map_or(Value::Null, Value::Sequence);
        Value::Sequence(vec![guarding.certificate.as_str().into(), token])
    });
    let document = serde_yaml::from_str(&document.minimal());
    let document: Value = document.expect("a document that was written can be read");
    let secrets = image_pull_secrets.iter().map(|name| name.as_str().into());
    let tracing = tracing
        .iter()
        .map(|(name, value)| Value::Sequence(vec![name.as_str().into(), value.as_str().into()]));
    let sequence = |items: Vec<Value>| (!items.is_empty()).then_some(Value::Sequence(items));
    let all = [
        ("cluster", Some(cluster.as_str().into())),
        ("document", Some(document)),
        ("guarding", guarding),
        ("imagePullPolicy", Some(image_pull_policy.as_str().into())),
        ("imagePullSecrets", sequence(secrets.collect())),
        (
            "restart",
            pipeline.asked.restart_at.as_deref().map(Into::into),
        ),
        ("tracing", sequence(tracing.collect())),
    ];
    let all = all.into_iter();
    let all: Mapping = all
        .filter_map(|(name, value)| Some((name.into(), value?)))
        .collect();
    let mut text = String::new();
    canonical(&all.into(), &mut text);
    text
}

/// As JSON whose form is ours alone: fields in the order of their names, whatever order structs and
/// libraries have, and no spaces.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Mapping(fields) => {
            let name = |key: &Value| {
                key.as_str()
                    .map_or_else(|| format!("{key:?}"), str::to_owned)
            };
            let mut fields: Vec<_> = fields
                .iter()
                .map(|(key, value)| (name(key), value))
                .collect();
            fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            text.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                quoted(&name, text);
                text.push(':');
                canonical(value, text);
            }
            text.push('}');
        }
        Value::Sequence(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                canonical(item, text);
            }
            text.push(']');
        }
        Value::String(word) => quoted(word, text),
        Value::Bool(it) => text.push_str(if *it { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => write!(text, "{number}"),
                (_, Some(number)) => write!(text, "{number}"),
                // Rust's own: the shortest digits that are read as the same number
                _ => write!(text, "{:?}", number.as_f64().unwrap_or(f64::NAN)),
            };
        }
        Value::Tagged(tagged) => canonical(&tagged.value, text),
        Value::Null => text.push_str("null"),
    }
}

/// A word between quotation marks, with nothing in it that could be taken for their end.
fn quoted(word: &str, text: &mut String) {
    text.push('"');
    for letter in word.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn text(yaml: &str) -> String {
        let mut text = String::new();
        canonical(&serde_yaml::from_str(yaml).unwrap(), &mut text);
        text
    }

    #[test]
    fn the_order_of_fields_changes_nothing_and_that_of_items_does() {
        let one = text("{ b: [1, { d: x, c: true }], a: -0.25, \"e\\\"\\n\": null }");
        assert_eq!(
            one,
            r#"{"a":-0.25,"b":[1,{"c":true,"d":"x"}],"e\"\u000a":null}"#
        );
        let other = text("{ \"e\\\"\\n\": ~, a: -0.25, b: [1, { c: true, d: x }] }");
        assert_eq!(one, other);
        assert_ne!(text("[1, 2]"), text("[2, 1]"));
        assert_ne!(text("'1'"), text("1"));
    }
}
