//! What exactly-once costs: the same drain by a build of the processor without fence and without
//! suspects.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clickstream_producer::generator::IdForm;

use super::backlog::{Backlog, Contents, Resends};
use super::drain;
use super::figure::{Figure, Run};
use super::stand::Stand;
use clickstream_tools::cargo::programs;
use xtask::args::BenchArgs;
use xtask::lab::release_build;

const PACKAGE: &str = "clickstream-processor";

/// The cargo feature of the processor that takes its guarantees away.
const FEATURE: &str = "clickstream-processor/unsafe-baseline";

/// Drains with both builds, in turn.
///
/// # Errors
/// The processor has no such build, or a run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let baseline = build(stand).await?;
    let contents = Contents {
        records: args.events,
        ids: IdForm::V7,
        resends: Resends::None,
    };
    let backlog = Backlog::fill(stand, contents).await?;
    let mut runs = Vec::new();
    for round in 1..=args.runs {
        let mut pair = Vec::new();
        for (name, program) in [("exact", None), ("baseline", Some(baseline.clone()))] {
            let (drained, trial, processor) = drain::drain(stand, &backlog, program).await?;
            drain::note(&format!("{name} {round}"), &drained);
            trial.end(Some(processor)).await?;
            pair.push(drained);
        }
        runs.push((pair[0], pair[1]));
    }
    Ok(vec![
        Figure::of("exactly once", "records/s", &runs, None, |(exact, _)| {
            exact.run(exact.rate())
        }),
        Figure::of("without", "records/s", &runs, None, |(_, other)| {
            other.run(other.rate())
        }),
        Figure::of(
            "exactly once ÷ without",
            "",
            &runs,
            None,
            |(exact, other)| Run {
                value: exact.rate() / other.rate(),
                foreign_cpu: exact.foreign_cpu.max(other.foreign_cpu),
            },
        ),
    ])
}

async fn build(stand: &Stand) -> anyhow::Result<PathBuf> {
    let dir = stand.dir().to_owned();
    let build = move || {
        let package =
            |features: &[&str]| programs(release_build(&[PACKAGE], features), &[PACKAGE], |_| {});
        let built = package(&[FEATURE])?;
        let copy = dir.join("clickstream-processor-baseline");
        fs::remove_file(&copy).ok();
        fs::copy(built.first().context("cargo built nothing")?, &copy)?;
        // put the real one back, so that target/release never holds a build without guarantees
        package(&[])?;
        Ok(copy)
    };
    tokio::task::spawn_blocking(build).await?
}
