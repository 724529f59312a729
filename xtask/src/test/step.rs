//! One step: a name, a command, what came of it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clickstream_tools::cargo::cargo;
use clickstream_tools::{Tool, workspace_root};

use super::audit;
use super::counts::Counts;
use super::programs::TestProgram;

/// A step of the plan.
#[derive(Debug)]
pub struct Step {
    /// As the summary shows it.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Variables set beside the inherited ones.
    pub env: Vec<(&'static str, String)>,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Cargo with these arguments; closing lines of test runs are counted.
    Cargo(Vec<String>),
    /// Test programs, one after the other.
    Tests(Vec<TestProgram>),
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
    pub fn run(self) -> Report {
        announce(&self.name);
        let begun = Instant::now();
        let mut counts = Counts::default();
        let outcome = match &self.action {
            Action::Cargo(args) => {
                let mut command = cargo(args);
                command.envs(self.env.clone());
                counted(command, &mut counts).map(|()| None)
            }
            Action::Tests(programs) => self.tests(programs, &mut counts).map(|()| None),
            Action::Audit => audit::run(),
            Action::Servers => servers().map(|()| None),
            Action::Script(path, args) => {
                let mut command = Command::new("bash");
                command.arg(workspace_root().join(path)).args(*args);
                streamed(command).map(|()| None)
            }
            Action::Missing(reason) => Err(anyhow::Error::msg(*reason)),
        };
        Report {
            name: self.name,
            took: begun.elapsed(),
            counts,
            outcome: outcome.map_err(|error| format!("{error:#}")),
        }
    }

    /// All of them, whether one fails or not.
    fn tests(&self, programs: &[TestProgram], counts: &mut Counts) -> anyhow::Result<()> {
        let mut red = Vec::new();
        for program in programs {
            eprintln!("\n   {}", program.command());
            let mut command = Command::new(&program.path);
            command.current_dir(&program.folder).envs(self.env.clone());
            if let Err(error) = counted(command, counts) {
                red.push(format!("{}: {error:#}", program.command()));
            }
        }
        anyhow::ensure!(red.is_empty(), "{}", red.join("; "));
        Ok(())
    }
}

/// A line of its own before each step's output.
pub fn announce(name: &str) {
    eprintln!("\n── {name}");
}

/// Runs a command to its end, its stderr inherited (cargo's progress stays alive), its stdout
/// passed on line by line while closing lines are counted.
fn counted(mut command: Command, counts: &mut Counts) -> anyhow::Result<()> {
    let name = program(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdout = child.stdout.take().expect("stdout is piped three lines up");
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some(found) = Counts::of_closing_line(String::from_utf8_lossy(&line).trim_end()) {
            *counts += found;
        }
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        line.clear();
    }
    finished(child.wait()?)
}

/// Runs a command to its end with its output left as it is.
pub fn streamed(mut command: Command) -> anyhow::Result<()> {
    let name = program(&command);
    let status = command.stdin(Stdio::null()).status();
    finished(status.with_context(|| format!("cannot start {name}"))?)
}

/// The program's file name.
fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn finished(status: ExitStatus) -> anyhow::Result<()> {
    anyhow::ensure!(status.success(), "{status}");
    Ok(())
}

/// What every test of a real server may need: packages first, then what has to be fetched or built.
///
/// # Errors
/// Something cannot be had.
pub fn servers() -> anyhow::Result<()> {
    clickstream_tools::ensure(&[
        Tool::Java,
        Tool::Maven,
        Tool::Xz,
        Tool::Postgres15,
        Tool::Prometheus,
    ])?;
    clickstream_tools::kubernetes::Assets::find()?;
    if clickstream_tools::collector::can_be_had() {
        return clickstream_tools::collector::program().map(|_| ());
    }
    eprintln!(
        "no `go` to build an OpenTelemetry Collector with: tests of traces are skipped outside CI"
    );
    Ok(())
}
