//! The programs that tests, `up` and `bench` run: other people's, found, fetched or built once, and
//! our own, built so that nothing is compiled twice.
//!
//! ```text
//! packages   -> programs of the system's package manager (java, mvn, prometheus, ...)
//! artifacts  -> Kafka's jars and PostgreSQL's binaries from Maven Central, axe-core from npm
//! kafka      -> the jars made ready for brokers that start in half the time
//! kubernetes -> etcd and kube-apiserver
//! collector  -> an OpenTelemetry Collector
//! cargo      -> programs of this workspace
//! ```
//!
//! A crate of its own with almost no dependencies: `cargo xtask` is ready within seconds and
//! fetches servers while the compiler works on everything else.
//!
//! Environment: `CLICKSTREAM_CACHE` (default `target/testbed`) holds what was fetched.
//! `KUBEBUILDER_ASSETS` names a folder with etcd and kube-apiserver; else `CLICKSTREAM_TOOLS`
//! (default `~/.cache/clickstream-tools`) holds those that were built.

pub mod artifacts;
pub mod cargo;
pub mod collector;
pub mod kafka;
pub mod kubernetes;
pub mod packages;
mod relative;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub use kubernetes::tools_dir;
pub use packages::{Tool, ensure};
pub use relative::Relative;

type Listener = Box<dyn Fn(&str) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Has `listener` hear what is being installed, fetched or built, instead of standard error. The
/// first one stays.
pub fn on_notice(listener: impl Fn(&str) + Send + Sync + 'static) {
    LISTENER.set(Box::new(listener)).ok();
}

/// Says that something begins that takes a while.
pub(crate) fn notice(text: &str) {
    match LISTENER.get() {
        Some(listener) => listener(text),
        None => eprintln!("testbed: {text}"),
    }
}

/// The folder of the workspace's `Cargo.toml`, as it was when this was compiled: programs of this
/// workspace are compiled in the checkout they run in.
#[must_use]
pub fn workspace_root() -> PathBuf {
    // this crate is the workspace's folder tests/tools
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Kafka and PostgreSQL 18 with all that they run on. Blocks, the first time for a minute.
///
/// # Errors
/// Something cannot be had; the message says what to install.
pub fn servers() -> anyhow::Result<()> {
    ensure(&[Tool::Java, Tool::Maven, Tool::Xz, Tool::Setpriv])?;
    kafka::Installation::find()?;
    artifacts::postgres_18_bin().map(|_| ())
}
