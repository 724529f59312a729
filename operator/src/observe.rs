//! What the processors say of themselves: their `/status`, asked over HTTP.

pub mod asker;
pub mod pods;

use std::{net::SocketAddr, time::Duration};

use clickstream_telemetry::client::{HttpClient, Limits, Uri};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;

use self::asker::Asker;
use crate::controller::build::ADMIN_PORT_NAME;

/// A processor answers from memory; what takes longer is no answer. 250 bytes a partition: sixteen thousand of them.
const LIMITS: Limits = Limits {
    patience: Duration::from_secs(2),
    largest: 4 << 20,
};
/// Processors asked at the same time.
const AT_ONCE: usize = 16;

/// A processor's own account. Fields that are not read here are left out; unknown ones are ignored, since a processor may be
/// a version newer.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ProcessorStatus {
    /// `starting`, `running`, `waiting_for_postgres` or `stopping`.
    #[serde(default)]
    pub state: String,
    /// The partitions it holds.
    #[serde(default)]
    pub partitions: Vec<PartitionReport>,
    /// Partitions it must not work on.
    #[serde(default)]
    pub halted: Vec<Halted>,
    /// PostgreSQL answers, and refuses what it writes.
    pub refused: Option<Refused>,
}

/// Since when PostgreSQL refuses what a processor writes, and why.
#[derive(Clone, Debug, Deserialize)]
pub struct Refused {
    /// When it did so first.
    pub since: String,
    /// The kind of failure, as in the metrics: `resources` is disk, memory or connections.
    pub class: String,
}

/// One partition, as its owner reports it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PartitionReport {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// How often it has changed owners; of two reports the one with the larger epoch counts.
    #[serde(default)]
    pub epoch: i64,
    /// Records behind the end of the log.
    pub lag: Option<i64>,
    /// Its watermark.
    pub watermark: Option<String>,
    /// Its counters.
    #[serde(default)]
    pub counters: Totals,
    /// When it last committed.
    pub last_commit_at: Option<String>,
    /// Age of the oldest record that is read and not committed, or would be read next.
    pub oldest_unprocessed_seconds: Option<f64>,
    /// For how long a Kafka transaction that is still open has held it back; absent where none does.
    pub open_transaction_seconds: Option<f64>,
    /// Offsets that Kafka dropped before they were read, as `[first, next]`.
    #[serde(default)]
    pub gaps: Vec<[i64; 2]>,
}

/// A partition that a processor must not work on.
#[derive(Clone, Debug, Deserialize)]
pub struct Halted {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Why, and what to do.
    pub reason: String,
}

/// Records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// All but skipped ones.
    pub consumed: i64,
    /// Became an event.
    pub accepted: i64,
    /// Were there already.
    pub duplicate: i64,
    /// Are in the dead letters.
    pub rejected: i64,
    /// Came after their window.
    pub late: i64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.consumed += other.consumed;
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.late += other.late;
    }
}

impl Totals {
    /// Whether every consumed record is accounted for exactly once.
    pub const fn conserved(&self) -> bool {
        self.consumed == self.accepted + self.duplicate + self.rejected + self.late
    }
}

/// Asks all of these pods of a namespace at once. Pods that do not answer are left out: numbers that are not known are not guessed.
pub async fn ask(
    asker: &Asker,
    namespace: &str,
    pods: &[std::sync::Arc<Pod>],
) -> Vec<ProcessorStatus> {
    // collected first: a borrowing iterator inside a stream is not Send enough for a spawned task
    let addresses: Vec<(SocketAddr, bool)> = pods
        .iter()
        .filter_map(|pod| Some((admin_address(pod)?, asker::is_guarded(pod))))
        .collect();
    let guarded = match addresses.iter().any(|(_, is_guarded)| *is_guarded) {
        true => asker.guarded(namespace).await,
        false => None,
    };
    stream::iter(addresses)
        .map(|(address, is_guarded)| (address, is_guarded, guarded.clone()))
        .map(|(address, is_guarded, guarded)| async move {
            let status = match is_guarded {
                true => get_status(&guarded?, "https", address).await,
                false => get_status(asker.plain(), "http", address).await,
            };
            status
                .inspect_err(|error| {
                    tracing::debug!(%address, %error, "a processor's status cannot be read");
                })
                .ok()
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Where a running pod answers.
fn admin_address(pod: &Pod) -> Option<SocketAddr> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") {
        return None;
    }
    let port = pod
        .spec
        .as_ref()?
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .find(|port| port.name.as_deref() == Some(ADMIN_PORT_NAME))?
        .container_port;
    let ip = status.pod_ip.as_deref()?.parse().ok()?;
    tracing::trace!(pod = pod.name_any(), "asking");
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

async fn get_status(
    client: &HttpClient,
    scheme: &str,
    address: SocketAddr,
) -> anyhow::Result<ProcessorStatus> {
    let url: Uri = format!("{scheme}://{address}/status").parse()?;
    Ok(serde_json::from_slice(&client.get(&url, LIMITS).await?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{net::SocketAddr, sync::Arc};

    use clickstream_telemetry::{Health, Verdict, admin};
    use k8s_openapi::api::core::v1::Pod;
    use kube::{Client, Config};
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::{ask, asker::Asker};

    struct Told;

    impl Health for Told {
        fn live(&self) -> Verdict {
            Verdict::Ok
        }

        fn ready(&self) -> Verdict {
            Verdict::Ok
        }

        fn status(&self) -> serde_json::Value {
            let partitions: Vec<_> = (0..500)
                .map(|partition| json!({ "topic": "clicks", "partition": partition, "lag": 1 }))
                .collect();
            json!({ "state": "running", "partitions": partitions })
        }
    }

    fn pod(address: SocketAddr, phase: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": { "name": "p" },
            "spec": { "containers": [{
                "name": "processor",
                "ports": [{ "name": "admin", "containerPort": address.port() }],
            }] },
            "status": { "phase": phase, "podIP": address.ip().to_string() },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[tokio::test]
    async fn running_processors_are_asked_and_silent_ones_are_left_out() {
        let stop = CancellationToken::new();
        let server = admin::serve(
            "127.0.0.1:0".parse().unwrap(),
            prometheus::Registry::new(),
            Arc::new(Told),
            stop.clone(),
        )
        .await
        .unwrap();
        let pods = [
            pod(server.local_addr(), "Running"),
            pod(server.local_addr(), "Pending"),
            pod("127.0.0.1:1".parse().unwrap(), "Running"),
        ];
        // in the clear nobody asks for a secret
        let nobody = Config::new("http://127.0.0.1:1".parse().unwrap());
        let asker = Asker::new(Client::try_from(nobody).unwrap(), None);
        let answers = ask(&asker, "shop", &pods).await;
        stop.cancel();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].state, "running");
        assert_eq!(answers[0].partitions.len(), 500);
    }
}
