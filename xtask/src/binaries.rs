//! Our services, built in the release profile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::cargo::cargo;

/// The services' programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `clickstream-processor`.
    pub processor: PathBuf,
    /// `clickstream-producer`.
    pub producer: PathBuf,
    /// `clickstream-console`; None when a folder was given that has none.
    pub console: Option<PathBuf>,
}

impl Binaries {
    /// Those in `given`, or else freshly built ones; see [`Binaries::build`].
    ///
    /// # Errors
    /// One of them is missing, or the build fails.
    pub async fn get(
        given: Option<&Path>,
        dir: &Path,
        progress: impl Fn(&str),
    ) -> anyhow::Result<Self> {
        let Some(given) = given else {
            return Self::build(dir, progress).await;
        };
        let find = |name: &str| {
            copy(&given.join(name), dir).with_context(|| format!("--binaries {}", given.display()))
        };
        Ok(Self {
            processor: find("clickstream-processor")?,
            producer: find("clickstream-producer")?,
            console: given
                .join("clickstream-console")
                .exists()
                .then(|| find("clickstream-console"))
                .transpose()?,
        })
    }

    /// Builds all and copies them into `dir`, so that a later build does not replace what runs. `progress` gets cargo's
    /// lines.
    ///
    /// # Errors
    /// The build fails; the message holds the compiler's.
    async fn build(dir: &Path, progress: impl Fn(&str)) -> anyhow::Result<Self> {
        let packages = [
            "clickstream-processor",
            "clickstream-producer",
            "clickstream-console",
        ];
        let mut built = build(&packages, &[], &progress).await?.into_iter();
        let mut next = || -> anyhow::Result<PathBuf> {
            copy(&built.next().context("cargo built nothing")?, dir)
        };
        Ok(Self {
            processor: next()?,
            producer: next()?,
            console: Some(next()?),
        })
    }
}

/// Builds the binary of each package (of the package's name) in the release profile and returns the executables in the
/// same order.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub async fn build(
    packages: &[&str],
    features: &[&str],
    progress: impl Fn(&str),
) -> anyhow::Result<Vec<PathBuf>> {
    let mut command = cargo(["build", "--release"]);
    if !features.is_empty() {
        command.arg("--features").arg(features.join(","));
    }
    executables(command, packages, progress).await
}

/// Runs a `cargo build`, to which the packages (and of each the binary of the package's name) are added, and returns the
/// executables in the same order.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub async fn executables(
    mut command: Command,
    packages: &[&str],
    progress: impl Fn(&str),
) -> anyhow::Result<Vec<PathBuf>> {
    command.arg("--message-format=json-render-diagnostics");
    for package in packages {
        command.args(["--package", package, "--bin", package]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut messages = child.stdout.take().expect("stdout is piped four lines up");
    let lines = child.stderr.take().expect("stderr is piped four lines up");
    let follow = async {
        let mut lines = BufReader::new(lines).lines();
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().await? {
            progress(line.trim());
            all.push(line);
        }
        anyhow::Ok(all)
    };
    let mut stdout = String::new();
    let (read, said) = tokio::join!(messages.read_to_string(&mut stdout), follow);
    read?;
    let said = said?;
    let status = child.wait().await?;
    if !status.success() {
        // the first error explains the others
        let from = said
            .iter()
            .position(|line| line.starts_with("error"))
            .unwrap_or(0);
        bail!(
            "cargo build failed ({status}):\n{}",
            said[from..].join("\n")
        );
    }
    packages
        .iter()
        .map(|package| {
            executable(&stdout, package).with_context(|| format!("cargo built no {package}"))
        })
        .collect()
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn copy(executable: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let name = executable
        .file_name()
        .context("an executable without a name")?;
    let copy = dir.join(name);
    // one that still runs cannot be written over, but replaced
    fs::remove_file(&copy).ok();
    fs::copy(executable, &copy).with_context(|| format!("cannot copy {}", executable.display()))?;
    Ok(copy)
}
