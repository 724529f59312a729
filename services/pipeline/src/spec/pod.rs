//! What `spec.processor` and `spec.producer` say about their pods, in Kubernetes' own terms. The services themselves
//! read none of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secret::{self, is_dns_label, is_dns_subdomain};
use super::validate::At;

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

/// The settings of one kind of pod, whichever part of the spec they stand in.
///
/// Values in Kubernetes' own deep types are left as they were written: whoever builds a pod from them parses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodSettings<'s> {
    /// CPU, memory and other resources of the container, unless the operator chooses.
    pub resources: Option<&'s ResourcesSpec>,
    /// Further labels of the pods.
    pub labels: &'s BTreeMap<String, String>,
    /// Further annotations of the pods.
    pub annotations: &'s BTreeMap<String, String>,
    /// Labels a node must have.
    pub node_selector: &'s BTreeMap<String, String>,
    /// Taints the pods put up with: Kubernetes' `Toleration`s.
    pub tolerations: &'s [Value],
    /// Kubernetes' `Affinity`.
    pub affinity: Option<&'s Value>,
    /// Kubernetes' `TopologySpreadConstraint`s.
    pub topology_spread_constraints: &'s [Value],
    /// Name of a PriorityClass.
    pub priority_class_name: Option<&'s str>,
    /// Secrets with credentials of image registries.
    pub image_pull_secrets: &'s [PullSecretSpec],
}

/// Labels and annotations under these belong to the operator.
const RESERVED: [&str; 2] = ["app.kubernetes.io/", "clickstream.dev/"];

impl PodSettings<'_> {
    pub(super) fn check(&self, at: &mut At<'_>) {
        if let Some(resources) = self.resources {
            let mut at = at.field("resources");
            check_amounts(&resources.requests, &mut at.field("requests"));
            check_amounts(&resources.limits, &mut at.field("limits"));
        }
        check_labels(self.labels, true, &mut at.field("labels"));
        check_annotations(self.annotations, &mut at.field("annotations"));
        check_labels(self.node_selector, false, &mut at.field("nodeSelector"));
        check_objects(self.tolerations, &mut at.field("tolerations"));
        if self.affinity.is_some_and(|affinity| !affinity.is_object()) {
            at.field("affinity").problem(OBJECT_RULE);
        }
        check_objects(
            self.topology_spread_constraints,
            &mut at.field("topologySpreadConstraints"),
        );
        if self
            .priority_class_name
            .is_some_and(|name| !is_dns_subdomain(name))
        {
            at.field("priorityClassName").problem(
                "name a PriorityClass: lowercase letters, digits, `-` and `.`, at most 253 characters",
            );
        }
        let mut at = at.field("imagePullSecrets");
        at_most(self.image_pull_secrets.len(), &mut at);
        for (index, secret) in self.image_pull_secrets.iter().enumerate() {
            let earlier = &self.image_pull_secrets[..index];
            let mut at = at.index(index);
            if earlier.contains(secret) {
                at.field("name").problem("listed twice; remove one");
            }
            secret::check_name(&secret.name, &mut at.field("name"));
        }
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
