//! Other people's programs, run to their end, with their own words in the error.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// Runs a program and returns what it wrote to standard output. Blocks.
///
/// # Errors
/// It cannot be started, or fails; the message holds what it said.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = name(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    finished(&name, &output)
}

/// The standard output of a program that has ended.
///
/// # Errors
/// It failed; the message holds what it said.
pub fn finished(name: &str, output: &Output) -> anyhow::Result<String> {
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
#[must_use]
pub fn name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let args = command.get_args().take(6).map(|arg| arg.to_string_lossy());
    std::iter::once(program.into())
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}
