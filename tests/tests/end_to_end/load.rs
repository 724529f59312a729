//! Events that keep coming while a test breaks things: a producer process, and how long it goes on.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Process, build_binary};
use serde_json::Value;

use crate::stack::{PATIENCE, Stack};

/// How long a test goes on breaking things: `CLICKSTREAM_FAULT_SECONDS`, or `default` in ordinary
/// runs.
pub fn fault_time(default: Duration) -> Duration {
    let seconds = std::env::var("CLICKSTREAM_FAULT_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    seconds.map_or(default, Duration::from_secs)
}

/// A producer process that sends generated events until it is told to stop.
pub struct Load(Process);

impl Load {
    /// Starts to send to the stack's topic; `rate` in records a second, `args` are more options of
    /// `generate`.
    pub async fn start(stack: &Stack, rate: u64, args: &[&str]) -> anyhow::Result<Self> {
        let producer =
            tokio::task::spawn_blocking(|| build_binary("clickstream-producer")).await??;
        let mut command = Command::new(producer);
        command
            .args(["generate", "--output", "json", "--bootstrap-servers"])
            .arg(stack.kafka.bootstrap_servers())
            .args(["--topic", &stack.topic, "--rate", &rate.to_string()])
            .args(args);
        Ok(Self(Process::spawn(&command, "producer")?))
    }

    /// The producer.
    pub fn process(&self) -> &Process {
        &self.0
    }

    /// Ends it; how many records it has put into the log.
    pub async fn finish(self) -> anyhow::Result<i64> {
        self.0.terminate()?;
        let status = self.0.wait(PATIENCE).await?;
        ensure!(
            status.success(),
            "producer: {status}: {}",
            self.0.log_tail()
        );
        let log = self.0.log();
        let summary = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["acknowledged"].is_number())
            .context("the producer printed no account")?;
        summary["acknowledged"].as_i64().context("no number")
    }
}
