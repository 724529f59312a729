//! Dependency audit: `deny.toml`, checked by a cargo-deny of our own among the tools that outlive a
//! checkout's `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use clickstream_tools::cargo::cargo;
use clickstream_tools::{Relative, tools_dir, workspace_root};

use super::step;

/// Pinned, so that a new release changes no verdict by itself.
const VERSION: &str = "0.20.2";

/// How long the advisory database may take; it is a shallow clone of a few MiB.
const FETCH_DEADLINE: Duration = Duration::from_secs(120);

/// What can be checked without the advisory database.
const OFFLINE_CHECKS: [&str; 3] = ["licenses", "bans", "sources"];

/// Green with a remark when advisories could not be looked up, red when a rule of `deny.toml` is
/// broken.
pub fn run() -> anyhow::Result<Option<String>> {
    let program = installed()?;
    let out_of_reach = fetch_advisories(&program)?.err();
    let mut check = deny(&program);
    check.args(["--log-level", "error", "check"]);
    if let Some(reason) = &out_of_reach {
        eprintln!("notice: the advisory database cannot be reached: {reason}");
        eprintln!("notice: ADVISORIES ARE NOT CHECKED in this run");
    } else {
        check.arg("advisories");
    }
    check.args(OFFLINE_CHECKS);
    step::streamed(check)?;
    Ok(out_of_reach.map(|_| "advisories not checked: database out of reach".to_owned()))
}

fn deny(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(workspace_root())
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}

/// Installs the pinned version unless it is there; a version of the user's own elsewhere is left
/// alone.
fn installed() -> anyhow::Result<PathBuf> {
    let tools = tools_dir()?;
    let program = tools.join("bin/cargo-deny");
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION)) {
        return Ok(program);
    }
    eprintln!(
        "installing cargo-deny {VERSION} into {} (once, about a minute)",
        tools.display()
    );
    // unoptimised, without debug info and in few units: it checks in two seconds and compiles in a
    // fifth of the time
    let mut install = cargo(["install", "cargo-deny", "--locked", "--debug"]);
    install
        .args(["--version", VERSION, "--root"])
        .arg(&tools)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_CODEGEN_UNITS", "4")
        .env("CARGO_PROFILE_DEV_BUILD_OVERRIDE_CODEGEN_UNITS", "4");
    step::streamed(install).context("cannot install cargo-deny")?;
    Ok(program)
}

/// The inner error is why the database is out of reach: no verdict on our dependencies.
fn fetch_advisories(program: &Path) -> anyhow::Result<Result<(), String>> {
    let mut fetch = deny(program)
        .args(["--log-level", "error", "fetch", "db"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo-deny")?;
    let in_time =
        Relative::open(fetch.id()).is_none_or(|running| running.has_ended_within(FETCH_DEADLINE));
    if !in_time {
        fetch.kill()?;
        fetch.wait()?;
        return Ok(Err(format!("no answer within {FETCH_DEADLINE:?}")));
    }
    let output = fetch.wait_with_output()?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    // git's own last line says it best
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rfind(|line| !line.trim().is_empty());
    Ok(Err(last.unwrap_or("no reason given").trim().to_owned()))
}
