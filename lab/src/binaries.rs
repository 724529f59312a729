//! The services' programs, compiled by `cargo xtask` together with this one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The services' programs.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `clickstream-processor`.
    pub processor: PathBuf,
    /// `clickstream-producer`.
    pub producer: PathBuf,
    /// `clickstream-console`; None when a folder was given that has none.
    pub console: Option<PathBuf>,
}

impl Binaries {
    /// Those in `given`, or else those beside this program, copied into `dir`, so that a later
    /// build does not replace what runs.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn get(given: Option<&Path>, dir: &Path) -> anyhow::Result<Self> {
        let folder = folder(given)?;
        let find = |name: &str| copy(&folder.join(name), dir);
        Ok(Self {
            processor: find("clickstream-processor")?,
            producer: find("clickstream-producer")?,
            console: folder
                .join("clickstream-console")
                .exists()
                .then(|| find("clickstream-console"))
                .transpose()?,
        })
    }
}

/// The folder that was given, or else this program's.
///
/// # Errors
/// The system does not say where this program is.
pub fn folder(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let own = std::env::current_exe().context("this program does not know where it is")?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

fn copy(executable: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let name = executable
        .file_name()
        .context("an executable without a name")?;
    let copy = dir.join(name);
    // one that still runs cannot be written over, but replaced
    fs::remove_file(&copy).ok();
    fs::copy(executable, &copy).with_context(|| {
        format!(
            "no program {}: `cargo xtask` compiles it, or --binaries names its folder",
            executable.display()
        )
    })?;
    Ok(copy)
}
