//! `cargo xtask bench`: throughput, latency, CPU and memory of the processor on real servers, next to what PostgreSQL's own
//! COPY does on the same machine in the same minutes.
//!
//! ```text
//! stand: Kafka, PostgreSQL (fsync on), release binaries ──> each benchmark: fresh schema, CHECKPOINT, run ──> report
//! ```
//! Figures mean something relative to each other only: every one carries how much CPU others used meanwhile.

mod backlog;
mod console;
mod copy;
mod drain;
mod exactly_once;
mod figure;
mod latency;
mod load;
mod machine;
mod metrics;
mod operator;
mod restart;
mod stand;
mod start;
mod tracing;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use self::figure::Report;
use self::machine::Machine;
use self::stand::Stand;
use crate::{binaries, root};

/// What to measure, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                            everything; half an hour
  cargo xtask bench drain --runs 5             throughput against COPY
  cargo xtask bench latency start -o json      the results also lie in target/bench/*.json")]
pub struct Args {
    /// Which benchmarks.
    #[arg(value_enum, default_value = "all")]
    benchmarks: Vec<Benchmark>,

    /// Runs of each, of which the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Records of a backlog.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    events: u64,

    /// How long each rate of the latency benchmark lasts, after three seconds that do not count.
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    period: Duration,

    /// Pipelines that the operator's benchmark creates at once.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pipelines: u32,

    /// Run the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,

    /// How the report is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Benchmark {
    /// A backlog into PostgreSQL, against COPY of the same rows; CPU and peak memory.
    Drain,
    /// From produce() to a row that another session sees, at 83, 1,000 and 10,000 events a second.
    Latency,
    /// The rest of a backlog after the processor was killed half way through.
    Restart,
    /// From exec to the first commit.
    Start,
    /// What exactly-once costs, against a build without it.
    ExactlyOnce,
    /// Resident memory at rest after a backlog.
    Memory,
    /// A backlog with metrics that are read every second, against one without.
    Metrics,
    /// A backlog drained and produced with spans that go to a real Collector, against both without.
    Tracing,
    /// What a page of the console costs the processor at 10,000 events a second.
    Console,
    /// The operator: one pipeline, many at once, none at all, and an API server that restarts.
    Operator,
    /// All of them.
    All,
}

impl Benchmark {
    const EACH: [Self; 10] = [
        Self::Drain,
        Self::Restart,
        Self::Memory,
        Self::Start,
        Self::Latency,
        Self::ExactlyOnce,
        Self::Metrics,
        Self::Tracing,
        Self::Console,
        Self::Operator,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Latency => "latency",
            Self::Restart => "restart",
            Self::Start => "start",
            Self::ExactlyOnce => "exactly-once",
            Self::Memory => "memory",
            Self::Metrics => "metrics",
            Self::Tracing => "tracing",
            Self::Console => "console",
            Self::Operator => "operator",
            Self::All => "all",
        }
    }
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs the benchmarks; prints their reports and writes them to `target/bench`.
///
/// # Errors
/// Something cannot be built or started, or a processor dies.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        // this program's own part (COPY's source, the open-loop sender) must not be slower than what it is compared with
        return again_in_release().await;
    }
    // the operator's servers are others, and are not started beside these
    let needs_stand = args
        .benchmarks
        .iter()
        .any(|benchmark| *benchmark != Benchmark::Operator);
    let mut stand = match needs_stand {
        true => Some(Stand::start(args.binaries.as_deref()).await?),
        false => None,
    };
    let mut machine = Machine::describe(stand.as_ref(), args.binaries.is_some()).await?;
    let mut failed = false;
    for benchmark in Benchmark::EACH {
        if !args.benchmarks.contains(&benchmark) && !args.benchmarks.contains(&Benchmark::All) {
            continue;
        }
        let name = benchmark.name();
        eprintln!("── {name}");
        if benchmark == Benchmark::Operator && stand.take().is_some() {
            machine = Machine::describe(None, args.binaries.is_some()).await?;
        }
        let measured = match (&stand, benchmark) {
            (Some(stand), Benchmark::Drain) => drain::run(stand, &args).await,
            (Some(stand), Benchmark::Latency) => latency::run(stand, &args).await,
            (Some(stand), Benchmark::Restart) => restart::run(stand, &args).await,
            (Some(stand), Benchmark::Start) => start::run(stand, &args).await,
            (Some(stand), Benchmark::ExactlyOnce) => exactly_once::run(stand, &args).await,
            (Some(stand), Benchmark::Memory) => drain::memory(stand, &args).await,
            (Some(stand), Benchmark::Metrics) => metrics::run(stand, &args).await,
            (Some(stand), Benchmark::Tracing) => tracing::run(stand, &args).await,
            (Some(stand), Benchmark::Console) => console::run(stand, &args).await,
            (_, Benchmark::Operator) => operator::run(&args).await,
            (_, Benchmark::All) | (None, _) => continue,
        };
        match measured {
            Ok(figures) => {
                let report = Report::new(name, machine.clone(), figures);
                publish(&report, args.output)?;
            }
            // the others' figures are still wanted
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed = true;
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn again_in_release() -> anyhow::Result<ExitCode> {
    eprintln!("building this task in the release profile");
    let program = binaries::build(&["xtask"], &[], |_| {}).await?;
    let program = program.first().context("cargo built no xtask")?;
    let status = tokio::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .kill_on_drop(true)
        .status()
        .await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn publish(report: &Report, output: Output) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    let dir = root::path().join("target/bench");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(format!("{}.json", report.benchmark())), &json)?;
    let text = match output {
        Output::Table => report.table(),
        Output::Json => json,
    };
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}
