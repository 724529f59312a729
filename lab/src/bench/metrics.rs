//! What metrics cost: a backlog with them and without, in turn.
//!
//! On: an admin server that is asked for `/metrics` every second, fifteen times as often as
//! Prometheus asks by default. Off: no admin server, so that nobody could read them. Then the
//! processor observes no row, sets no gauge, counts no windows and asks for no settings of topics.
//! What is left are additions to counters, one for a record and a few dozen for a flush of
//! thousands.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clickstream_producer::generator::IdForm;
use clickstream_telemetry::client::{HttpClient, Limits};
use clickstream_testbed::free_port;
use tokio::task::JoinHandle;

use super::backlog::{Backlog, Contents, Resends};
use super::drain::{self, DrainRun};
use super::figure::{Aim, Figure, Run};
use super::stand::Stand;
use xtask::args::BenchArgs;

/// Fewer runs would not tell 2 % from noise.
const RUNS: u32 = 5;
/// How often the metrics are asked for.
const PERIOD: Duration = Duration::from_secs(1);
/// Records/s with metrics against those without.
const AGAINST_OFF: Aim = Aim::at_least(0.98, 0.98);

/// Drains with and without, in turn; which comes first changes from round to round.
///
/// # Errors
/// A run fails, or the metrics were never read.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let contents = Contents {
        records: args.events,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let backlog = Backlog::fill(stand, contents).await?;
    drain::note("warm-up, not counted", &off(stand, &backlog).await?);
    let mut runs = Vec::new();
    for round in 1..=args.runs.max(RUNS) {
        let pair = if round % 2 == 0 {
            let without = off(stand, &backlog).await?;
            (on(stand, &backlog).await?, without)
        } else {
            let with = on(stand, &backlog).await?;
            (with, off(stand, &backlog).await?)
        };
        drain::note(&format!("on {round}"), &pair.0);
        drain::note(&format!("off {round}"), &pair.1);
        runs.push(pair);
    }
    let quotient = |value: fn(&DrainRun) -> f64| {
        move |(on, off): &(DrainRun, DrainRun)| Run {
            value: value(on) / value(off),
            foreign_cpu: on.foreign_cpu.max(off.foreign_cpu),
        }
    };
    Ok(vec![
        Figure::of("metrics on", "records/s", &runs, None, |(on, _)| {
            on.run(on.rate())
        }),
        Figure::of("metrics off", "records/s", &runs, None, |(_, off)| {
            off.run(off.rate())
        }),
        Figure::of(
            "on ÷ off",
            "",
            &runs,
            Some(AGAINST_OFF),
            quotient(DrainRun::rate),
        ),
        Figure::of(
            "processor CPU, on ÷ off",
            "",
            &runs,
            None,
            quotient(|run| run.cpu_seconds),
        ),
    ])
}

async fn off(stand: &Stand, backlog: &Backlog) -> anyhow::Result<DrainRun> {
    let (run, trial, processor) = drain::drain_with(stand, backlog, |trial| trial).await?;
    trial.end(Some(processor)).await?;
    Ok(run)
}

async fn on(stand: &Stand, backlog: &Backlog) -> anyhow::Result<DrainRun> {
    let port = free_port()?;
    let reading: JoinHandle<()> = tokio::spawn(async move {
        loop {
            // a processor that has not begun to listen is asked again
            read(port).await.ok();
            tokio::time::sleep(PERIOD).await;
        }
    });
    let listen = format!("127.0.0.1:{port}");
    let drained = drain::drain_with(stand, backlog, |trial| {
        trial.with_env("CLICKSTREAM_ADMIN_LISTEN", listen)
    })
    .await;
    reading.abort();
    let (run, trial, processor) = drained?;
    let page = read(port).await.context("the metrics cannot be read")?;
    ensure!(
        page.contains("clickstream_end_to_end_latency_seconds_bucket"),
        "this is no page of metrics: {page}"
    );
    trial.end(Some(processor)).await?;
    Ok(run)
}

/// The page, as Prometheus would get it.
///
/// # Errors
/// Nobody answers.
pub async fn read(port: u16) -> anyhow::Result<String> {
    let limits = Limits {
        patience: Duration::from_secs(10),
        largest: 16 << 20,
    };
    let url = format!("http://127.0.0.1:{port}/metrics").parse()?;
    let page = HttpClient::new().get(&url, limits).await?;
    Ok(String::from_utf8(page.to_vec())?)
}
