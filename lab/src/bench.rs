//! `cargo xtask bench`: throughput, latency, CPU and memory of the processor on real servers, next
//! to what PostgreSQL's own COPY does on the same machine in the same minutes.
//!
//! ```text
//! stand: Kafka, PostgreSQL (fsync on), release binaries ──> each benchmark: fresh schema, CHECKPOINT, run ──> report
//! ```
//! Figures mean something relative to each other only: every one carries how much CPU others used
//! meanwhile.

mod backlog;
mod beside;
mod console;
mod copy;
mod days;
mod drain;
mod exactly_once;
mod figure;
mod latency;
mod leaderless;
mod load;
mod machine;
mod mapped;
mod metrics;
#[cfg(feature = "operator")]
mod operator;
mod partitions;
mod restart;
mod stand;
mod start;
mod tracing;
mod upgrade;

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use clickstream_protocol::output;
use xtask::args::{BenchArgs, Benchmark, Output};

use self::figure::Report;
use self::machine::Machine;
use self::stand::Stand;
use clickstream_tools::workspace_root;

/// Runs the benchmarks; prints their reports and writes them to `target/bench`.
///
/// # Errors
/// Something cannot be built or started, or a processor dies.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    // the servers of these are others, and are not started beside those of the rest
    let has_own = |benchmark| matches!(benchmark, Benchmark::Leaderless | Benchmark::Operator);
    let needs_stand = args.benchmarks.iter().any(|benchmark| !has_own(*benchmark));
    let mut stand = match needs_stand {
        true => Some(Stand::start(args.binaries.as_deref()).await?),
        false => None,
    };
    let mut machine = Machine::describe(stand.as_ref(), args.binaries.is_some()).await?;
    let mut failed = false;
    for benchmark in Benchmark::EACH {
        if !benchmark.is_asked(&args.benchmarks) {
            continue;
        }
        let name = benchmark.name();
        eprintln!("── {name}");
        if has_own(benchmark) && stand.take().is_some() {
            machine = Machine::describe(None, args.binaries.is_some()).await?;
        }
        let measured = match (&stand, benchmark) {
            (Some(stand), Benchmark::Drain) => drain::run(stand, &args).await,
            (Some(stand), Benchmark::Latency) => latency::run(stand, &args).await,
            (Some(stand), Benchmark::Restart) => restart::run(stand, &args).await,
            (Some(stand), Benchmark::Start) => start::run(stand, &args).await,
            (Some(stand), Benchmark::ExactlyOnce) => exactly_once::run(stand, &args).await,
            (Some(stand), Benchmark::Memory) => drain::memory(stand, &args).await,
            (Some(stand), Benchmark::Mapped) => mapped::run(stand, &args).await,
            (Some(stand), Benchmark::Metrics) => metrics::run(stand, &args).await,
            (Some(stand), Benchmark::Tracing) => tracing::run(stand, &args).await,
            (Some(stand), Benchmark::Console) => console::run(stand, &args).await,
            (Some(stand), Benchmark::Upgrade) => upgrade::run(stand, &args).await,
            (Some(stand), Benchmark::Days) => Box::pin(days::run(stand, &args)).await,
            (Some(stand), Benchmark::Partitions) => partitions::run(stand, &args).await,
            (_, Benchmark::Leaderless) => leaderless::run(&args).await,
            #[cfg(feature = "operator")]
            (_, Benchmark::Operator) => operator::run(&args).await,
            #[cfg(not(feature = "operator"))]
            (_, Benchmark::Operator) => without_operator(),
            (_, Benchmark::All) | (None, _) => continue,
        };
        match measured {
            Ok(figures) => {
                let report = Report::new(name, machine.clone(), figures);
                publish(&report, args.output)?;
                // the others' floors are for machines that do nothing else
                failed |= benchmark.is_strict() && report.misses_a_floor();
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

/// `cargo xtask` compiles the lab with what a benchmark needs.
#[cfg(not(feature = "operator"))]
fn without_operator() -> anyhow::Result<Vec<figure::Figure>> {
    anyhow::bail!("compiled without the feature `operator`: run `cargo xtask bench operator`")
}

fn publish(report: &Report, output: Output) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    let dir = workspace_root().join("target/bench");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(format!("{}.json", report.benchmark())), &json)?;
    let text = match output {
        Output::Table => report.table(),
        Output::Json => json,
    };
    writeln!(output::stdout(), "{text}")?;
    Ok(())
}
