//! What every service needs beside its work: logs, traces, metrics, the admin server and an orderly
//! end.
//!
//! ```text
//! main ── tracing::init                         logs: stderr, RUST_LOG; spans: OTEL_*
//!      ── shutdown::signal ──> token ──────────> the service drains, then cancels the admin server's token
//!      ── metrics::registry ──┐
//!      ── dyn Health ─────────┴> admin::serve    /livez /readyz /status /metrics
//! ```
//!
//! This crate knows nothing of events, Kafka or PostgreSQL: a service describes itself through
//! [`Health`].

pub mod admin;
pub mod client;
pub mod health;
pub mod http;
pub mod listen;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod probe;
pub mod secrets;
pub mod shutdown;
pub mod tls;
pub mod tracing;

pub use health::{Health, Verdict};
pub use metrics::build_info;
