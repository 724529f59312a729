//! What the spec says about pods, in the types that a Deployment is built from.

use std::collections::BTreeMap;

use clickstream_pipeline::spec::PodSettings;
use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
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
    /// Labels a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints the pods put up with.
    pub tolerations: Vec<Toleration>,
    /// Nodes and neighbours that are preferred, needed or avoided.
    pub affinity: Option<Affinity>,
    /// How the pods spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Name of a PriorityClass.
    pub priority_class_name: Option<String>,
    /// Secrets with credentials of image registries.
    pub image_pull_secrets: Vec<LocalObjectReference>,
}

/// A value is not what Kubernetes takes in its place. The API server refuses such a resource, so it is seen only where
/// the definition in the cluster is another one than this operator's.
#[derive(Debug, thiserror::Error)]
#[error("{field} is not what a pod takes there: {source}")]
pub struct PodOptionsError {
    /// The field, below `spec.processor` or `spec.producer`.
    pub field: &'static str,
    /// What does not fit.
    pub source: serde_json::Error,
}

impl TryFrom<PodSettings<'_>> for PodOptions {
    type Error = PodOptionsError;

    fn try_from(settings: PodSettings<'_>) -> Result<Self, PodOptionsError> {
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
        Ok(Self {
            resources,
            labels: settings.labels.clone(),
            annotations: settings.annotations.clone(),
            node_selector: settings.node_selector.clone(),
            tolerations: all("tolerations", settings.tolerations)?,
            affinity: settings
                .affinity
                .map(|value| parsed("affinity", value))
                .transpose()?,
            topology_spread_constraints: all(
                "topologySpreadConstraints",
                settings.topology_spread_constraints,
            )?,
            priority_class_name: settings.priority_class_name.map(ToOwned::to_owned),
            image_pull_secrets: settings
                .image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference {
                    name: secret.name.clone(),
                })
                .collect(),
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

fn parsed<T: DeserializeOwned>(field: &'static str, value: &Value) -> Result<T, PodOptionsError> {
    T::deserialize(value).map_err(|source| PodOptionsError { field, source })
}
