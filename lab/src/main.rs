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
mod up;

use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use xtask::args::{Command, Xtask};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Xtask::parse().command {
        Command::Up(args) => Box::pin(up::run(args)).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Kind(args) => kind::run(args).await,
        Command::E2e(args) => e2e::run(args).await,
        Command::Test(_) | Command::Images(_) => elsewhere(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn elsewhere() -> anyhow::Result<ExitCode> {
    bail!(
        "this is the lab, which knows up, bench, kind and e2e; `cargo xtask test` and `cargo xtask images` are not its"
    )
}
