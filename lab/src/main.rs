//! The pipeline on real servers, for people and for benchmarks. `cargo xtask` compiles this program
//! with the services beside it, and starts it with its own arguments.

mod bench;
mod binaries;
mod checkpoints;
mod document;
mod e2e;
mod kind;
mod log;
mod program;
mod revision;
mod up;

use std::process::ExitCode;

use clap::Parser;
use clickstream_protocol::output;
use xtask::args::{Lab, LabCommand};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Lab::parse().command {
        LabCommand::Up(args) => Box::pin(up::run(args)).await,
        LabCommand::Bench(args) => Box::pin(bench::run(args)).await,
        LabCommand::Kind(args) => kind::run(args).await,
        LabCommand::E2e(args) => e2e::run(args).await,
    };
    outcome.unwrap_or_else(|error| output::failed(&*error, &format!("{error:#}")))
}
