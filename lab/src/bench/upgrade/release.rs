//! The processor of another release: compiled from its own revision, beside this checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clickstream_tools::cargo::{cargo, programs};
use clickstream_tools::workspace_root;
use xtask::program::output;

/// The program, and its package.
const PROGRAM: &str = "clickstream-processor";

/// The processor in the folder `from`, or that of the revision `from`; copied into `dir` under a name
/// of its own, so that nothing replaces it while it runs. Blocks: compiling takes minutes, once.
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

/// Its files without its history, and a target directory that all revisions share.
fn compiled(revision: &str) -> anyhow::Result<PathBuf> {
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(workspace_root());
        git
    };
    let commit = format!("{revision}^{{commit}}");
    let id = output(git().args(["rev-parse", "--verify", "--short=12", &commit])).context(
        "--from names no folder, and no revision of this checkout (a shallow one lacks older ones)",
    )?;
    let upgrade = workspace_root().join("target/upgrade");
    let tree = upgrade.join(id.trim());
    if !tree.exists() {
        // complete or not there
        let half = upgrade.join("unpacking");
        fs::remove_dir_all(&half).ok();
        fs::create_dir_all(&half)?;
        let archive = half.join("tree.tar");
        output(
            git()
                .args(["archive", "--output"])
                .args([archive.as_os_str(), id.trim().as_ref()]),
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
    eprintln!("compiling the processor of {revision}: minutes the first time");
    let mut build = cargo(["build", "--release", "--package", PROGRAM, "--target-dir"]);
    build.arg(upgrade.join("target")).current_dir(&tree);
    let mut built = programs(build, &[PROGRAM], |_| {})?;
    Ok(built.swap_remove(0))
}
