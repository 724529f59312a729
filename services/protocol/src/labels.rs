//! Labels of what the operator makes, and the values that others go by.

/// The label with the pipeline's name.
pub const PIPELINE: &str = "clickstream.dev/pipeline";
/// The label with the target's name.
pub const TARGET: &str = "clickstream.dev/target";

/// On a Job: the hash of its migration.
pub const MIGRATION_HASH: &str = "clickstream.dev/migration-hash";
/// On a Job: the number of the attempt, counted from 0.
pub const MIGRATION_ATTEMPT: &str = "clickstream.dev/migration-attempt";
/// On a Deployment: the operator's release that made its pod template.
pub const RELEASE: &str = "clickstream.dev/release";
/// On a Deployment: a hash of its pod template as it was sent.
pub const TEMPLATE: &str = "clickstream.dev/template-hash";
/// On a Deployment: a hash of what people say about its pods, or [`NOT_PINNED`].
pub const INPUTS: &str = "clickstream.dev/inputs-hash";
/// What [`INPUTS`] says of pods whose image is the operator's. The label is always there, so that
/// one that is missing means a release that did not know it.
pub const NOT_PINNED: &str = "none";
/// On a Deployment: which keys of Secrets its pods read, and what they said, as two hashes.
pub const SECRETS: &str = "clickstream.dev/secrets";
/// On a Deployment: the ConfigMap that its pods read.
pub const CONFIG_MAP: &str = "clickstream.dev/config-map";

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
