//! A small live page about one pipeline. It reads, and changes nothing.
//!
//! ```text
//!  PostgreSQL (read-only) ──┐
//!                           ├─ poller, once a second while somebody looks ─▶ view ─▶ hub: one snapshot ─▶ SSE, many pages
//!  processors' /status ─────┘
//!  PostgreSQL ◀── explain: one window, when somebody asks for it
//! ```
//!
//! `view`, `traffic`, `latency` and `explain`'s verdicts are pure: they take what was read and the time as arguments.

pub mod app;
pub mod args;
pub mod assets;
pub mod auth;
pub mod database;
pub mod explain;
mod given;
pub mod hub;
pub mod latency;
pub mod poller;
pub mod processors;
pub mod routes;
pub mod server;
pub mod traffic;
pub mod view;

use std::process::ExitCode;

use clap::Parser as _;
use clickstream_protocol::output;

/// The program, from its arguments to its exit code. It stands here, and `main.rs` only calls it,
/// because async code is compiled where it is polled: there it would be compiled once more.
#[tokio::main(worker_threads = 2)]
pub async fn program() -> ExitCode {
    match args::Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::failed(&*error, &clickstream_postgres::explain_chain(&*error)),
    }
}
