//! The live page about the run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clickstream_pipeline::spec::{ClickstreamPipeline, TargetSpec};
use clickstream_telemetry::probe::probe;
use clickstream_testbed::{Process, free_port};
use url::Url;

use super::servers;
use crate::checkpoints;

/// The role that the page reads as, on a PostgreSQL of our own.
const READER: &str = "clickstream_console";

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running console; ends when dropped.
pub struct Console {
    _process: Process,
    address: String,
}

/// Makes the role that may only read, and names it in the document, so that the migration grants it
/// what it needs.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn reader(postgres_url: &str, pipeline: &mut ClickstreamPipeline) -> anyhow::Result<()> {
    let client = checkpoints::connect(postgres_url, "public").await?;
    let known = client
        .query_opt("select from pg_roles where rolname = $1", &[&READER])
        .await?;
    if known.is_none() {
        client
            .batch_execute(&format!("create role {READER} login"))
            .await?;
    }
    for target in &mut pipeline.spec.targets {
        target.readers.retain(|role| role != READER);
        if !target.raw_readers.iter().any(|role| role == READER) {
            target.raw_readers.push(READER.to_owned());
        }
    }
    Ok(())
}

impl Console {
    /// Starts the console on its usual port where that is free, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(
        program: &Path,
        postgres_url: &str,
        target: &TargetSpec,
        processors: &[String],
    ) -> anyhow::Result<Self> {
        let mut database = Url::parse(postgres_url).context("the database's address")?;
        if target.raw_readers.iter().any(|role| role == READER) {
            database
                .set_username(READER)
                .ok()
                .context("the database's address has no place for a role")?;
        }
        let port = servers::free(8080).map_or_else(free_port, Ok)?;
        let admin = format!("127.0.0.1:{}", free_port()?);
        let processors: Vec<String> = processors
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        let mut command = Command::new(program);
        command
            .args(["run", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--admin-listen", &admin])
            .args(["--schema", &target.schema])
            .args(["--processors", &processors.join(",")])
            // the address may hold a password, and everybody sees arguments
            .env("CLICKSTREAM_CONSOLE_DATABASE", database.as_str())
            .env("PGSSLMODE", "disable");
        let process = Process::spawn(&command, "console")?;
        if let Err(error) = probe(&format!("http://{admin}/readyz"), None, PATIENCE).await {
            anyhow::bail!(
                "the console does not start ({error}); the end of its log:\n{}",
                process.log_tail()
            );
        }
        Ok(Self {
            _process: process,
            address: format!("http://127.0.0.1:{port}/"),
        })
    }

    /// Where the page is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}
