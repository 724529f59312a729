//! Turns `ClickstreamPipeline` resources into topics, tables, processors and a producer.
//!
//! ```text
//! watch ──> controller::reconcile, in this order:
//!             dereference   I/O     Secrets, children, pods, topics: everything that is looked at
//!             validate      pure    the spec with all problems at once, or what may be built
//!             build         pure    the wanted children; cannot fail
//!             apply         I/O     server-side apply of what differs; topics by the Kafka admin API
//!             status        pure    conditions and numbers; written when they differ
//! ```
//!
//! The operator never connects to PostgreSQL: migration Jobs and the processors' `/status` tell it what is there. The data
//! path goes on without it.

mod app;
mod args;
mod cluster;
pub mod command;
mod controller;
mod events;
mod guarding;
mod hash;
mod health;
mod kind;
mod leader;
pub mod metrics;
mod observe;
mod review;
mod settings;
mod stores;
mod topics;

pub use clickstream_api as crd;

use std::process::ExitCode;

use clap::Parser as _;
use clickstream_protocol::output;

/// The program, from its arguments to its exit code. It stands here, and `main.rs` only calls it,
/// because async code is compiled where it is polled: there it would be compiled once more.
#[tokio::main]
pub async fn program() -> ExitCode {
    match command::Cli::parse().run().await {
        Ok(code) => code,
        Err(error) => output::failed(&*error, &format!("{error:#}")),
    }
}
