//! The `ClickstreamPipeline` resource: the one document that describes a pipeline, with or without Kubernetes.

pub mod semantic;

pub use semantic::{LatePolicy, SemanticSpec};
