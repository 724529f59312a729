//! One step: a name, a command, what came of it.

use std::io::{self, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::audit;
use super::counts::Counts;
use crate::cargo::cargo;

/// A step of the plan.
#[derive(Debug)]
pub struct Step {
    /// As the summary shows it.
    pub name: String,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Cargo with these arguments and this environment; closing lines of test runs are counted.
    Cargo {
        /// Arguments.
        args: Vec<String>,
        /// Variables set beside the inherited ones.
        env: Vec<(&'static str, String)>,
    },
    /// Licences, bans, sources and, with a network, advisories.
    Audit,
    /// Makes sure that the real servers can be started.
    Servers,
    /// A script of the workspace, by its path, and its arguments.
    Script(&'static str, &'static [&'static str]),
    /// Red at once: what the step would run does not exist, for this reason.
    Missing(&'static str),
}

/// What came of a step.
#[derive(Debug)]
pub struct Report {
    /// The step's name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Its tests.
    pub counts: Counts,
    /// Green with an optional remark, or red with the reason.
    pub outcome: Result<Option<String>, String>,
}

impl Report {
    /// Whether the step did what it should.
    pub fn is_green(&self) -> bool {
        self.outcome.is_ok()
    }
}

impl Step {
    /// Runs the step. Whatever goes wrong, also in starting it, is in the report.
    pub async fn run(self) -> Report {
        let begun = Instant::now();
        let mut counts = Counts::default();
        let outcome = match self.action {
            Action::Cargo { args, env } => {
                let mut command = cargo(args);
                command.envs(env);
                counted(command, &mut counts).await.map(|()| None)
            }
            Action::Audit => audit::run().await,
            Action::Servers => install_servers().await.map(|()| None),
            Action::Script(path, args) => {
                let mut command = Command::new("bash");
                command.arg(crate::root::path().join(path)).args(args);
                streamed(command).await.map(|()| None)
            }
            Action::Missing(reason) => Err(anyhow::Error::msg(reason)),
        };
        Report {
            name: self.name,
            took: begun.elapsed(),
            counts,
            outcome: outcome.map_err(|error| format!("{error:#}")),
        }
    }
}

/// A line of its own before each step's output.
pub fn announce(name: &str) {
    eprintln!("\n── {name}");
}

/// Runs a command to its end, its stderr inherited (cargo's progress stays alive), its stdout passed on line by
/// line while closing lines are counted.
async fn counted(mut command: Command, counts: &mut Counts) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().expect("stdout is piped two lines up");
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        if let Some(found) = Counts::of_closing_line(String::from_utf8_lossy(&line).trim_end()) {
            *counts += found;
        }
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        line.clear();
    }
    finished(child.wait().await?)
}

/// Runs a command to its end with its output left as it is.
pub async fn streamed(mut command: Command) -> anyhow::Result<()> {
    let status = command.stdin(Stdio::null()).status().await;
    finished(status.with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?)
}

fn finished(status: std::process::ExitStatus) -> anyhow::Result<()> {
    anyhow::ensure!(status.success(), "{status}");
    Ok(())
}

async fn install_servers() -> anyhow::Result<()> {
    use clickstream_testbed::install::{Tool, ensure};
    use clickstream_testbed::{Collector, KubeApi};
    // blocks on a package manager, and the first time on a compiler
    tokio::task::spawn_blocking(|| {
        ensure(&[
            Tool::Java,
            Tool::Maven,
            Tool::Xz,
            Tool::Postgres15,
            Tool::Prometheus,
        ])?;
        KubeApi::install()?;
        if Collector::can_be_had() {
            return Collector::install();
        }
        eprintln!("no `go` to build an OpenTelemetry Collector with: tests of traces are skipped outside CI");
        Ok(())
    })
    .await?
}
