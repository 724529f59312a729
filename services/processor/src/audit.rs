//! `clickstream-processor audit`: proves that a target follows from the Kafka log, or names what does not.
//!
//! ```text
//! identity: is it this pipeline's
//! slices ─▶ snapshot ─▶ anchors, unread ─▶ per partition, from the first anchor that the log still has:
//!             log ─▶ judge ─▶ stored (rows by key, ledgers by place) ─▶ partition      every record is explained
//!                                                                        │
//!             census ─▶ strays, ledgers                                  ├─▶ tally      counters, T
//!             every row is explained                                     ├─▶ aggregates ─▶ recount
//!                                                                        └─▶ coverage   how much that was
//! ```
//! It reads only: no group is joined, no offset committed, no row locked, and every transaction is short, so it can run
//! beside a live pipeline. Rows above the snapshot's positions are not looked at. What retention has taken away is left out,
//! and said so; what could not be compared at all makes it not proven.

mod admissions;
mod aggregates;
mod anchors;
mod bounds;
mod census;
mod column;
mod coverage;
mod days;
mod forms;
mod identity;
mod judge;
mod ledgers;
mod log;
mod partition;
mod progress;
mod promoted;
mod proof;
mod recount;
mod report;
mod retained;
mod slices;
mod snapshot;
mod stored;
mod strays;
mod tables;
mod tally;
mod unions;
mod unread;

use std::{io::Write, process::ExitCode, sync::Arc};

use anyhow::Context;
use clickstream_pipeline::spec::{ClickstreamPipeline, Secrets, TargetSpec};
use clickstream_protocol::output;

pub use coverage::Outcome;
use proof::Proof;
pub use report::{AuditReport, Difference, Kind, PartitionReport};

use crate::{
    failpoints,
    kafka::{ConsumerSettings, describe},
    sink::connect,
};

/// Two weeks of minutes, and at most 120 MiB of users and visits. What comes later still is compared with the rows.
const HELD_WINDOWS: usize = 20_000;
/// It reads only, and waits for nobody's locks.
const SETTINGS: &str =
    "set default_transaction_read_only = on; set jit = off; set lock_timeout = '30s'";
/// With the feature `failpoints`: rows of a slice.
const SLICE_ROWS: &str = "CLICKSTREAM_AUDIT_SLICE_ROWS";

/// Form of the report on standard output.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Audits a target, prints the report, and answers with the exit code of its outcome.
///
/// # Errors
/// The audit could not be done; nothing is known then.
pub async fn run(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    cluster: Option<&str>,
    secrets: &dyn Secrets,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let report = audit(pipeline, target, cluster, secrets, Options::shown()).await?;
    let text = match output {
        Output::Table => report.to_string(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    writeln!(output::stdout(), "{text}")?;
    Ok(ExitCode::from(report.outcome.exit_code()))
}

/// How an audit goes about it.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// Whether standard error tells how far it is.
    pub show: bool,
    /// Rows of a slice of the aggregates, which is read in one snapshot.
    pub slice_rows: i64,
    /// Windows of a partition that are held for late events, where those are counted in their window.
    pub held_windows: usize,
}

impl Options {
    /// As the command does it. A test may have slices that are smaller.
    fn shown() -> Self {
        let tuned = failpoints::ENABLED
            .then(|| std::env::var(SLICE_ROWS).ok()?.parse().ok())
            .flatten();
        Self {
            show: true,
            slice_rows: tuned.unwrap_or(slices::SLICE_ROWS),
            held_windows: HELD_WINDOWS,
        }
    }
}

/// Audits a target. Where a `cluster` is given, the schema must be owned by the pipeline of that
/// one.
///
/// # Errors
/// Kafka or PostgreSQL cannot be reached or read, the document is not that of the target's
/// pipeline, another log than the target's is named, or a day was dropped meanwhile.
pub async fn audit(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    cluster: Option<&str>,
    secrets: &dyn Secrets,
    options: Options,
) -> anyhow::Result<AuditReport> {
    let settings = target.connection_settings(secrets)?;
    let client = connect(&settings, &target.schema, stored::APPLICATION)
        .await?
        .client;
    client.batch_execute(SETTINGS).await?;
    let strangers = identity::check_owner(&client, pipeline, target, cluster).await?;
    // a topic that is not there would have no partition to differ in, and one that was never read no checkpoint
    let brokers = ConsumerSettings::new(pipeline, "clickstream-audit", secrets)?;
    let described = tokio::task::spawn_blocking(move || describe(&brokers))
        .await
        .context("asking the brokers")??;
    let topics = described.complete()?;
    identity::check_topics(&client, &topics).await?;
    let consumer = Arc::new(log::consumer(pipeline, target, secrets)?);
    let mut proof = Proof::begin(
        pipeline,
        target,
        (client, settings),
        consumer,
        topics,
        options,
    )
    .await?;
    proof.notes.extend(strangers);
    proof.finish(options.show).await
}
