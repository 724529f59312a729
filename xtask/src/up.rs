//! `cargo xtask up`: the whole pipeline on this machine, with traffic, until Ctrl-C.
//!
//! ```text
//! prepare: tools, build ∥ Kafka ∥ PostgreSQL ──> topic, migrate, processors
//! traffic: producer ──> Kafka ──> processors ──> PostgreSQL      a screen a second, and the console's page
//! finish:  stop the producer, drain, audit, account ──> exit code
//! ```

mod console;
mod finish;
mod interrupt;
mod pages;
mod prepare;
mod probe;
mod recent;
mod screen;
mod servers;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::time::MissedTickBehavior;

use self::interrupt::Interrupts;
use self::prepare::Pipeline;
use self::screen::{Frame, Screen};
pub use self::screen::{count, pages};
use self::traffic::Traffic;
use crate::checkpoints;
use crate::steps::Steps;

/// What to run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask up                                        made-up traffic until Ctrl-C
  cargo xtask up --for 60s --rate 5000                  a minute of more of it
  cargo xtask up --replay access.log --speed max        a web server's log, as fast as it goes
  cargo xtask up --replay clicks.jsonl.gz --map event_ts=t,url=u,referrer=r,user_agent=a --speed 60
  cargo xtask up --kafka localhost:9092 --postgres postgres://me:secret@localhost/analytics

A page about the run is served while it lasts; its address is on the screen.

Ctrl-C stops the producer, waits until everything produced is in PostgreSQL, audits it against the log, and stops.
A second Ctrl-C stops at once. The exit code is 0 only if the audit is clean.")]
pub struct Args {
    /// The ClickstreamPipeline to run [default: manifests/quickstart/pipeline.yaml]; its first target and first topic
    /// are used.
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,

    /// Drain and stop after this long, as Ctrl-C does.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    period: Option<Duration>,

    /// Made-up events a second, instead of the document's.
    #[arg(long, value_name = "N", conflicts_with = "replay")]
    rate: Option<u32>,

    /// Replay these logs instead of making events up (plain or gzip); ends by itself.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    replay: Vec<PathBuf>,

    /// Pace of a replay: a factor, or max [default: as the log was written].
    #[arg(long, value_name = "N|max", requires = "replay")]
    speed: Option<String>,

    /// Form of the replayed logs [default: seen from their first lines].
    #[arg(long, value_name = "access|json", requires = "replay")]
    format: Option<String>,

    /// Names of the fields in a replayed JSON log, such as event_ts=t,url=u.
    #[arg(long, value_name = "FIELD=NAME,…", requires = "replay")]
    map: Option<String>,

    /// Brokers to use instead of starting Kafka.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,

    /// Database to use instead of starting PostgreSQL (without TLS).
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,

    /// Run the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,

    /// Keep topic and tables at the end, and go on with those of the last run with --keep.
    #[arg(long)]
    keep: bool,
}

/// Runs until Ctrl-C, the end of the period or the end of the replayed logs.
///
/// # Errors
/// Something cannot be had or started, or dies. Differences that the audit finds are an exit code, not an error.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let steps = Steps::new();
    let prepared = tokio::select! {
        prepared = Pipeline::prepare(&args, &steps) => prepared?,
        () = interrupts.next() => {
            eprintln!("stopped before anything was produced");
            return Ok(ExitCode::from(130));
        }
    };
    let mut impatient = interrupts.clone();
    tokio::select! {
        outcome = operate(&args, &steps, prepared, &mut interrupts) => outcome,
        () = async { impatient.next().await; impatient.next().await } => {
            eprintln!("stopped at once: not drained, not audited");
            Ok(ExitCode::from(130))
        }
    }
}

async fn operate(
    args: &Args,
    steps: &Steps,
    pipeline: Pipeline,
    interrupts: &mut Interrupts,
) -> anyhow::Result<ExitCode> {
    let before = pipeline.position().await?;
    let mut traffic = Traffic::start(args, &pipeline)?;
    watch(
        args,
        steps,
        &pipeline,
        &before,
        traffic.as_mut(),
        interrupts,
    )
    .await?;
    finish::run(args, steps, &pipeline, &before, traffic).await
}

/// Shows the pipeline once a second until the run shall end.
async fn watch(
    args: &Args,
    steps: &Steps,
    pipeline: &Pipeline,
    before: &prepare::Position,
    traffic: Option<&mut Traffic>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let probe = probe::start(pipeline)?;
    let mut screen = Screen::new(steps, pipeline);
    let begun = Instant::now();
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // at once, and of no use
    every_second.tick().await;
    loop {
        tokio::select! {
            () = interrupts.next() => break,
            _ = every_second.tick() => {}
        }
        if let Some((name, status)) = pipeline.ended_processor()? {
            bail!(
                "{name} ended by itself ({status}); the end of its log:\n{}",
                pipeline.log_tail(&name)
            );
        }
        let now = pipeline.position().await?;
        let clock = checkpoints::slowest_clock(&now.checkpoints);
        screen.show(&Frame {
            elapsed: begun.elapsed(),
            produced: now.produced() - before.produced(),
            counts: checkpoints::total(&now.checkpoints) - checkpoints::total(&before.checkpoints),
            lag: now.lag(),
            latency: probe.latency(),
            watermark: clock.map(|clock| clock - pipeline.watermark_delay()),
            pages: pages::newest(&pipeline.database, now.newest_clock()).await?,
        });
        if args.period.is_some_and(|period| begun.elapsed() >= period) {
            break;
        }
        if let Some(traffic) = &traffic
            && traffic.has_ended()?
        {
            break;
        }
    }
    screen.leave(steps);
    Ok(())
}
