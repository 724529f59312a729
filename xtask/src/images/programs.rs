//! Our programs as static executables.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::process::Command;

use super::SERVICES;
use crate::cargo::cargo;
use crate::{binaries, program, root};

/// Builds the program of each service, in the order of [`SERVICES`]. `progress` gets cargo's lines.
///
/// The flags would have everything else compiled anew each time they change, so these builds have a target folder of their own.
///
/// # Errors
/// The build fails; the message holds the compiler's.
pub async fn build(tls: bool, progress: impl Fn(&str)) -> anyhow::Result<Vec<PathBuf>> {
    let packages = SERVICES.map(|service| format!("clickstream-{service}"));
    let mut command = cargo(["build", "--profile", "image"]);
    command
        // named although it is the host's: only then the flags are not for build scripts and macros, which cannot be static
        .args(["--target", &host().await?])
        .arg("--target-dir")
        .arg(root::path().join("target/images"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // the system's own would be linked dynamically
        .env("LIBZ_SYS_STATIC", "1");
    if tls {
        // the console does not speak to Kafka; TLS to PostgreSQL is part of every program
        let to_kafka = packages
            .iter()
            .filter(|package| *package != "clickstream-console");
        let features = to_kafka.map(|package| format!("{package}/tls"));
        command
            .arg("--features")
            .arg(features.collect::<Vec<_>>().join(","));
    }
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    binaries::executables(command, &packages, progress).await
}

/// What the compiler calls this machine, such as `x86_64-unknown-linux-gnu`.
async fn host() -> anyhow::Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(root::path());
    let told = program::output(&mut rustc).await?;
    told.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
