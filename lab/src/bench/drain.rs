//! A backlog into PostgreSQL.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clickstream_producer::generator::IdForm;
use clickstream_testbed::Process;

use super::backlog::{Backlog, Contents, Resends};
use super::copy::{CopyRun, Rows};
use super::figure::{Aim, Figure, Run};
use super::load::{self, Load};
use super::stand::{PARTITIONS, Stand, Trial};
use xtask::args::BenchArgs;

/// How often progress is asked for: a question costs PostgreSQL about 0.1 ms.
const PERIOD: Duration = Duration::from_millis(10);

/// How long the processor rests before its idle memory is read.
const REST: Duration = Duration::from_secs(30);

/// Rows/s of a drain against COPY's.
const AGAINST_COPY: Aim = Aim::at_least(0.5, 0.7);

/// A measured drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainRun {
    /// From the claim of the last partition (before its first poll) to the commit that reached the
    /// log's end, in seconds.
    pub seconds: f64,
    /// From exec to that commit, in seconds.
    pub exec_to_end: f64,
    /// Records.
    pub records: i64,
    /// Rows stored.
    pub accepted: i64,
    /// CPU seconds of the processor, from exec.
    pub cpu_seconds: f64,
    /// Its peak resident memory in MiB.
    pub peak_mib: f64,
    /// Others' part of the CPU.
    pub foreign_cpu: f64,
}

impl DrainRun {
    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// A value of this run.
    pub fn run(&self, value: f64) -> Run {
        Run {
            value,
            foreign_cpu: self.foreign_cpu,
        }
    }
}

/// Drains and copies in turn, for both forms of ids and for duplicates on other partitions.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let contents = |ids, resends| Contents {
        records: args.events,
        ids,
        resends,
    };
    let v7 = Backlog::fill(stand, contents(IdForm::V7, Resends::SamePartition)).await?;
    let v4 = Backlog::fill(stand, contents(IdForm::V4, Resends::SamePartition)).await?;
    let elsewhere = Backlog::fill(stand, contents(IdForm::V7, Resends::Elsewhere)).await?;
    // uncounted: the first gigabytes of WAL go into new files, later ones into files used again
    let (first, trial, processor) = drain(stand, &v7, None).await?;
    note("warm-up, not counted", &first);
    trial.end(Some(processor)).await?;
    let (mut of_v7, mut of_v4, mut of_elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.runs {
        of_v7.push(against_copy(stand, &v7, &format!("v7 {round}")).await?);
        of_v4.push(against_copy(stand, &v4, &format!("v4 {round}")).await?);
        let (drained, trial, processor) = drain(stand, &elsewhere, None).await?;
        note(&format!("v7, duplicates elsewhere {round}"), &drained);
        trial.end(Some(processor)).await?;
        of_elsewhere.push(drained);
    }
    let mut figures = Vec::new();
    for (ids, runs) in [("UUIDv7", &of_v7), ("UUIDv4", &of_v4)] {
        figures.extend(compared(ids, runs));
    }
    figures.push(Figure::of(
        "duplicates on other partitions: drain",
        "records/s",
        &of_elsewhere,
        None,
        |drained| drained.run(drained.rate()),
    ));
    let pairs: Vec<(DrainRun, DrainRun)> = of_elsewhere
        .into_iter()
        .zip(of_v7.iter().map(|(drained, _)| *drained))
        .collect();
    figures.push(Figure::of(
        "duplicates on other partitions ÷ drain",
        "",
        &pairs,
        Some(AGAINST_COPY),
        |(elsewhere, drained)| {
            both(
                elsewhere,
                drained.foreign_cpu,
                elsewhere.rate() / drained.rate(),
            )
        },
    ));
    Ok(figures)
}

fn compared(ids: &str, runs: &[(DrainRun, CopyRun)]) -> Vec<Figure> {
    let of = |name: &str, unit, aim, value: fn(&DrainRun) -> f64| {
        Figure::of(format!("{ids}: {name}"), unit, runs, aim, |(drained, _)| {
            drained.run(value(drained))
        })
    };
    vec![
        of("drain", "records/s", None, DrainRun::rate),
        Figure::of(
            format!("{ids}: COPY of the accepted rows"),
            "rows/s",
            runs,
            None,
            |(_, copied)| Run {
                value: copied.rows as f64 / copied.seconds,
                foreign_cpu: copied.foreign_cpu,
            },
        ),
        Figure::of(
            format!("{ids}: accepted rows/s ÷ COPY's"),
            "",
            runs,
            Some(AGAINST_COPY),
            |(drained, copied)| {
                let ours = drained.accepted as f64 / drained.seconds;
                both(
                    drained,
                    copied.foreign_cpu,
                    ours / (copied.rows as f64 / copied.seconds),
                )
            },
        ),
        of("exec to end", "s", None, |drained| drained.exec_to_end),
        of(
            "processor CPU per million records",
            "s",
            Some(Aim::at_most(4.0, 2.5)),
            |drained| drained.cpu_seconds * 1e6 / drained.records as f64,
        ),
        of(
            "processor peak memory",
            "MiB",
            Some(Aim::at_most(256.0, 128.0)),
            |drained| drained.peak_mib,
        ),
    ]
}

/// A quotient of two runs is as busy as the busier one.
fn both(drained: &DrainRun, other_foreign: f64, value: f64) -> Run {
    Run {
        value,
        foreign_cpu: drained.foreign_cpu.max(other_foreign),
    }
}

async fn against_copy(
    stand: &Stand,
    backlog: &Backlog,
    name: &str,
) -> anyhow::Result<(DrainRun, CopyRun)> {
    let (drained, trial, processor) = drain(stand, backlog, None).await?;
    note(name, &drained);
    processor.terminate()?;
    processor.wait(Duration::from_secs(30)).await?;
    let rows = Rows::of(&trial).await?;
    trial.end(None).await?;
    let copied = rows.copy(stand, backlog.log.topic()).await?;
    anyhow::ensure!(
        i64::try_from(copied.rows)? == drained.accepted,
        "{} rows copied, {} accepted",
        copied.rows,
        drained.accepted
    );
    eprintln!("{name}: COPY {:.2} s, {} rows", copied.seconds, copied.rows);
    Ok((drained, copied))
}

/// Drains a backlog into a fresh schema; `program`, if given, in the processor's place.
///
/// # Errors
/// The processor dies or stands still.
pub async fn drain(
    stand: &Stand,
    backlog: &Backlog,
    program: Option<PathBuf>,
) -> anyhow::Result<(DrainRun, Trial, Process)> {
    let with = |trial: Trial| match program {
        Some(program) => trial.with_processor(program),
        None => trial,
    };
    drain_with(stand, backlog, with).await
}

/// The same, with what `with` changes in the trial.
///
/// # Errors
/// The processor dies or stands still.
pub async fn drain_with(
    stand: &Stand,
    backlog: &Backlog,
    with: impl FnOnce(Trial) -> Trial,
) -> anyhow::Result<(DrainRun, Trial, Process)> {
    measured(with(stand.trial(backlog.log.topic()).await?), backlog).await
}

/// Drains a backlog into a fresh schema that is made already.
///
/// # Errors
/// The processor dies or stands still.
pub async fn measured(
    trial: Trial,
    backlog: &Backlog,
) -> anyhow::Result<(DrainRun, Trial, Process)> {
    let load = Load::now()?;
    let exec = Instant::now();
    let processor = trial.processor()?;
    let (claimed, _) = trial
        .wait(&processor, Duration::from_millis(1), |progress| {
            progress.claimed == i64::from(PARTITIONS) || progress.offsets > 0
        })
        .await?;
    let (end, _) = trial
        .wait(&processor, PERIOD, |progress| {
            progress.offsets >= backlog.records
        })
        .await?;
    let run = DrainRun {
        seconds: end.duration_since(claimed).as_secs_f64(),
        exec_to_end: end.duration_since(exec).as_secs_f64(),
        records: backlog.records,
        accepted: trial.accepted().await?,
        cpu_seconds: load::cpu_seconds(processor.pid())?,
        peak_mib: load::memory_mib(processor.pid(), "VmHWM")?,
        foreign_cpu: load.foreign_since()?,
    };
    Ok((run, trial, processor))
}

/// One line about a drain, as progress.
pub fn note(name: &str, run: &DrainRun) {
    eprintln!(
        "{name}: {:.0} records/s, {:.2} s from claim and {:.2} s from exec to end, {:.2} CPU s, peak {:.0} MiB, others' CPU {:.0} %",
        run.rate(),
        run.seconds,
        run.exec_to_end,
        run.cpu_seconds,
        run.peak_mib,
        run.foreign_cpu * 100.0
    );
}

/// Resident memory after a backlog and 30 s at rest.
///
/// # Errors
/// A run fails.
pub async fn memory(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let contents = Contents {
        records: args.events,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let backlog = Backlog::fill(stand, contents).await?;
    let mut runs = Vec::new();
    for round in 1..=args.runs {
        let (drained, trial, processor) = drain(stand, &backlog, None).await?;
        note(&format!("{round}"), &drained);
        tokio::time::sleep(REST).await;
        let idle = load::memory_mib(processor.pid(), "VmRSS")?;
        trial.end(Some(processor)).await?;
        let fresh = fresh_memory(stand).await?;
        runs.push((drained, idle, fresh));
    }
    let peak = Some(Aim::at_most(256.0, 128.0));
    let idle = Some(Aim::at_most(64.0, 32.0));
    Ok(vec![
        Figure::of(
            "peak while catching up",
            "MiB",
            &runs,
            peak,
            |(drained, ..)| drained.run(drained.peak_mib),
        ),
        Figure::of(
            "30 s after the backlog",
            "MiB",
            &runs,
            idle,
            |(drained, rest, _)| drained.run(*rest),
        ),
        Figure::of(
            "idle, 30 s after its start",
            "MiB",
            &runs,
            idle,
            |(drained, _, fresh)| drained.run(*fresh),
        ),
    ])
}

/// Resident memory of a processor that found an empty topic, after the same rest.
async fn fresh_memory(stand: &Stand) -> anyhow::Result<f64> {
    let log = stand.topic().await?;
    let trial = stand.trial(log.topic()).await?;
    let processor = trial.processor()?;
    let claimed = |progress: super::stand::Progress| progress.claimed == i64::from(PARTITIONS);
    trial.wait(&processor, PERIOD, claimed).await?;
    tokio::time::sleep(REST).await;
    let resident = load::memory_mib(processor.pid(), "VmRSS")?;
    trial.end(Some(processor)).await?;
    Ok(resident)
}
