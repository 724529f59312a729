//! Labels of what the operator makes, and the values that others go by.

/// The label with the pipeline's name.
pub const PIPELINE: &str = "clickstream.dev/pipeline";
/// The label with the target's name.
pub const TARGET: &str = "clickstream.dev/target";

/// The label with the program's name.
pub const NAME: &str = "app.kubernetes.io/name";
/// The label with what it is for: [`PROCESSOR`], [`AUDIT`] and the like.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The label with the pipeline's name, as other tools look for it.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label with [`CLICKSTREAM`].
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The label with who looks after it: [`OPERATOR`] or [`PLUGIN`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The operator, as [`MANAGED_BY`] names it.
pub const OPERATOR: &str = "clickstream-operator";
/// The plugin, as [`MANAGED_BY`] names it.
pub const PLUGIN: &str = "kubectl-clickstream";
/// What everything is a part of.
pub const CLICKSTREAM: &str = "clickstream";
/// Processors, as [`COMPONENT`] names them.
pub const PROCESSOR: &str = "processor";
/// Producers.
pub const PRODUCER: &str = "producer";
/// Jobs of the plugin that audit.
pub const AUDIT: &str = "audit";
