//! What a spec says about pods, in Kubernetes' own terms. The services themselves read none of it.

mod check;
mod template;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secret::{self, is_dns_label, is_dns_subdomain};
use super::validate::At;
use super::{PipelineSpec, TargetSpec};

#[cfg(test)]
pub(in crate::spec) use check::{FOLDER, PROGRAMS, TAKEN};
pub use template::PodTemplateSpec;

#[cfg(feature = "schema")]
use super::schema;

/// CPU, memory and other resources of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourcesSpec {
    /// What the scheduler sets aside, by name: `cpu: 500m`, `memory: 256Mi`. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::amounts"))]
    pub requests: BTreeMap<String, Value>,
    /// What the container may not exceed, by name. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::amounts"))]
    pub limits: BTreeMap<String, Value>,
}

/// A Secret with the credentials of an image registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullSecretSpec {
    /// Name of the Secret, in the pipeline's namespace. Rolling.
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub name: String,
}

/// The settings of one kind of pod, or what one place of the spec says of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSettings<'s> {
    /// CPU, memory and other resources of the container, unless the operator chooses. They are no part of a template: how much is
    /// needed follows from what a component does, and stands beside that.
    pub resources: Option<&'s ResourcesSpec>,
    /// Everything else.
    pub template: PodTemplateSpec,
}

/// Labels and annotations under these belong to the operator.
const RESERVED: [&str; 2] = ["app.kubernetes.io/", "clickstream.dev/"];
/// Labels that Kubernetes sets on the pods of Jobs: it refuses a Job that sets them otherwise.
const OF_JOBS: [&str; 4] = [
    "job-name",
    "controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/controller-uid",
];
/// What Kubernetes takes of annotations, keys and values together, in bytes.
const MOST_OF_ANNOTATIONS: usize = 256 << 10;

/// Which templates there are, and which goes over which. A template of before, the fields of `processor` and `producer` that pods
/// had when there was no `podTemplate`, counts as that component's own, below its `podTemplate`.
impl PipelineSpec {
    /// The settings of processors.
    #[must_use]
    pub fn processor_pod(&self) -> PodSettings<'_> {
        let former = self.pod_template.with(&self.processor.former_template());
        PodSettings {
            resources: self.processor.resources.as_ref(),
            template: former.with(&self.processor.pod_template),
        }
    }

    /// The settings of producers.
    #[must_use]
    pub fn producer_pod(&self) -> PodSettings<'_> {
        let former = self.pod_template.with(&self.producer.former_template());
        PodSettings {
            resources: self.producer.resources.as_ref(),
            template: former.with(&self.producer.pod_template),
        }
    }

    /// The settings of Jobs that migrate or drop a target's tables. They run the processors' image for the same database, so what
    /// is said of processors holds for them, unless the target's migration says otherwise.
    #[must_use]
    pub fn migration_pod(&self, target: &TargetSpec) -> PodSettings<'_> {
        let processor = self.processor_pod();
        PodSettings {
            template: processor.template.with(&target.migration.pod_template),
            ..processor
        }
    }

    /// What a target's Jobs are told by `podTemplate`s alone.
    #[must_use]
    pub fn migration_template(&self, target: &TargetSpec) -> PodTemplateSpec {
        self.pod_template
            .with(&self.processor.pod_template)
            .with(&target.migration.pod_template)
    }

    /// Every place that says something about pods, by its path.
    #[must_use]
    pub fn places_of_pods(&self) -> Vec<(String, PodSettings<'_>)> {
        let place = |path: &str, resources, template: PodTemplateSpec| {
            let settings = PodSettings {
                resources,
                template,
            };
            (path.to_owned(), settings)
        };
        let (processor, producer) = (&self.processor, &self.producer);
        let mut places = vec![
            place("spec.podTemplate", None, self.pod_template.clone()),
            place(
                "spec.processor",
                processor.resources.as_ref(),
                processor.former_template(),
            ),
            place(
                "spec.processor.podTemplate",
                None,
                processor.pod_template.clone(),
            ),
            place(
                "spec.producer",
                producer.resources.as_ref(),
                producer.former_template(),
            ),
            place(
                "spec.producer.podTemplate",
                None,
                producer.pod_template.clone(),
            ),
        ];
        for (index, target) in self.targets.iter().enumerate() {
            let path = format!("spec.targets[{index}].migration.podTemplate");
            places.push(place(&path, None, target.migration.pod_template.clone()));
        }
        places
    }

    /// Checks all templates. Which of them a template goes over decides which volumes it may mount.
    pub(super) fn check_pods(&self, at: &mut At<'_>) {
        let (common, processor) = (&self.pod_template, &self.processor.pod_template);
        check_template(common, &[], &mut at.field("podTemplate"));
        let mut part = at.field("processor");
        check_template(processor, &[common], &mut part.field("podTemplate"));
        let mut part = at.field("producer");
        let producer = &self.producer.pod_template;
        check_template(producer, &[common], &mut part.field("podTemplate"));
        for (index, target) in self.targets.iter().enumerate() {
            let mut targets = at.field("targets");
            let mut target_at = targets.index(index);
            let mut part = target_at.field("migration");
            check_template(
                &target.migration.pod_template,
                &[common, processor],
                &mut part.field("podTemplate"),
            );
        }
    }
}

fn check_template(template: &PodTemplateSpec, below: &[&PodTemplateSpec], at: &mut At<'_>) {
    template.check(at);
    template.check_mounted(below, at);
}

impl PodSettings<'_> {
    pub(super) fn check(&self, at: &mut At<'_>) {
        if let Some(resources) = self.resources {
            let mut at = at.field("resources");
            check_amounts(&resources.requests, &mut at.field("requests"));
            check_amounts(&resources.limits, &mut at.field("limits"));
        }
        self.template.check(at);
    }
}

fn check_pull_secrets(secrets: &[PullSecretSpec], at: &mut At<'_>) {
    at_most(secrets.len(), at);
    for (index, secret) in secrets.iter().enumerate() {
        let mut at = at.index(index);
        if secrets[..index].contains(secret) {
            at.field("name").problem("listed twice; remove one");
        }
        secret::check_name(&secret.name, &mut at.field("name"));
    }
}

const OBJECT_RULE: &str = "write a mapping, as a pod has it";

fn check_objects(values: &[Value], at: &mut At<'_>) {
    at_most(values.len(), at);
    for (index, value) in values.iter().enumerate() {
        if !value.is_object() {
            at.index(index).problem(OBJECT_RULE);
        }
    }
}

fn at_most(count: usize, at: &mut At<'_>) {
    if count > 16 {
        at.problem("list at most 16");
    }
}

/// Amounts are numbers or texts that begin with one; Kubernetes knows which resources there are.
fn check_amounts(amounts: &BTreeMap<String, Value>, at: &mut At<'_>) {
    at_most(amounts.len(), at);
    for (name, amount) in amounts {
        let mut at = at.field(name);
        if !is_qualified_name(name) {
            at.problem(QUALIFIED_RULE);
        }
        let is_amount = match amount {
            Value::Number(number) => number.is_u64(),
            Value::String(text) => is_amount(text),
            _ => false,
        };
        if !is_amount {
            at.problem("write a quantity such as 500m, 2 or 256Mi");
        }
    }
}

/// Kubernetes' quantity without a sign.
fn is_amount(text: &str) -> bool {
    const UNITS: [&str; 14] = [
        "", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let is_exponent = unit
        .strip_prefix(['e', 'E'])
        .map(|digits| digits.strip_prefix(['-', '+']).unwrap_or(digits))
        .is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
        });
    text.len() <= 32
        && number.bytes().any(|digit| digit.is_ascii_digit())
        && number.matches('.').count() <= 1
        && (UNITS.contains(&unit) || is_exponent)
}

fn check_labels(labels: &BTreeMap<String, String>, ours: bool, at: &mut At<'_>) {
    at_most_32(labels, at);
    for (key, value) in labels {
        let mut at = at.field(key);
        check_key(key, ours, &mut at);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let ends_well = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
        if value.len() > 63
            || !value.bytes().all(allowed)
            || !ends_well(value.bytes().next())
            || !ends_well(value.bytes().last())
        {
            at.problem(
                "give a value of at most 63 letters, digits and inner `-`, `_` or `.`, or an empty one",
            );
        }
    }
}

fn check_annotations(annotations: &BTreeMap<String, String>, at: &mut At<'_>) {
    at_most_32(annotations, at);
    let lengths = annotations.iter();
    let lengths = lengths.map(|(key, value)| key.len() + value.len());
    if lengths.sum::<usize>() > MOST_OF_ANNOTATIONS {
        at.problem("shorten them: all annotations of an object have 256 KiB");
    }
    for (key, value) in annotations {
        let mut at = at.field(key);
        check_key(key, true, &mut at);
        if value.chars().count() > 8192 {
            at.problem("give a value of at most 8192 characters");
        }
    }
}

fn at_most_32(entries: &BTreeMap<String, String>, at: &mut At<'_>) {
    if entries.len() > 32 {
        at.problem("list at most 32");
    }
}

fn check_key(key: &str, ours: bool, at: &mut At<'_>) {
    if ours && RESERVED.iter().any(|prefix| key.starts_with(prefix)) {
        at.problem("the operator sets this one itself: choose another key");
    } else if !is_qualified_name(key) {
        at.problem(QUALIFIED_RULE);
    }
}

const QUALIFIED_RULE: &str = "use a key of at most 63 letters, digits and inner `-`, `_` or `.`, with or without `example.com/` before it";

/// A key as Kubernetes has them: `name` or `prefix/name`.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    // what a label may have inside beyond a DNS label's bytes is made a DNS label's byte
    let plain = name.replace(['_', '.'], "-").to_ascii_lowercase();
    prefix.is_none_or(is_dns_subdomain) && is_dns_label(&plain, 63)
}
