//! Binaries of this workspace, built for the tests that run them.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::Context as _;
use clickstream_tools::{cargo, ensure};
use parking_lot::Mutex;

use crate::run_dir;

/// Builds the program `name` (that of the package of this name) in the dev profile with the
/// features of all tests, once per process, and returns the path of a copy that a later build does
/// not replace. Blocks.
///
/// # Errors
/// When the build fails; the message holds the compiler's.
pub fn build_binary(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    // held while building: cargo would make a second build wait anyway
    let mut built = BUILT.lock();
    let built = built.get_or_insert_with(HashMap::new);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    ensure(&cargo::TEST_TOOLS)?;
    let executables = cargo::programs(cargo::test_build(), &[name], |_| {})?;
    let executable = executables.first().context("cargo built nothing")?;
    let copy = run_dir::server_dir(name)?.join(name);
    fs::copy(executable, &copy).with_context(|| format!("cannot copy {}", executable.display()))?;
    built.insert(name.to_owned(), copy.clone());
    Ok(copy)
}
