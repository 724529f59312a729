//! `podTemplate`: what people say about pods, of all pods of a pipeline or of one kind of them. One type in every place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::PullSecretSpec;

#[cfg(feature = "schema")]
use crate::spec::schema::{self, pods};

#[cfg(feature = "schema")]
const TEMPLATE_RULES: [schema::Rule; 1] = [schema::Rule {
    rule: "!has(self.serviceAccountName) || !has(self.serviceAccountAnnotations) || self.serviceAccountAnnotations.size() == 0",
    message: "these are for the ServiceAccount that the operator makes: annotate the one that serviceAccountName names, or remove that field",
    field: ".serviceAccountAnnotations",
}];

/// What pods have beyond what the operator gives them, in a pod's own terms. `spec.podTemplate` is for all pods;
/// `processor.podTemplate`, `producer.podTemplate` and `targets[].migration.podTemplate` go over it, field by field.
///
/// Values of Kubernetes' deep types are left as they were written: whoever builds a pod from them parses them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = schema::rules(&TEMPLATE_RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodTemplateSpec {
    /// Further labels of the pods. Those under `app.kubernetes.io/` and `clickstream.dev/` are the operator's. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::labels"))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations of the pods; the same prefixes are the operator's, and profiles of seccomp and AppArmor belong into
    /// `containerSecurityContext`. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "schema::annotations_of_template")
    )]
    pub annotations: BTreeMap<String, String>,
    /// Name of the ServiceAccount of the pods, which exists already. The nearest template that says anything about the account
    /// counts alone. Rolling. Default: one that the operator makes; of migrations, the namespace's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub service_account_name: Option<String>,
    /// Annotations of the ServiceAccount that the operator makes, as cloud providers read them to give pods a role. Rolling.
    /// Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::annotations"))]
    pub service_account_annotations: BTreeMap<String, String>,
    /// User, groups and profiles of the pods: `runAsUser`, `runAsGroup`, `fsGroup`, `fsGroupChangePolicy`, `supplementalGroups`,
    /// `seccompProfile`, `appArmorProfile`, `seLinuxOptions`. Nothing in it makes a pod less restricted. Rolling. Default: no user,
    /// not root, the runtime's seccomp profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::security_of_pod"))]
    pub security_context: Option<Value>,
    /// The same of the container alone: `runAsUser`, `runAsGroup`, `seccompProfile`, `appArmorProfile`, `seLinuxOptions`. Rolling.
    /// Default: no privileges, no capabilities, a root that cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "pods::security_of_container")
    )]
    pub container_security_context: Option<Value>,
    /// Environment variables, with a `value` or `valueFrom` a ConfigMap, a Secret, or a field of the pod; at most 64. Names that begin
    /// with `CLICKSTREAM_` are the operator's. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::env"))]
    pub env: Vec<Value>,
    /// ConfigMaps and Secrets whose keys become variables, each with a `prefix` that is no beginning of `CLICKSTREAM_`; those of `env` and
    /// of the operator go before them. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::env_from"))]
    pub env_from: Vec<Value>,
    /// Further volumes: `configMap`, `secret`, `projected`, `emptyDir` or `csi`. The names `pipeline` and `secret-0`, `secret-1`, .. are
    /// the operator's. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::volumes"))]
    pub volumes: Vec<Value>,
    /// Where the container finds them; each names a volume of this template, or of one that this one goes over. Rolling. Default: nowhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::volume_mounts"))]
    pub volume_mounts: Vec<Value>,
    /// Labels that a node must have to run the pods. Rolling. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::node_labels"))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods tolerate, as a pod has them. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Vec<k8s_openapi::api::core::v1::Toleration>", length(max = 16))
    )]
    pub tolerations: Vec<Value>,
    /// Which nodes, and which other pods beside them, the pods prefer, need or avoid, as a pod has it. Rolling. Default: unless
    /// `topologySpreadConstraints` are given, processors prefer zones that have fewer of their target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<k8s_openapi::api::core::v1::Affinity>")
    )]
    pub affinity: Option<Value>,
    /// How the pods spread over zones and nodes, as a pod has it. Rolling. Default: unless `affinity` is given, processors spread
    /// evenly over nodes, as far as they have room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            with = "Vec<k8s_openapi::api::core::v1::TopologySpreadConstraint>",
            length(max = 16)
        )
    )]
    pub topology_spread_constraints: Vec<Value>,
    /// Name of the PriorityClass of the pods. Rolling. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub priority_class_name: Option<String>,
    /// Name of the RuntimeClass of the pods. Rolling. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub runtime_class_name: Option<String>,
    /// Name of the scheduler that chooses nodes for the pods. Rolling. Default: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(min = 1, max = 253), regex(pattern = schema::DNS_SUBDOMAIN))
    )]
    pub scheduler_name: Option<String>,
    /// Secrets with credentials of the registries that the image comes from. Rolling. Default: the operator's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(max = 16),
            extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
        )
    )]
    pub image_pull_secrets: Vec<PullSecretSpec>,
    /// Lines of the pods' hosts file: an `ip` with `hostnames`. Rolling. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::host_aliases"))]
    pub host_aliases: Vec<Value>,
    /// `nameservers`, `searches` and `options` beside those of the cluster's DNS. Rolling. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "pods::dns_config"))]
    pub dns_config: Option<Value>,
}

impl PodTemplateSpec {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// This template with another one over it. Maps are merged by their keys; lists by what tells their elements apart: `env`,
    /// `volumes` and `imagePullSecrets` by name, `volumeMounts` by path, `hostAliases` by address. Everything else is taken from the
    /// one above where it says anything: half of an affinity, or of a list of tolerations, is nobody's wish.
    #[must_use]
    pub fn with(&self, over: &Self) -> Self {
        let account = if over.says_account() { over } else { self };
        Self {
            labels: merged(&self.labels, &over.labels),
            annotations: merged(&self.annotations, &over.annotations),
            service_account_name: account.service_account_name.clone(),
            service_account_annotations: account.service_account_annotations.clone(),
            security_context: fields(&self.security_context, &over.security_context),
            container_security_context: fields(
                &self.container_security_context,
                &over.container_security_context,
            ),
            env: by_key(&self.env, &over.env, |env| &env["name"]),
            env_from: later(&self.env_from, &over.env_from),
            volumes: by_key(&self.volumes, &over.volumes, |volume| &volume["name"]),
            volume_mounts: by_key(
                &self.volume_mounts,
                &over.volume_mounts,
                |mount| &mount["mountPath"],
            ),
            node_selector: merged(&self.node_selector, &over.node_selector),
            tolerations: said(&self.tolerations, &over.tolerations),
            affinity: over.affinity.as_ref().or(self.affinity.as_ref()).cloned(),
            topology_spread_constraints: said(
                &self.topology_spread_constraints,
                &over.topology_spread_constraints,
            ),
            priority_class_name: over
                .priority_class_name
                .as_ref()
                .or(self.priority_class_name.as_ref())
                .cloned(),
            runtime_class_name: over
                .runtime_class_name
                .as_ref()
                .or(self.runtime_class_name.as_ref())
                .cloned(),
            scheduler_name: over
                .scheduler_name
                .as_ref()
                .or(self.scheduler_name.as_ref())
                .cloned(),
            image_pull_secrets: by_key(
                &self.image_pull_secrets,
                &over.image_pull_secrets,
                |secret| &secret.name,
            ),
            host_aliases: by_key(&self.host_aliases, &over.host_aliases, |alias| &alias["ip"]),
            dns_config: fields(&self.dns_config, &over.dns_config),
        }
    }

    fn says_account(&self) -> bool {
        self.service_account_name.is_some() || !self.service_account_annotations.is_empty()
    }
}

fn merged(
    below: &BTreeMap<String, String>,
    over: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = below.clone();
    all.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}

fn fields(below: &Option<Value>, over: &Option<Value>) -> Option<Value> {
    match (below, over) {
        (Some(Value::Object(below)), Some(Value::Object(over))) => {
            let mut all = below.clone();
            all.extend(over.clone());
            Some(Value::Object(all))
        }
        (below, over) => over.as_ref().or(below.as_ref()).cloned(),
    }
}

/// Elements of `over` take the places of those with the same key, or come last.
fn by_key<T: Clone, K: PartialEq + ?Sized>(
    below: &[T],
    over: &[T],
    key: impl Fn(&T) -> &K,
) -> Vec<T> {
    let mut all = below.to_vec();
    for element in over {
        match all.iter_mut().find(|it| key(it) == key(element)) {
            Some(same) => *same = element.clone(),
            None => all.push(element.clone()),
        }
    }
    all
}

/// All elements; of two that give the same thing the later one counts.
fn later(below: &[Value], over: &[Value]) -> Vec<Value> {
    let before = below.iter().filter(|it| !over.contains(it));
    before.chain(over).cloned().collect()
}

fn said(below: &[Value], over: &[Value]) -> Vec<Value> {
    if over.is_empty() { below } else { over }.to_vec()
}
