//! Binaries of this workspace, built for the tests that run them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;

use crate::run_dir;

type Key = (String, String, Vec<String>);

/// The folder of the workspace's `Cargo.toml`.
#[must_use]
pub fn workspace_root() -> PathBuf {
    // this crate is the workspace's folder `tests`
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Builds `bin` of `package` in the dev profile, once per process and feature set, and returns the path of a copy that a later build does not
/// replace. Blocks.
///
/// # Errors
/// When the build fails; the message holds the compiler's.
pub fn build_binary(package: &str, bin: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    static BUILT: Mutex<Option<HashMap<Key, PathBuf>>> = Mutex::new(None);
    let key = (
        package.to_owned(),
        bin.to_owned(),
        features
            .iter()
            .map(|feature| (*feature).to_owned())
            .collect(),
    );
    // held while building: cargo would make a second build wait anyway
    let mut built = BUILT.lock();
    let built = built.get_or_insert_with(HashMap::new);
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let executable = cargo_build(package, bin, features)?;
    let copy = run_dir::server_dir(bin)?.join(bin);
    fs::copy(&executable, &copy)
        .with_context(|| format!("cannot copy {}", executable.display()))?;
    built.insert(key, copy.clone());
    Ok(copy)
}

fn cargo_build(package: &str, bin: &str, features: &[&str]) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--message-format=json-render-diagnostics",
            "--package",
            package,
            "--bin",
            bin,
        ])
        .current_dir(workspace_root())
        .stdin(Stdio::null());
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    // what cargo tells a test about itself; build scripts that look at it (ring's does) would run again, and with them half the workspace
    let own = [
        "CARGO",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
    ];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            own.contains(&name) || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_")
        }) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo build --package {package} --bin {bin} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == bin)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built no executable {bin} in {package}"))
}
