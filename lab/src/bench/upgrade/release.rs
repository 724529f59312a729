//! The processor of another release: compiled from its own revision, beside this checkout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clickstream_tools::cargo::{cargo, programs};

use crate::revision::{self, Revision};

/// The program, and its package.
const PROGRAM: &str = "clickstream-processor";

/// The processor in the folder `from`, or that of the revision `from`; copied into `dir` under a
/// name of its own, so that nothing replaces it while it runs. Blocks: compiling takes minutes,
/// once.
///
/// # Errors
/// There is no such revision here, or it cannot be compiled.
pub fn processor(from: &str, dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = Path::new(from);
    let program = if folder.is_dir() {
        folder.join(PROGRAM)
    } else {
        compiled(from)?
    };
    let copy = dir.join(format!("{PROGRAM}-before"));
    fs::copy(&program, &copy).with_context(|| format!("no program {}", program.display()))?;
    Ok(copy)
}

/// Its target directory is shared by all revisions.
fn compiled(name: &str) -> anyhow::Result<PathBuf> {
    let revision = Revision::unpacked(name).context("--from names no folder")?;
    eprintln!("compiling the processor of {name}: minutes the first time");
    let mut build = cargo(["build", "--release", "--package", PROGRAM, "--target-dir"]);
    build
        .arg(revision::folder().join("target"))
        .current_dir(revision.tree());
    let mut built = programs(build, &[PROGRAM], |_| {})?;
    Ok(built.swap_remove(0))
}
