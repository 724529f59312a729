//! The command line, of this task and of the lab that it starts: help and refusals come within
//! seconds, before anything is compiled.

mod bench;
mod kind;
mod up;

use clap::{Parser, Subcommand};

pub use self::bench::{BenchArgs, Benchmark, Output};
pub use self::kind::{E2eArgs, KindArgs, KindCommand, Sources};
pub use self::up::UpArgs;
use crate::{images, test};

/// Everything a contributor runs.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask up                 the pipeline on this machine, with traffic
  cargo xtask test --fast        before each commit"
)]
pub struct Xtask {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check everything: format, lints, documentation, dependencies, then every test.
    Test(test::Args),
    /// Run the whole pipeline on this machine, with traffic and a live screen.
    Up(UpArgs),
    /// Measure throughput, latency, CPU and memory on real servers.
    Bench(BenchArgs),
    /// Build the container images, and push them where a registry is given.
    Images(images::Args),
    /// The Kubernetes quickstart as a command: a kind cluster with everything in it.
    Kind(KindArgs),
    /// The Kubernetes quickstart as a test, on a kind cluster of its own.
    E2e(E2eArgs),
}

/// A time as people write it.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a time such as 60s, 5m or 1h30m".to_owned())
}
