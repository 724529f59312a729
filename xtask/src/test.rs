//! `cargo xtask test`: the one command that says whether this checkout is good.
//!
//! ```text
//! workspace (cargo metadata) ──> plan: steps in order ──> run each, streamed and counted ──> summary, exit code
//! ```
//! A red step does not stop the ones after it, so that one run tells everything.

mod audit;
mod counts;
mod plan;
mod step;
mod summary;
mod workspace;

use std::process::ExitCode;

use clap::ValueEnum;

use self::plan::Plan;
use self::step::Report;
use self::workspace::Workspace;

/// Seeds of the simulation in an ordinary run.
const SEEDS: u64 = 20_000;

/// Seeds with `--fast`.
const FAST_SEEDS: u64 = 2_000;

/// Which steps to run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                       everything; installs what the real servers need
  cargo xtask test --fast                before each commit: no server, no audit, fewer seeds
  cargo xtask test --only unit           one part
  cargo xtask test --only simulation --seeds 1000000")]
pub struct Args {
    /// Leave out what is slow: documentation, dependency audit, integration, and most seeds of the simulation.
    #[arg(long, conflicts_with = "only")]
    fast: bool,

    /// Run these parts only.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,

    /// Seeds of the simulation, each a whole run with its own faults [default: 20000, with --fast 2000].
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Format, clippy, documentation, dependency audit.
    Lint,
    /// Unit and property tests, without any server.
    Unit,
    /// The engine under seeded faults, on an in-memory log and database.
    Simulation,
    /// The binaries on real Kafka and PostgreSQL, started by the tests.
    Integration,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        if self.only.is_empty() {
            !(self.fast && part == Part::Integration)
        } else {
            self.only.contains(&part)
        }
    }

    fn seeds(&self) -> u64 {
        self.seeds
            .unwrap_or(if self.fast { FAST_SEEDS } else { SEEDS })
    }
}

/// Runs the steps; red when one of them is.
///
/// # Errors
/// The workspace cannot be read, or output cannot be written. A red step is no error.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::read().await?;
    let plan = Plan::new(&args, &workspace);
    let mut reports: Vec<Report> = Vec::new();
    for step in plan.steps {
        step::announce(&step.name);
        reports.push(step.run().await);
    }
    summary::print(&reports)?;
    let green = !reports.is_empty() && reports.iter().all(Report::is_green);
    Ok(if green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
