//! Other people's programs, run to their end, with their own words in the error.

use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use xtask::program::{finished, name};

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
/// It cannot be started, or fails; the message holds what it said.
pub async fn output(command: &mut Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let name = name(command.as_std());
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {name}"))?;
    finished(&name, &output)
}

/// As [`output`], with `input` on the program's standard input.
///
/// # Errors
/// As [`output`].
pub async fn fed(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let name = name(command.as_std());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped five lines up");
    // a program that refuses before it has read everything says why itself
    stdin.write_all(input.as_bytes()).await.ok();
    drop(stdin);
    finished(&name, &child.wait_with_output().await?)
}
