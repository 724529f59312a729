//! Takes click events from Kafka into PostgreSQL, exactly once.
//!
//! ```text
//!   kafka::source (its own thread)          runner (tokio)                         sink
//!   poll ─▶ pipeline::Engine ──── Shared ───▶ take_flush ─▶ pipeline::commit::settle ─▶ one transaction
//!     ▲        rebalance: claim, drain ◀────── claims, commands ◀──────────────────── outcome
//! ```

pub mod app;
pub mod args;
pub mod audit;
pub mod document;
pub mod drop;
pub mod failpoints;
pub mod gauges;
pub mod headroom;
pub mod heartbeat;
pub mod journeys;
pub mod kafka;
pub mod metrics;
pub mod migrate;
pub mod opening;
pub mod progress;
pub mod retry;
pub mod rules;
pub mod runner;
pub mod shared;
pub mod sink;
pub mod status;
pub mod upkeep;

use std::process::ExitCode;

use clap::Parser as _;
use clickstream_protocol::{exit::WANTS_MIGRATION, output};

/// The program, from its arguments to its exit code. It stands here, and `main.rs` only calls it,
/// because async code is compiled where it is polled: there it would be compiled once more.
#[tokio::main(worker_threads = 2)]
pub async fn program() -> ExitCode {
    match args::Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            let failed = output::failed(&*error, &clickstream_postgres::explain_chain(&*error));
            if opening::wants_migration(&error) {
                ExitCode::from(WANTS_MIGRATION)
            } else {
                failed
            }
        }
    }
}
