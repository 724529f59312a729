//! Other people's programs, run to their end, with their own words in the error.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Runs a program and returns what it wrote to standard output.
///
/// # Errors
/// It cannot be started, or fails; the message holds what it said.
pub async fn output(command: &mut Command) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let name = name(command);
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {name}"))?;
    finished(&name, output)
}

/// As [`output`], with `input` on the program's standard input.
///
/// # Errors
/// As [`output`].
pub async fn fed(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let name = name(command);
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
    finished(&name, child.wait_with_output().await?)
}

fn finished(name: &str, output: std::process::Output) -> anyhow::Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{name} failed ({}):\n{}{}",
            output.status,
            stdout,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(stdout)
}

/// The program with its first arguments: enough to find the call, and no secret comes so early.
fn name(command: &Command) -> String {
    let command = command.as_std();
    let program = command.get_program().to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let args = command.get_args().take(6).map(|arg| arg.to_string_lossy());
    std::iter::once(program.into())
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}
