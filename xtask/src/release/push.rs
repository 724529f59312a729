//! Images and chart into a registry, with the bytes that the release has: by `crane`, which copies
//! OCI layouts as they are.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use clickstream_tools::packages::{self, in_path};
use clickstream_tools::tools_dir;

use crate::program;

/// Name the variables with an account of the registry; without them, what `docker login` has left
/// counts.
const USER: &str = "CLICKSTREAM_REGISTRY_USER";
const PASSWORD: &str = "CLICKSTREAM_REGISTRY_PASSWORD";

/// A program that is built from its Go module once.
struct Tool {
    /// Among the tools and in the path.
    name: &'static str,
    package: &'static str,
    version: &'static str,
}

const CRANE: Tool = Tool {
    name: "crane",
    package: "github.com/google/go-containerregistry/cmd/crane",
    version: "v0.22.1",
};

const COSIGN: Tool = Tool {
    name: "cosign",
    package: "github.com/sigstore/cosign/v3/cmd/cosign",
    version: "v3.1.3",
};

/// As `charts/test.sh --install` builds it.
const HELM: Tool = Tool {
    name: "helm4",
    package: "helm.sh/helm/v4/cmd/helm",
    version: "v4.3.1",
};

/// `helm`, which renders the chart.
///
/// # Errors
/// It cannot be built.
pub fn helm() -> anyhow::Result<PathBuf> {
    built(&HELM)
}

/// `crane`, which pushes.
///
/// # Errors
/// It cannot be built.
pub fn crane() -> anyhow::Result<PathBuf> {
    built(&CRANE)
}

/// `cosign`, which signs with the identity of a workflow.
///
/// # Errors
/// It cannot be built.
pub fn cosign() -> anyhow::Result<PathBuf> {
    built(&COSIGN)
}

fn built(tool: &Tool) -> anyhow::Result<PathBuf> {
    let folder = tools_dir()?.join("bin");
    let program = folder.join(tool.name);
    if program.is_file() {
        return Ok(program);
    }
    if in_path(tool.name) {
        return Ok(tool.name.into());
    }
    // tests that need it run side by side
    let _lock = packages::lock(tool.name)?;
    if program.is_file() {
        return Ok(program);
    }
    // Go names it by its package, and it gets its own name when it is whole
    let partial = folder.join(format!("{}.partial", tool.name));
    let mut install = Command::new("go");
    install
        .args(["install", "-trimpath", "-ldflags", "-s -w"])
        .arg(format!("{}@{}", tool.package, tool.version))
        .env("GOBIN", &partial)
        .env("CGO_ENABLED", "0");
    program::output(&mut install)
        .with_context(|| format!("cannot build {}, and none is in the path", tool.name))?;
    let package = tool.package.rsplit('/').next().unwrap_or(tool.name);
    fs::rename(partial.join(package), &program)?;
    fs::remove_dir(partial)?;
    Ok(program)
}

/// Opens the registry with the account of the environment, where there is one.
///
/// # Errors
/// The registry's name cannot be logged in to.
pub fn login(crane: &Path, registry: &str) -> anyhow::Result<()> {
    let Ok(user) = std::env::var(USER) else {
        return Ok(());
    };
    let password =
        std::env::var(PASSWORD).with_context(|| format!("{USER} is set, {PASSWORD} is not"))?;
    let host = registry.split('/').next().unwrap_or(registry);
    let mut login = Command::new(crane)
        .args([
            "auth",
            "login",
            host,
            "--username",
            &user,
            "--password-stdin",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start crane")?;
    if let Some(mut stdin) = login.stdin.take() {
        stdin.write_all(password.as_bytes())?;
    }
    if !login.wait()?.success() {
        anyhow::bail!("crane cannot log in to {host}");
    }
    Ok(())
}

/// Pushes a layout under this name and returns the digest that the registry has it by.
///
/// # Errors
/// The registry refuses.
pub fn layout(crane: &Path, folder: &Path, name: &str) -> anyhow::Result<String> {
    let told = program::output(Command::new(crane).arg("push").arg(folder).arg(name))?;
    let digest = told
        .trim()
        .rsplit_once('@')
        .map(|(_, digest)| digest.to_owned());
    digest.with_context(|| format!("crane names no digest of {name}: {told}"))
}

#[cfg(test)]
mod tests {
    use clickstream_tools::workspace_root;

    use super::*;

    #[test]
    fn releases_are_rendered_by_the_helm_that_the_chart_is_tested_with() -> anyhow::Result<()> {
        let tested = fs::read_to_string(workspace_root().join("charts/test.sh"))?;
        assert!(tested.contains(&format!("helm4={}@{}", HELM.package, HELM.version)));
        Ok(())
    }
}
