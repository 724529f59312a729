//! The rest of a backlog, taken up by a new processor after the first was killed half way: its
//! filter is empty, so every record could be one that is stored already.

use std::time::{Duration, Instant};

use clickstream_producer::generator::IdForm;

use super::backlog::{Backlog, Contents, Resends};
use super::drain;
use super::figure::{Aim, Figure, Run};
use super::load::Load;
use super::stand::{PARTITIONS, Stand};
use xtask::args::BenchArgs;

/// How often progress is asked for.
const PERIOD: Duration = Duration::from_millis(10);

struct Resumed {
    /// Records a second from the new claim to the end.
    rate: f64,
    /// From the new processor's exec to its claim, in seconds: mostly the group's session time-out.
    exec_to_claim: f64,
    foreign_cpu: f64,
}

/// Drains with and without a restart, in turn.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let contents = Contents {
        records: args.events,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let backlog = Backlog::fill(stand, contents).await?;
    let mut runs = Vec::new();
    for round in 1..=args.runs {
        let (whole, trial, processor) = drain::drain(stand, &backlog, None).await?;
        drain::note(&format!("whole {round}"), &whole);
        trial.end(Some(processor)).await?;
        let resumed = resume(stand, &backlog).await?;
        eprintln!(
            "resumed {round}: {:.0} records/s, claimed after {:.2} s, others' CPU {:.0} %",
            resumed.rate,
            resumed.exec_to_claim,
            resumed.foreign_cpu * 100.0
        );
        runs.push((whole, resumed));
    }
    let run = |resumed: &Resumed, value| Run {
        value,
        foreign_cpu: resumed.foreign_cpu,
    };
    Ok(vec![
        Figure::of(
            "drain without a restart",
            "records/s",
            &runs,
            None,
            |(whole, _)| whole.run(whole.rate()),
        ),
        Figure::of(
            "second half after a restart",
            "records/s",
            &runs,
            None,
            |(_, resumed)| run(resumed, resumed.rate),
        ),
        Figure::of(
            "after a restart ÷ drain",
            "",
            &runs,
            Some(Aim::at_least(0.5, 0.7)),
            |(whole, resumed)| Run {
                value: resumed.rate / whole.rate(),
                foreign_cpu: whole.foreign_cpu.max(resumed.foreign_cpu),
            },
        ),
        Figure::of(
            "exec to claim after a kill",
            "s",
            &runs,
            None,
            |(_, resumed)| run(resumed, resumed.exec_to_claim),
        ),
    ])
}

async fn resume(stand: &Stand, backlog: &Backlog) -> anyhow::Result<Resumed> {
    let trial = stand.trial(backlog.log.topic()).await?;
    let first = trial.processor()?;
    let half = backlog.records / 2;
    trial
        .wait(&first, PERIOD, |progress| progress.offsets >= half)
        .await?;
    first.kill()?;
    let before = trial.progress().await?;
    let exec = Instant::now();
    let second = trial.processor()?;
    let claims = before.epochs + i64::from(PARTITIONS);
    // a lone survivor of a group claims everything at once, or one partition after the other
    let (claimed, at) = trial
        .wait(&second, Duration::from_millis(1), |progress| {
            progress.epochs >= claims
        })
        .await?;
    let load = Load::now()?;
    let (end, _) = trial
        .wait(&second, PERIOD, |progress| {
            progress.offsets >= backlog.records
        })
        .await?;
    let foreign_cpu = load.foreign_since()?;
    trial.end(Some(second)).await?;
    Ok(Resumed {
        rate: (backlog.records - at.offsets) as f64 / end.duration_since(claimed).as_secs_f64(),
        exec_to_claim: claimed.duration_since(exec).as_secs_f64(),
        foreign_cpu,
    })
}
