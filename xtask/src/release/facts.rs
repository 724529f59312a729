//! What a release is made of and for.

use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clickstream_tools::workspace_root;

use super::Args;
use super::manifests::NOWHERE;
use crate::images::VERSION;
use crate::program;

/// What all parts of a release share.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the workspace.
    pub version: String,
    /// As 40 digits.
    pub commit: String,
    /// Where the commit is published, if it is.
    pub source: Option<String>,
    /// Whether files differ from the commit.
    pub dirty: bool,
    /// Of the commit, in seconds since 1970.
    pub time: u64,
    /// Where the images will be.
    pub registry: Option<String>,
    /// Where the archives of the plugin will be.
    pub downloads: Option<String>,
}

impl Facts {
    /// `REGISTRY/clickstream/SERVICE@DIGEST`.
    #[must_use]
    pub fn name(&self, service: &str, digest: &str) -> String {
        let registry = self.registry.as_deref().unwrap_or(NOWHERE);
        format!("{registry}/clickstream/{service}@{digest}")
    }
}

/// Asks git.
///
/// # Errors
/// There is no commit, it has the tag of another version, or files differ from it and may not.
pub fn facts(args: &Args) -> anyhow::Result<Facts> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let told = program::output(git.args(arguments).current_dir(workspace_root()))?;
        anyhow::Ok(told.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"]).context("a release is made of a commit")?;
    let changed = git(&["status", "--porcelain"])?;
    if !changed.is_empty() && !args.allow_dirty {
        bail!(
            "these files differ from the commit; commit them, or pass --allow-dirty to try things out:\n{changed}"
        );
    }
    let tags = git(&["tag", "--points-at", "HEAD", "--list", "v*"])?;
    let own = format!("v{VERSION}");
    if !tags.is_empty() && !tags.lines().any(|tag| tag == own) {
        bail!(
            "the commit has the tag {}, and the workspace is {own}",
            tags.replace('\n', ", ")
        );
    }
    // an address that anybody can open, and no folder of this machine
    let remote = git(&["remote", "get-url", "origin"]).unwrap_or_default();
    let is_public = remote.starts_with("https://") && !remote.contains('@');
    Ok(Facts {
        version: VERSION.to_owned(),
        commit,
        source: is_public.then_some(remote),
        dirty: !changed.is_empty(),
        time: git(&["log", "-1", "--format=%ct"])?.parse()?,
        registry: args.registry.clone(),
        downloads: args.downloads.clone(),
    })
}

/// Refuses what would be looked for at Docker Hub, under a name that is not this project's.
///
/// # Errors
/// It is no registry; the message shows one.
pub fn registry(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let is_host = host == "localhost" || host.contains(['.', ':']);
    if !is_host || text.contains("://") || (host.ends_with("docker.io") && path.is_empty()) {
        return Err("expected a registry of yours, such as registry.example.com/team".to_owned());
    }
    Ok(text.to_owned())
}

/// As in `2026-01-31T12:00:00Z`.
#[must_use]
pub fn date(time: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string()
}
