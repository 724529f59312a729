//! Our programs as static executables.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clickstream_tools::cargo::{Said, cargo, programs};
use clickstream_tools::workspace_root;

use super::SERVICES;
use crate::program;

/// Builds the program of each service, in the order of [`SERVICES`], from the files in `tree`.
/// `hear` gets what cargo says.
///
/// The flags would have everything else compiled anew each time they change, so these builds have a
/// target folder of their own.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub fn build(
    tree: &Path,
    tls: bool,
    hear: impl FnMut(Said) + Send,
) -> anyhow::Result<Vec<PathBuf>> {
    let packages = SERVICES.map(|service| format!("clickstream-{service}"));
    let mut command = cargo(["build", "--profile", "image"]);
    command
        .current_dir(tree)
        // named although it is the host's: only then the flags are not for build scripts and
        // macros, which cannot be static
        .args(["--target", &host()?])
        .arg("--target-dir")
        .arg(target(tree))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // the system's own would be linked dynamically
        .env("LIBZ_SYS_STATIC", "1");
    if tls {
        // the console does not speak to Kafka; TLS to PostgreSQL is part of every program
        let to_kafka = packages
            .iter()
            .filter(|package| *package != "clickstream-console");
        let features = to_kafka.map(|package| format!("{package}/tls-vendored"));
        command
            .arg("--features")
            .arg(features.collect::<Vec<_>>().join(","));
    }
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    for name in &names {
        command.args(["--package", name]);
    }
    programs(command, &names, hear)
}

/// Other releases share a folder.
fn target(tree: &Path) -> PathBuf {
    if tree == workspace_root() {
        workspace_root().join("target/images")
    } else {
        workspace_root().join("target/upgrade/images")
    }
}

/// The folder of the toolchain that compiles the workspace.
///
/// # Errors
/// The compiler cannot be run.
pub fn toolchain() -> anyhow::Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "sysroot"])
        .current_dir(workspace_root());
    Ok(PathBuf::from(program::output(&mut rustc)?.trim()))
}

/// What the compiler calls this machine, such as `x86_64-unknown-linux-gnu`.
///
/// # Errors
/// The compiler cannot be run.
pub fn host() -> anyhow::Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(workspace_root());
    let told = program::output(&mut rustc)?;
    told.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
