//! The cargo that started this task, as a command.

use std::ffi::OsStr;

use tokio::process::Command;

use crate::root;

/// Cargo in the workspace's root. What the cargo that started this task set for it is taken away again: build
/// scripts that watch such a variable would run anew at every change between `cargo test` and `cargo xtask test`.
pub fn cargo<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
        .args(args)
        .current_dir(root::path())
        .kill_on_drop(true);
    command
}
