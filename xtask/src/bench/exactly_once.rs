//! What exactly-once costs: the same drain by a build of the processor without fence and without suspects.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clickstream_producer::generator::IdForm;

use super::Args;
use super::backlog::{Backlog, Contents, Resends};
use super::drain;
use super::figure::{Figure, Run};
use super::stand::Stand;
use crate::binaries;
use crate::cargo::cargo;

const PACKAGE: &str = "clickstream-processor";

/// The cargo feature of the processor that takes its guarantees away.
const FEATURE: &str = "unsafe-baseline";

/// Drains with both builds, in turn.
///
/// # Errors
/// The processor has no such build, or a run fails.
pub async fn run(stand: &Stand, args: &Args) -> anyhow::Result<Vec<Figure>> {
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
    let metadata = cargo(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .await?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let known = packages
        .iter()
        .any(|package| package["name"] == PACKAGE && !package["features"][FEATURE].is_null());
    if !known {
        bail!("not measured: {PACKAGE} has no cargo feature {FEATURE}");
    }
    let built = binaries::build(&[PACKAGE], &[FEATURE], |_| {}).await?;
    let copy = stand.dir().join("clickstream-processor-baseline");
    fs::remove_file(&copy).ok();
    fs::copy(built.first().context("cargo built nothing")?, &copy)?;
    // put the real one back, so that target/release never holds a build without guarantees
    binaries::build(&[PACKAGE], &[], |_| {}).await?;
    Ok(copy)
}
