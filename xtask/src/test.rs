//! `cargo xtask test`: the one command that says whether this checkout is good.
//!
//! ```text
//! workspace ──> lint ──> compile everything once ──> run its tests: unit, simulation, integration
//! ```
//! A red step does not stop the ones after it, so that one run tells everything; only tests that do
//! not compile cannot be run.

mod audit;
mod budget;
pub(crate) mod counts;
mod plan;
pub(crate) mod programs;
pub(crate) mod step;
mod summary;
pub(crate) mod workspace;

use std::process::ExitCode;

use clap::ValueEnum;

use self::budget::Budget;
use self::plan::Step;
use self::workspace::Workspace;
use crate::args::within;

/// Which steps to run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                       everything; installs what the real servers need
  cargo xtask test --fast                before each commit: no server, no audit, fewer seeds
  cargo xtask test --only unit           one part
  cargo xtask test --only simulation --seeds 1000000

How often tests repeat themselves follows from the machine's speed, which is measured first; every test runs on every
machine. Exit codes: 0 all green; 1 something is red; 2 wrong usage.")]
pub struct Args {
    /// Leave out what is slow: documentation, dependency audit, integration, and most seeds of the simulation.
    #[arg(long, conflicts_with = "only")]
    fast: bool,

    /// Run these parts only.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,

    /// Seeds of the simulation, each a whole run with its own faults [default: 20000 on a fast machine, with --fast 2000].
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = within(1..=1_000_000_000_000_u64))]
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

    fn budget(&self) -> Budget {
        let mut budget = Budget::of_this_machine(self.fast);
        if let Some(seeds) = self.seeds {
            budget.seeds = seeds;
        }
        budget
    }
}

/// Runs the steps; red when one of them is.
///
/// # Errors
/// The workspace cannot be read, or output cannot be written. A red step is no error.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::read()?;
    let budget = args.budget();
    eprintln!("{budget}");
    let mut reports = Vec::new();
    if args.wants(Part::Lint) {
        for step in plan::lint(args.fast, &workspace)? {
            reports.push(step.run());
        }
    }
    if [Part::Unit, Part::Simulation, Part::Integration].map(|part| args.wants(part)) != [false; 3]
    {
        let (report, programs) = programs::compile(args.wants(Part::Integration), &workspace);
        reports.push(report);
        let steps: Vec<Step> = plan::tests(args, &budget, &workspace, &programs);
        reports.extend(steps.into_iter().map(Step::run));
    }
    summary::print(&reports)?;
    let green = !reports.is_empty() && reports.iter().all(step::Report::is_green);
    Ok(if green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
