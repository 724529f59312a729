//! What every service needs beside its work: logs, metrics, the admin server and an orderly end.
//!
//! ```text
//! main ── logging::init                         stderr, RUST_LOG
//!      ── shutdown::signal ──> token ──────────> the service drains, then cancels the admin server's token
//!      ── metrics::registry ──┐
//!      ── dyn Health ─────────┴> admin::serve    /livez /readyz /status /metrics
//! ```
//!
//! This crate knows nothing of events, Kafka or PostgreSQL: a service describes itself through [`Health`].

pub mod admin;
pub mod health;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod probe;
pub mod secrets;
pub mod shutdown;

pub use health::{Health, Verdict};
pub use metrics::build_info;
