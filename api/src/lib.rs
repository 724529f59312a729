//! The `ClickstreamPipeline` as the Kubernetes API knows it, and the CustomResourceDefinition that
//! teaches it.
//!
//! ```text
//! clickstream_pipeline::spec --schemars--> schema --> crd() --> crd_yaml()   charts, manifests
//!                                                           --> reference()  docs/reference.md
//! ```
//!
//! The spec is the processors' own type, so the two cannot disagree; only the status is the
//! operator's.

mod definition;
pub mod mesh;
mod pod;
mod reference;
mod schema;
mod status;

use std::borrow::Cow;

use clickstream_pipeline::spec::{self, Metadata, PipelineSpec};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::object::{HasSpec, HasStatus};
use serde::{Deserialize, Serialize};

pub use definition::{CRD_NAME, PLURAL, SHORT_NAME, crd, crd_yaml};
pub use pod::{PodOptions, PodOptionsError};
pub use reference::reference;
pub use status::{
    CleanupStatus, ClickstreamPipelineStatus, MigrationStatus, PartitionStatus, TargetStatus,
    TopicStatus, UpgradeStatus,
};

/// A pipeline in the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClickstreamPipeline {
    /// `clickstream.dev/v1alpha1`.
    pub api_version: String,
    /// `ClickstreamPipeline`.
    pub kind: String,
    /// Name, namespace, and what the API keeps beside them.
    pub metadata: ObjectMeta,
    /// What the pipeline should be.
    pub spec: PipelineSpec,
    /// What the pipeline was last seen to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ClickstreamPipelineStatus>,
}

impl ClickstreamPipeline {
    /// A pipeline that the API has not seen yet.
    #[must_use]
    pub fn new(name: &str, spec: PipelineSpec) -> Self {
        Self {
            api_version: format!("{}/{}", spec::GROUP, spec::VERSION),
            kind: spec::KIND.to_owned(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }
    }

    /// The document that processors and migrations read: name, namespace and spec, and nothing that
    /// the API or people keep beside them, so that a label or an annotation rolls no pod.
    #[must_use]
    pub fn document(&self) -> spec::ClickstreamPipeline {
        spec::ClickstreamPipeline {
            api_version: format!("{}/{}", spec::GROUP, spec::VERSION),
            kind: spec::KIND.to_owned(),
            metadata: Metadata {
                name: self.metadata.name.clone().unwrap_or_default(),
                namespace: self
                    .metadata
                    .namespace
                    .clone()
                    .unwrap_or_else(|| "default".to_owned()),
                labels: std::collections::BTreeMap::new(),
                annotations: std::collections::BTreeMap::new(),
            },
            spec: self.spec.clone(),
        }
    }
}

impl Resource for ClickstreamPipeline {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        spec::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        spec::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        spec::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl HasSpec for ClickstreamPipeline {
    type Spec = PipelineSpec;

    fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    fn spec_mut(&mut self) -> &mut PipelineSpec {
        &mut self.spec
    }
}

impl HasStatus for ClickstreamPipeline {
    type Status = ClickstreamPipelineStatus;

    fn status(&self) -> Option<&ClickstreamPipelineStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<ClickstreamPipelineStatus> {
        &mut self.status
    }
}
