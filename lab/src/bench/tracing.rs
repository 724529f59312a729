//! What traces cost: a backlog drained and a backlog produced with them and without, in turn.
//!
//! On: the default sampler and a real Collector on the same machine, whose work counts against the
//! run. One record in ten thousand of the backlog carries a header, as the producer writes them, so
//! that flushes have events to follow. Off: no endpoint; the same log.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clickstream_producer::generator::IdForm;
use clickstream_testbed::{Collector, Process};
use serde_json::Value;

use super::backlog::{Backlog, Contents, Resends};
use super::drain::{self, DrainRun};
use super::figure::{Aim, Figure, Run};
use super::load::Load;
use super::stand::Stand;
use xtask::args::BenchArgs;

/// Fewer runs would not tell 2 % from noise.
const RUNS: u32 = 5;
/// Fewer records might hold none that is sampled.
const FEWEST: u64 = 100_000;
/// How long the producer may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Records/s with traces against those without.
const AGAINST_OFF: Aim = Aim::at_least(0.98, 0.98);
/// The variable that switches traces on.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What one side of a round gave.
#[derive(Clone, Copy, Debug)]
struct Measured {
    drain: DrainRun,
    produced: Run,
}

/// Drains and produces with and without, in turn; which comes first changes from round to round.
///
/// # Errors
/// A run fails, no Collector can be had, or no span arrived.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    ensure!(
        args.events >= FEWEST,
        "--events: at least {FEWEST}, or hardly any of them is sampled"
    );
    let collector = Collector::start().await?;
    let contents = Contents {
        records: args.events,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let backlog = Backlog::fill_sampled(stand, contents).await?;
    let warm_up = measure(stand, &backlog, args, None).await?;
    drain::note("warm-up, not counted", &warm_up.drain);
    let mut runs = Vec::new();
    for round in 1..=args.runs.max(RUNS) {
        let pair = if round % 2 == 0 {
            let off = measure(stand, &backlog, args, None).await?;
            (measure(stand, &backlog, args, Some(&collector)).await?, off)
        } else {
            let on = measure(stand, &backlog, args, Some(&collector)).await?;
            (on, measure(stand, &backlog, args, None).await?)
        };
        drain::note(&format!("on {round}"), &pair.0.drain);
        drain::note(&format!("off {round}"), &pair.1.drain);
        runs.push(pair);
    }
    let spans = collector.spans();
    let arrived = |name: &str| {
        spans
            .iter()
            .filter(|span| span.name.starts_with(name))
            .count()
    };
    let (flushes, sent) = (arrived("flush"), arrived("send "));
    ensure!(
        flushes > 0 && sent > 0,
        "{flushes} spans of flushes and {sent} of sent records arrived: traces were not on"
    );
    eprintln!(
        "{} spans arrived, {flushes} of flushes, {sent} of sent records",
        spans.len()
    );
    let drain = |value: fn(&DrainRun) -> f64| {
        move |(on, off): &(Measured, Measured)| Run {
            value: value(&on.drain) / value(&off.drain),
            foreign_cpu: on.drain.foreign_cpu.max(off.drain.foreign_cpu),
        }
    };
    Ok(vec![
        Figure::of("drain, traces on", "records/s", &runs, None, |(on, _)| {
            on.drain.run(on.drain.rate())
        }),
        Figure::of("drain, traces off", "records/s", &runs, None, |(_, off)| {
            off.drain.run(off.drain.rate())
        }),
        Figure::of(
            "drain, on ÷ off",
            "",
            &runs,
            Some(AGAINST_OFF),
            drain(DrainRun::rate),
        ),
        Figure::of(
            "processor CPU, on ÷ off",
            "",
            &runs,
            None,
            drain(|run| run.cpu_seconds),
        ),
        Figure::of(
            "producer, traces on",
            "records/s",
            &runs,
            None,
            |(on, _)| on.produced,
        ),
        Figure::of(
            "producer, traces off",
            "records/s",
            &runs,
            None,
            |(_, off)| off.produced,
        ),
        Figure::of(
            "producer, on ÷ off",
            "",
            &runs,
            Some(AGAINST_OFF),
            |(on, off)| Run {
                value: on.produced.value / off.produced.value,
                foreign_cpu: on.produced.foreign_cpu.max(off.produced.foreign_cpu),
            },
        ),
    ])
}

async fn measure(
    stand: &Stand,
    backlog: &Backlog,
    args: &BenchArgs,
    collector: Option<&Collector>,
) -> anyhow::Result<Measured> {
    let (drain, trial, processor) = drain::drain_with(stand, backlog, |trial| match collector {
        Some(collector) => trial.with_env(ENDPOINT, collector.endpoint()),
        None => trial,
    })
    .await?;
    trial.end(Some(processor)).await?;
    Ok(Measured {
        drain,
        produced: produce(stand, args.events, collector).await?,
    })
}

/// Records/s that the producer has acknowledged, into a topic of its own.
async fn produce(
    stand: &Stand,
    records: u64,
    collector: Option<&Collector>,
) -> anyhow::Result<Run> {
    let log = stand.topic().await?;
    let servers = log
        .config()
        .get("bootstrap.servers")
        .context("a log without brokers")?;
    let mut command = std::process::Command::new(&stand.binaries().producer);
    command
        .args(["generate", "--as-fast-as-possible", "--output", "json"])
        .args(["--bootstrap-servers", servers, "--topic", log.topic()])
        .args(["--count", &records.to_string()]);
    if let Some(collector) = collector {
        command.env(ENDPOINT, collector.endpoint());
    }
    let load = Load::now()?;
    let producer = Process::spawn(&command, "producer")?;
    let status = producer.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", producer.log_tail());
    let text = producer.log();
    let summary = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["acknowledged"].is_number())
        .context("the producer printed no account")?;
    Ok(Run {
        value: summary["rate"]
            .as_f64()
            .context("no rate in the producer's account")?,
        foreign_cpu: load.foreign_since()?,
    })
}
