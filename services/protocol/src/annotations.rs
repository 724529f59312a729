//! Annotations. By most of them people ask something of the operator: what is no part of how a
//! pipeline should be, and so has no place in its spec. By the others the operator tells processors
//! something beside it.

pub use clickstream_pipeline::spec::{OPERATOR, WRITTEN_BY};

/// In a processor's document: the topics that the operator made, separated by commas, so that the
/// schema knows it when the resource is gone.
pub const CREATED_TOPICS: &str = "clickstream.dev/created-topics";

/// With the value [`PAUSED`] the operator changes nothing: topics, tables and pods stay as they
/// are, data flows, and the status goes on.
pub const RECONCILE: &str = "clickstream.dev/reconcile";
/// The only value that [`RECONCILE`] knows.
pub const PAUSED: &str = "paused";
/// A time. Another one than before makes the operator look at everything anew, at once;
/// `status.lastHandledReconcileAt` repeats it when that is done.
pub const RECONCILE_AT: &str = "clickstream.dev/reconcile-at";
/// A time, which stands on all pods: another one replaces them, a new one first.
pub const RESTART_AT: &str = "clickstream.dev/restart-at";
/// A time. Another one than before lets every target's migration run again, at once.
pub const MIGRATE_AT: &str = "clickstream.dev/migrate-at";
/// Names of gaps that a person knows of, as `status.targets[].gaps` has them, separated by commas.
pub const ACKNOWLEDGED_GAPS: &str = "clickstream.dev/acknowledged-gaps";
/// Owners, as `namespace/name@cluster` and separated by commas, whose schemas a migration makes
/// this pipeline's.
pub const TAKE_OVER_FROM: &str = "clickstream.dev/take-over-from";

/// On pods: a hash of what they read at their start. Another one rolls them.
pub const CONFIG_HASH: &str = "clickstream.dev/config-hash";
/// On pods that run on although their Secrets have changed: another one rolls them.
pub const SECRETS_HASH: &str = "clickstream.dev/secrets-hash";
/// On pods: a hash of the annotations of their ServiceAccount, which a cloud provider reads when a
/// pod is made. Another one rolls them.
pub const ACCOUNT_HASH: &str = "clickstream.dev/service-account-hash";
/// On a Job: a hash of what an attempt was made with. Another one is worth another attempt at once.
pub const MIGRATION_INPUTS: &str = "clickstream.dev/migration-inputs";
