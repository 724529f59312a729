//! Click events into Kafka: from a seeded generator, or from the logs that people have.
//!
//! ```text
//! generator ───────────────────────────┐
//!                                      ├─> feed ─> drive (due? wait) ─> kafka (queue, retries) ─> topic
//! replay: input ─> formats ─> merge ───┘             └─> progress, metrics, summary
//! ```
//!
//! [`generator`] and [`replay`] are pure apart from [`replay::input`] and [`replay::merge`]:
//! records follow from arguments, and every record says when it is due. Only [`drive`] knows the
//! time of day, and only [`kafka`] knows Kafka.

pub mod app;
pub mod args;
pub mod drive;
pub mod event_json;
pub mod feed;
pub mod generator;
pub mod inspect;
pub mod kafka;
pub mod metrics;
mod print;
pub mod progress;
pub mod record;
pub mod replay;
pub mod settings;
pub mod stop;
pub mod summary;
pub mod survey;

use std::process::ExitCode;

use clap::Parser as _;
use clickstream_protocol::output;

/// The program, from its arguments to its exit code. It stands here, and `main.rs` only calls it,
/// because async code is compiled where it is polled: there it would be compiled once more.
#[tokio::main]
pub async fn program() -> ExitCode {
    match app::run(args::Cli::parse()).await {
        Ok(code) => code,
        Err(error) => output::failed(&*error, &format!("{error:#}")),
    }
}
