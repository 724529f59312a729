//! Commands that are run once and have to refuse.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{build_binary, server_dir};

use crate::stack::Stack;

/// A refusal comes at once or after the 15 s that brokers are given to answer.
pub const REFUSAL: Duration = Duration::from_secs(60);

pub async fn processor() -> anyhow::Result<PathBuf> {
    let build = || build_binary("clickstream-processor");
    tokio::task::spawn_blocking(build).await?
}

pub async fn producer() -> anyhow::Result<PathBuf> {
    let build = || build_binary("clickstream-producer");
    tokio::task::spawn_blocking(build).await?
}

/// Runs a command that has to end with this code and to say all of `words`; what it said.
pub async fn refused(
    binary: &Path,
    args: &str,
    code: i32,
    words: &[&str],
) -> anyhow::Result<String> {
    let mut command = Command::new(binary);
    command.args(args.split(' '));
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(REFUSAL, output)
        .await
        .with_context(|| format!("{args} does not end"))???;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(code),
        "{args} ends with {}: {said}",
        output.status
    );
    for word in words {
        ensure!(said.contains(word), "{args} does not say {word:?}: {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(said)
}

/// The stack's document with changes, as a file of its own.
pub fn changed(stack: &Stack, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut text = fs::read_to_string(&stack.document)?;
    for (from, to) in changes {
        ensure!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    let path = server_dir("changed")?.join("pipeline.yaml");
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}
