//! Everything a contributor runs: `cargo xtask --help`.

use std::process::ExitCode;

use clap::Parser;
use xtask::args::{Command, LabCommand, Xtask};
use xtask::{bots, faults, images, lab, release, test};

fn main() -> ExitCode {
    let outcome = match &Xtask::parse().command {
        Command::Test(args) => test::run(args),
        Command::Faults(args) => faults::run(args),
        Command::Images(args) => images::run(args),
        Command::Release(args) => release::run(args),
        Command::Bots(args) => bots::run(args),
        Command::Lab(LabCommand::Up(args)) => lab::up(args),
        Command::Lab(LabCommand::Bench(args)) => lab::bench(args),
        Command::Lab(LabCommand::Kind(args)) => lab::kind(args),
        Command::Lab(LabCommand::E2e(_)) => lab::e2e(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
