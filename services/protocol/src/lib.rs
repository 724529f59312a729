//! What the programs of different releases tell each other, each word of it defined once.
//!
//! ```text
//! processor ── /status ─────────────> operator, console, plugin     status
//! migration ── termination message ─> operator                      migration
//! processor ── exit code ───────────> operator, plugin, xtask       exit
//! operator  ── labels, annotations ─> itself, plugin, processor     labels, annotations
//! operator  ── conditions, Events ──> people, plugin, metrics           conditions
//! people    ── annotations ─────────> operator                      annotations
//! programs  ── text ────────────────> people, who may stop reading      output
//! ```
//!
//! An operator meets processors of other releases, older and newer ones. So a field is added and
//! none is renamed or taken away; who reads ignores what it does not know, and does without what is
//! not there. Tests here hold what the first release wrote and read.

pub mod annotations;
pub mod conditions;
pub mod exit;
pub mod labels;
pub mod migration;
pub mod output;
pub mod status;

/// The port of a pod that serves `/status`, `/metrics` and the probes, by its name in the
/// container.
pub const ADMIN_PORT_NAME: &str = "admin";
/// The variable of a container that serves that port by TLS.
pub const ADMIN_TLS: &str = "CLICKSTREAM_ADMIN_TLS";
/// The variable of a container that wants a token at `/status` and `/metrics`: where it reads
/// tokens.
pub const ADMIN_TOKENS: &str = "CLICKSTREAM_ADMIN_TOKENS";
