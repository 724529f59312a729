//! The machine and the servers' versions, so that a figure says where it comes from.

use std::fmt;
use std::fs;

use anyhow::Context as _;
use chrono::{SecondsFormat, Utc};
use serde::Serialize;

use super::stand::Stand;
use clickstream_tools::workspace_root;

/// Where and on what something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<String>,
    kafka: &'static str,
    programs: String,
    measured_at: String,
}

impl Machine {
    /// This machine, now; without a stand nothing is said of PostgreSQL. `given`: the programs were
    /// not built here.
    ///
    /// # Errors
    /// PostgreSQL does not say its version.
    pub async fn describe(stand: Option<&Stand>, given: bool) -> anyhow::Result<Self> {
        let postgres = match stand {
            Some(stand) => {
                let client = stand.postgres().connect("postgres").await?;
                let version = client.query_one("show server_version", &[]).await?;
                Some(version.get(0))
            }
            None => None,
        };
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: memory_mib().context("cannot read /proc/meminfo")?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            postgres,
            kafka: clickstream_testbed::KAFKA_VERSION,
            // what given programs were built from nobody here knows
            programs: if given {
                "given with --binaries".to_owned()
            } else {
                format!("built from {}", revision().await)
            },
            measured_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {} MiB, Linux {}; {}Kafka {}; programs {}, {}",
            self.cpu,
            self.cores,
            self.memory_mib,
            self.kernel,
            self.postgres
                .as_ref()
                .map(|version| format!("PostgreSQL {version} (fsync on), "))
                .unwrap_or_default(),
            self.kafka,
            self.programs,
            self.measured_at
        )
    }
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_mib() -> Option<u64> {
    let total = field("/proc/meminfo", "MemTotal")?;
    Some(total.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

/// Short commit id, with a plus when the checkout holds changes.
async fn revision() -> String {
    let output = tokio::process::Command::new("git")
        .args(["describe", "--always", "--dirty=+", "--exclude=*"])
        .current_dir(workspace_root())
        .output()
        .await;
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
