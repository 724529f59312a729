//! Another release of this project: its files, from its own revision, beside this checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clickstream_tools::workspace_root;
use xtask::program::output;

/// The files of a revision, without its history.
#[derive(Clone, Debug)]
pub struct Revision {
    id: String,
    tree: PathBuf,
}

impl Revision {
    /// Unpacks a revision, which is anything that git knows a commit by. Blocks.
    ///
    /// # Errors
    /// There is no such revision in this checkout.
    pub fn unpacked(name: &str) -> anyhow::Result<Self> {
        let git = || {
            let mut git = Command::new("git");
            git.current_dir(workspace_root());
            git
        };
        let commit = format!("{name}^{{commit}}");
        let id = output(git().args(["rev-parse", "--verify", "--short=12", &commit]))
            .with_context(|| {
                format!("{name} is no revision of this checkout (a shallow one lacks older ones)")
            })?;
        let id = id.trim().to_owned();
        let tree = folder().join(&id);
        if !tree.exists() {
            // complete or not there
            let half = folder().join("unpacking");
            fs::remove_dir_all(&half).ok();
            fs::create_dir_all(&half)?;
            let archive = half.join("tree.tar");
            output(
                git()
                    .args(["archive", "--output"])
                    .args([archive.as_os_str(), id.as_ref()]),
            )?;
            output(
                Command::new("tar")
                    .arg("-xf")
                    .arg(&archive)
                    .current_dir(&half),
            )?;
            fs::remove_file(&archive)?;
            fs::rename(&half, &tree)?;
        }
        Ok(Self { id, tree })
    }

    /// The first twelve digits of its commit.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder with its files.
    #[must_use]
    pub fn tree(&self) -> &Path {
        &self.tree
    }
}

/// The folder of all revisions, and of what is compiled from them.
#[must_use]
pub fn folder() -> PathBuf {
    workspace_root().join("target/upgrade")
}
