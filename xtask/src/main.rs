//! Everything a contributor runs: `cargo xtask --help`.

use std::process::ExitCode;

use clap::Parser;
use xtask::args::{Command, Xtask};
use xtask::{images, lab, test};

fn main() -> ExitCode {
    let outcome = match &Xtask::parse().command {
        Command::Test(args) => test::run(args),
        Command::Images(args) => images::run(args),
        Command::Up(args) => lab::up(args),
        Command::Bench(args) => lab::bench(args),
        Command::Kind(_) => lab::kind(),
        Command::E2e(_) => lab::e2e(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
