//! Everything a contributor runs: `cargo xtask --help`.

mod args;
mod bench;
mod binaries;
mod cargo;
mod checkpoints;
mod document;
mod e2e;
mod images;
mod kind;
mod log;
mod program;
mod root;
mod steps;
mod test;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Command, Xtask};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Xtask::parse().command {
        Command::Test(args) => test::run(args).await,
        Command::Up(args) => Box::pin(up::run(args)).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Images(args) => images::run(args).await,
        Command::Kind(args) => kind::run(args).await,
        Command::E2e(args) => e2e::run(args).await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
