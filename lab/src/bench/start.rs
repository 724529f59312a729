//! From exec to the first commit, in a group that has no other member.

use std::time::{Duration, Instant};

use clickstream_producer::generator::IdForm;

use super::backlog::{Backlog, Contents, Resends};
use super::figure::{Aim, Figure, Run};
use super::load::Load;
use super::stand::Stand;
use xtask::args::BenchArgs;

/// A few records on every partition: the first commit is a small one.
const RECORDS: u64 = 1_000;

/// Starts processors one after the other.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let contents = Contents {
        records: RECORDS,
        ids: IdForm::V7,
        resends: Resends::SamePartition,
    };
    let backlog = Backlog::fill(stand, contents).await?;
    let mut runs = Vec::new();
    // each takes a second or so
    for round in 1..=args.runs.max(5) {
        let trial = stand.trial(backlog.log.topic()).await?;
        let load = Load::now()?;
        let exec = Instant::now();
        let processor = trial.processor()?;
        let period = Duration::from_millis(1);
        let (claimed, _) = trial
            .wait(&processor, period, |progress| progress.claimed > 0)
            .await?;
        let (committed, _) = trial
            .wait(&processor, period, |progress| progress.offsets > 0)
            .await?;
        let foreign_cpu = load.foreign_since()?;
        trial.end(Some(processor)).await?;
        let run = |until: Instant| Run {
            value: until.duration_since(exec).as_secs_f64(),
            foreign_cpu,
        };
        eprintln!(
            "{round}: claimed {:.3} s, committed {:.3} s",
            run(claimed).value,
            run(committed).value
        );
        runs.push((run(claimed), run(committed)));
    }
    Ok(vec![
        Figure::of("exec to first claim", "s", &runs, None, |(claimed, _)| {
            *claimed
        }),
        Figure::of(
            "exec to first commit",
            "s",
            &runs,
            Some(Aim::at_most(2.0, 0.5)),
            |(_, committed)| *committed,
        ),
    ])
}
