//! The container engine, by its command line.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, anyhow};

use crate::program;

/// The engine's command line, where it is called neither `docker` nor found in the path.
const VARIABLE: &str = "CLICKSTREAM_DOCKER";

/// `docker`, arguments to follow.
#[must_use]
pub fn docker() -> Command {
    Command::new(std::env::var_os(VARIABLE).unwrap_or_else(|| "docker".into()))
}

/// Makes sure that an engine answers.
///
/// # Errors
/// None does; the message says what to do.
pub fn answers() -> anyhow::Result<()> {
    let mut version = docker();
    version.args(["version", "--format", "{{.Server.Version}}"]);
    match program::output(&mut version) {
        Ok(_) => Ok(()),
        Err(error) => Err(anyhow!(
            "no container engine answers: start Docker (`systemctl start docker`, or Docker Desktop), or install it; \
             {VARIABLE} names another program with the same commands\n{error:#}"
        )),
    }
}

/// Builds the image `name` from a folder.
///
/// # Errors
/// The build fails.
pub fn build(name: &str, folder: &Path) -> anyhow::Result<()> {
    let mut plugin = docker();
    let has_buildx = program::output(plugin.args(["buildx", "version"])).is_ok();
    let mut build = docker();
    build.args(["build", "--quiet", "--tag", name]).arg(folder);
    if !has_buildx {
        // the builder without a plugin does all that is needed here
        build.env("DOCKER_BUILDKIT", "0");
    }
    program::output(&mut build).map(|_| ())
}

/// Runs the program of the image once, with no more rights than a pod has.
///
/// # Errors
/// It does not run; the message holds what it said.
pub fn try_out(name: &str) -> anyhow::Result<()> {
    let mut run = docker();
    run.args(["run", "--rm", "--read-only", "--network=none"])
        .args(["--cap-drop=ALL", "--security-opt=no-new-privileges"])
        .args([name, "--version"]);
    program::output(&mut run)
        .map(|_| ())
        .with_context(|| format!("the program of {name} does not run in its image"))
}

/// The size of the image in bytes.
///
/// # Errors
/// The engine does not know the image.
pub fn size(name: &str) -> anyhow::Result<u64> {
    let mut inspect = docker();
    inspect.args(["image", "inspect", "--format", "{{.Size}}", name]);
    let told = program::output(&mut inspect)?;
    told.trim()
        .parse()
        .with_context(|| format!("{told:?} is no size"))
}

/// Whether the engine has the image.
pub fn has(name: &str) -> bool {
    size(name).is_ok()
}

/// Pushes the image to `registry`, under the same name.
///
/// # Errors
/// The registry refuses.
pub fn push(name: &str, registry: &str) -> anyhow::Result<()> {
    let there = format!("{registry}/{name}");
    program::output(docker().args(["tag", name, &there]))?;
    program::output(docker().args(["push", "--quiet", &there])).map(|_| ())
}
