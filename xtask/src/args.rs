//! The command line. One variant here, one module with `pub async fn run(args) -> anyhow::Result<ExitCode>` each.

use clap::{Parser, Subcommand};

use crate::{bench, e2e, images, kind, test, up};

/// Everything a contributor runs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
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
    Up(up::Args),
    /// Measure throughput, latency, CPU and memory on real servers.
    Bench(bench::Args),
    /// Build the container images, and push them where a registry is given.
    Images(images::Args),
    /// The Kubernetes quickstart as a command: a kind cluster with everything in it.
    Kind(kind::Args),
    /// The Kubernetes quickstart as a test, on a kind cluster of its own.
    E2e(e2e::Args),
}
