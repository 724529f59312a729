//! Real Kafka, PostgreSQL and Kubernetes APIs as child processes, and a proxy that breaks
//! connections on purpose.
//!
//! ```text
//! kafka, postgres -> servers on loopback, started, crashed, frozen and started again
//! kube_api -> etcd and kube-apiserver, found or built once, treated likewise
//! kubelet  -> what a cluster would do with Jobs and Deployments
//! prometheus -> a Prometheus that scrapes what a test names, and promtool
//! browser  -> Chromium without a window, for pages
//! collector -> an OpenTelemetry Collector that prints the spans it gets, built once
//! process  -> our own binaries under test, and the way every child here is started
//! proxy    -> a loopback hop that cuts, stalls, delays or loses a reply
//! shared   -> one Kafka and one PostgreSQL per test process
//! ```
//!
//! Nothing outlives the process that started it, however it ends: the kernel signals every child
//! when its parent dies, and a guardian removes the folders. After a panic the folders stay, and
//! their path is printed; `CLICKSTREAM_KEEP=1` keeps them in any case.
//!
//! The servers' programs come from `clickstream-tools`. Feature `kubernetes` (on by default): the
//! Kubernetes API and what plays a cluster's part; its client is most of what this crate compiles.
//!
//! Environment: `CLICKSTREAM_TMP` (default the system's folder for temporary files) holds the data
//! of running servers. `CLICKSTREAM_LOOPBACK` (default 127.0.0.1) is the address at which Kafka,
//! PostgreSQL and the Kubernetes API listen.

mod binary;
pub mod browser;
mod certificates;
mod collector;
mod kafka;
#[cfg(feature = "kubernetes")]
mod kube_api;
#[cfg(feature = "kubernetes")]
pub mod kubelet;
pub mod loopback;
mod ports;
mod postgres;
mod process;
mod prometheus;
mod proxy;
mod run_dir;
pub mod shared;

pub use binary::build_binary;
pub use certificates::{certificates, certificates_for};
pub use clickstream_tools as tools;
pub use clickstream_tools::{artifacts::KAFKA as KAFKA_VERSION, tools_dir, workspace_root};
pub use collector::{CollectedSpan, Collector};
pub use kafka::{Broker, Kafka, KafkaOptions};
#[cfg(feature = "kubernetes")]
pub use kube_api::{KubeApi, KubeApiOptions};
pub use ports::free_port;
pub use postgres::{Postgres, PostgresOptions, PostgresVersion};
pub use process::Process;
pub use prometheus::{Guarded, Prometheus, Sample, ScrapeTarget, promtool};
pub use proxy::{Proxy, Reply};
pub use run_dir::{keep_run_dir, server_dir};

/// A name that no other test has: for topics, databases and consumer groups on shared servers.
///
/// Lower-case letters, digits and underscores only, so it needs no quoting in SQL as long as
/// `prefix` needs none.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}_{}", &id[..12])
}
