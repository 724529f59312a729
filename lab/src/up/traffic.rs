//! The producer: made-up events, or a log.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clickstream_testbed::Process;
use serde::Deserialize;

use super::prepare::Pipeline;
use super::survey;
use xtask::args::UpArgs;

/// How long the producer may take to have its last records acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// The running producer.
pub struct Traffic {
    process: Process,
    ends_by_itself: bool,
}

/// What the producer says of itself at its end.
#[derive(Debug, Deserialize)]
pub struct Account {
    /// Records that are in the log.
    pub acknowledged: i64,
    /// Records that are not.
    pub failed: i64,
    /// Lines of replayed logs.
    pub lines: u64,
    /// Lines that are no requests.
    pub unparsable: u64,
    /// Lines that are no clicks.
    pub skipped: u64,
    /// How far sending fell behind its schedule, in milliseconds.
    pub max_schedule_lag_ms: u64,
}

impl Traffic {
    /// Starts the producer, unless the document says that there is none.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(args: &UpArgs, pipeline: &Pipeline) -> anyhow::Result<Option<Self>> {
        let enabled = pipeline.document.pipeline().spec.producer.enabled || args.rate.is_some();
        if args.replay.is_empty() && !enabled {
            return Ok(None);
        }
        let verb = if args.replay.is_empty() {
            "generate"
        } else {
            "replay"
        };
        let mut command = pipeline.document.command(&pipeline.binaries.producer, verb);
        command.args(["-o", "json"]);
        if let Some(rate) = args.rate {
            command.arg("--rate").arg(rate.to_string());
        }
        if !args.replay.is_empty() {
            command.args(survey::logs(args));
        }
        let process = Process::spawn(command.as_std(), "producer")?;
        Ok(Some(Self {
            process,
            ends_by_itself: !args.replay.is_empty(),
        }))
    }

    /// Whether the log was replayed to its end.
    ///
    /// # Errors
    /// The producer ended although it should not have.
    pub fn has_ended(&self) -> anyhow::Result<bool> {
        match self.process.exited()? {
            None => Ok(false),
            Some(status) if self.ends_by_itself && status.success() => Ok(true),
            Some(status) => bail!(
                "the producer ended by itself ({status}); the end of its log:\n{}",
                self.process.log_tail()
            ),
        }
    }

    /// Stops the producer and returns its account.
    ///
    /// # Errors
    /// It does not end, or says nothing.
    pub async fn stop(self) -> anyhow::Result<Account> {
        if self.process.exited()?.is_none() {
            // a replay can end in between
            self.process.terminate().ok();
        }
        let status = self.process.wait(FLUSH_TIMEOUT).await?;
        let log = self.process.log();
        let account = log
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str(line).ok())
            .with_context(|| {
                format!(
                    "the producer gave no account ({status}):\n{}",
                    self.process.log_tail()
                )
            })?;
        Ok(account)
    }
}
