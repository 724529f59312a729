//! `clickstream-processor audit`: proves that a target follows from the Kafka log, or names what does not.
//!
//! ```text
//! snapshot ─▶ per partition, from the first anchor that the log still has:
//!             log ─▶ judge ─▶ stored (rows by key, ledgers by place) ─▶ partition      every record is explained
//!                                                                        │
//!             census ─▶ strays                                           ├─▶ tally      counters, T
//!             every row is explained                                     └─▶ aggregates ─▶ recount
//! ```
//! It reads only: no group is joined, no offset committed, no row locked, and every transaction is short, so it can run
//! beside a live pipeline. Rows above the snapshot's positions are not looked at. What retention has taken away is left out,
//! and said so.

mod aggregates;
mod census;
mod column;
mod judge;
mod log;
mod partition;
mod progress;
mod proof;
mod recount;
mod report;
mod retained;
mod snapshot;
mod stored;
mod strays;
mod tables;
mod tally;

use std::{io::Write, process::ExitCode, sync::Arc};

use anyhow::Context;
use clickstream_pipeline::spec::{ClickstreamPipeline, Secrets, TargetSpec};

use proof::Proof;
pub use report::{AuditReport, Difference, Kind, PartitionReport};

use crate::kafka::{ConsumerSettings, describe};

/// Exit code for differences, beside 0 for none and 1 for an audit that could not be done.
const DIFFERENCES: u8 = 3;

/// Form of the report on standard output.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Audits a target, prints the report, and answers with the process's exit code: 0 when nothing differs, 3 otherwise.
///
/// # Errors
/// The audit could not be done; nothing is known then.
pub async fn run(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    secrets: &dyn Secrets,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let report = audit(pipeline, target, secrets, true).await?;
    let text = match output {
        Output::Table => report.to_string(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(if report.clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENCES)
    })
}

/// Audits a target. With `show`, standard error tells how far it is.
///
/// # Errors
/// Kafka or PostgreSQL cannot be reached or read, another log than the target's is named, or a day was dropped meanwhile.
pub async fn audit(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    secrets: &dyn Secrets,
    show: bool,
) -> anyhow::Result<AuditReport> {
    let settings = target.connection_settings(secrets)?;
    // a topic that is not there would have no partition to differ in
    let brokers = ConsumerSettings::new(pipeline, target, "clickstream-audit", secrets)?;
    tokio::task::spawn_blocking(move || describe(&brokers))
        .await
        .context("asking the brokers")??;
    let consumer = Arc::new(log::consumer(pipeline, target, secrets)?);
    Proof::begin(pipeline, target, settings, consumer)
        .await?
        .finish(show)
        .await
}
