//! Placeholder until the audit's entry lands.
use std::process::ExitCode;

use clickstream_pipeline::spec::{ClickstreamPipeline, Secrets, TargetSpec};

/// Form of the report.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs the audit.
///
/// # Errors
/// Not there yet.
#[expect(clippy::unused_async, reason = "placeholder")]
pub async fn run(_: &ClickstreamPipeline, _: &TargetSpec, _: &dyn Secrets, _: Output) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the audit is not linked in yet")
}
