//! What the spec says about pods, in the types that a Deployment is built from.

use std::collections::BTreeMap;

use clickstream_pipeline::spec::PodSettings;
use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, HostAlias, LocalObjectReference, PodDNSConfig,
    PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The settings of one kind of pod, parsed; what the spec leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodOptions {
    /// CPU, memory and other resources of the container, unless the operator is to choose.
    pub resources: Option<ResourceRequirements>,
    /// Further labels of the pods.
    pub labels: BTreeMap<String, String>,
    /// Further annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// Name of a ServiceAccount that exists.
    pub service_account_name: Option<String>,
    /// Annotations of the operator's own ServiceAccount.
    pub service_account_annotations: BTreeMap<String, String>,
    /// Who the pods run as.
    pub security_context: Option<PodSecurityContext>,
    /// Who the container runs as.
    pub container_security_context: Option<SecurityContext>,
    /// Environment variables.
    pub env: Vec<EnvVar>,
    /// Where further ones come from.
    pub env_from: Vec<EnvFromSource>,
    /// Further volumes.
    pub volumes: Vec<Volume>,
    /// Where the container finds them.
    pub volume_mounts: Vec<VolumeMount>,
    /// Labels a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Nodes and neighbours that are preferred, needed or avoided.
    pub affinity: Option<Affinity>,
    /// How the pods spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Name of a PriorityClass.
    pub priority_class_name: Option<String>,
    /// Name of a RuntimeClass.
    pub runtime_class_name: Option<String>,
    /// Name of a scheduler.
    pub scheduler_name: Option<String>,
    /// Secrets with credentials of image registries.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Lines of the hosts file.
    pub host_aliases: Vec<HostAlias>,
    /// Settings of the resolver.
    pub dns_config: Option<PodDNSConfig>,
}

/// A value is not what Kubernetes takes in its place. The API server refuses such a resource, so it
/// is seen only where the definition in the cluster is another one than this operator's.
#[derive(Debug, thiserror::Error)]
#[error("{field} is not what a pod takes there: {source}")]
pub struct PodOptionsError {
    /// The field, below the place in the spec that it stands in.
    pub field: &'static str,
    /// What does not fit.
    pub source: serde_json::Error,
}

impl TryFrom<&PodSettings<'_>> for PodOptions {
    type Error = PodOptionsError;

    fn try_from(settings: &PodSettings<'_>) -> Result<Self, PodOptionsError> {
        let resources = settings
            .resources
            .map(|resources| {
                Ok(ResourceRequirements {
                    requests: amounts("resources.requests", &resources.requests)?,
                    limits: amounts("resources.limits", &resources.limits)?,
                    ..ResourceRequirements::default()
                })
            })
            .transpose()?;
        let template = &settings.template;
        Ok(Self {
            resources,
            labels: template.labels.clone(),
            annotations: template.annotations.clone(),
            service_account_name: template.service_account_name.clone(),
            service_account_annotations: template.service_account_annotations.clone(),
            security_context: one("securityContext", template.security_context.as_ref())?,
            container_security_context: one(
                "containerSecurityContext",
                template.container_security_context.as_ref(),
            )?,
            env: all("env", &template.env)?,
            env_from: all("envFrom", &template.env_from)?,
            volumes: all("volumes", &template.volumes)?,
            volume_mounts: all("volumeMounts", &template.volume_mounts)?,
            node_selector: template.node_selector.clone(),
            tolerations: all("tolerations", &template.tolerations)?,
            affinity: one("affinity", template.affinity.as_ref())?,
            topology_spread_constraints: all(
                "topologySpreadConstraints",
                &template.topology_spread_constraints,
            )?,
            priority_class_name: template.priority_class_name.clone(),
            runtime_class_name: template.runtime_class_name.clone(),
            scheduler_name: template.scheduler_name.clone(),
            image_pull_secrets: template
                .image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect(),
            host_aliases: all("hostAliases", &template.host_aliases)?,
            dns_config: one("dnsConfig", template.dns_config.as_ref())?,
        })
    }
}

fn amounts(
    field: &'static str,
    values: &BTreeMap<String, Value>,
) -> Result<Option<BTreeMap<String, Quantity>>, PodOptionsError> {
    let amounts = values
        .iter()
        .map(|(name, value)| Ok((name.clone(), parsed(field, value)?)))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Some(amounts).filter(|amounts| !amounts.is_empty()))
}

fn all<T: DeserializeOwned>(
    field: &'static str,
    values: &[Value],
) -> Result<Vec<T>, PodOptionsError> {
    values.iter().map(|value| parsed(field, value)).collect()
}

fn one<T: DeserializeOwned>(
    field: &'static str,
    value: Option<&Value>,
) -> Result<Option<T>, PodOptionsError> {
    value.map(|value| parsed(field, value)).transpose()
}

fn parsed<T: DeserializeOwned>(field: &'static str, value: &Value) -> Result<T, PodOptionsError> {
    T::deserialize(value).map_err(|source| PodOptionsError { field, source })
}
