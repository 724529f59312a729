//! `cargo xtask up`: the whole pipeline on this machine, with traffic, until Ctrl-C.
//!
//! ```text
//! prepare: survey of logs ∥ Kafka ∥ PostgreSQL ──> topic, migrate, processors
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
mod survey;
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clickstream_protocol::exit::INTERRUPTED;
use tokio::time::MissedTickBehavior;
use xtask::args::UpArgs;
use xtask::steps::Steps;

use self::interrupt::Interrupts;
use self::prepare::Pipeline;
use self::screen::{Frame, Screen};
pub use self::screen::{count, pages};
use self::traffic::Traffic;
use crate::checkpoints;

/// Runs until Ctrl-C, the end of the period or the end of the replayed logs.
///
/// # Errors
/// Something cannot be had or started, or dies. Differences that the audit finds are an exit code,
/// not an error.
pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let steps = Steps::new();
    let prepared = tokio::select! {
        prepared = Pipeline::prepare(&args, &steps) => prepared?,
        () = interrupts.next() => {
            eprintln!("stopped before anything was produced");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let mut impatient = interrupts.clone();
    tokio::select! {
        outcome = operate(&args, &steps, prepared, &mut interrupts) => outcome,
        () = async { impatient.next().await; impatient.next().await } => {
            eprintln!("stopped at once: not drained, not audited");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn operate(
    args: &UpArgs,
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
    args: &UpArgs,
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
    // the first tick comes immediately: skip it
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
