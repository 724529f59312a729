//! The workspace's root folder.

use std::path::Path;

/// The folder of the workspace's `Cargo.toml`, as it was when this task was compiled: `cargo xtask` compiles in
/// the checkout it runs in.
pub fn path() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one folder below the root")
}
