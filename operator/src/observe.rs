//! What the processors say of themselves: their `/status`, asked over HTTP.

pub mod asker;
pub mod pods;

use std::{net::SocketAddr, time::Duration};

use clickstream_protocol::{ADMIN_PORT_NAME, status::ProcessorStatus};
use clickstream_telemetry::client::{HttpClient, Limits, Uri};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use self::asker::Asker;

/// A processor answers from memory; what takes longer is no answer. 250 bytes a partition: sixteen
/// thousand of them.
const LIMITS: Limits = Limits {
    patience: Duration::from_secs(2),
    largest: 4 << 20,
};
/// Processors asked at the same time.
const AT_ONCE: usize = 16;

/// Asks all of these pods of a namespace at once. Pods that do not answer are left out: numbers
/// that are not known are not guessed.
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
                    if is_guarded {
                        asker.doubt(namespace);
                    }
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

    use clickstream_protocol::status::ProcessorState;
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
        assert_eq!(answers[0].state, ProcessorState::Running);
        assert_eq!(answers[0].partitions.len(), 500);
    }
}
