//! What the cluster is, and which kinds it knows.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, discovery, error::DiscoveryError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::kind::{Kind, Names};

/// Between two tries to reach the API server at start.
const START_PAUSE: Duration = Duration::from_secs(2);
/// How often the API server is asked whether it has come to know the optional kinds: somebody may
/// install the Prometheus Operator at any time, and a watch of its definition would need rights in
/// the whole cluster.
const LOOK_FOR_KINDS: Duration = Duration::from_secs(30);

/// The identity of the cluster; waits for an API server that is away. `None`: told to stop
/// meanwhile.
///
/// # Errors
/// The API server does not let us read it.
pub async fn id(client: &Client, stop: &CancellationToken) -> anyhow::Result<Option<String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    loop {
        match namespaces.get("kube-system").await {
            Ok(namespace) => return Ok(namespace.uid()),
            Err(kube::Error::Api(status)) => {
                bail!(
                    "namespace kube-system cannot be read, whose uid is the cluster's identity: {status}"
                )
            }
            Err(error) => warn!(%error, "waiting for the kubernetes api"),
        }
        tokio::select! {
            () = tokio::time::sleep(START_PAUSE) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// The kinds that the API server knows, now and whenever that changes. The Prometheus Operator's is
/// optional; the resource itself is not. It is watched whether or not pods are to be scraped by it:
/// what was made before it was switched off is taken away.
///
/// # Errors
/// The resource's own definition is missing.
pub async fn kinds(
    client: &Client,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Vec<Kind>>> {
    let group = clickstream_pipeline::spec::GROUP;
    if discovery::group(client, group).await.is_err() {
        bail!(
            "this cluster does not know {group}: install the CustomResourceDefinition first (clickstream-operator crd | kubectl apply -f -)"
        );
    }
    let first = of_all(knows_pod_monitors(client).await.unwrap_or(false));
    let (told, kinds) = watch::channel(first);
    let (client, stop) = (client.clone(), stop.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_FOR_KINDS) => {}
                () = stop.cancelled() => return,
            }
            // an API server that does not answer has not forgotten what it knew
            if let Some(known) = knows_pod_monitors(&client).await {
                let changed = told.send_if_modified(|kinds| {
                    let now = of_all(known);
                    let changed = *kinds != now;
                    *kinds = now;
                    changed
                });
                if changed {
                    info!(
                        known,
                        "the cluster's definition of PodMonitor has come or gone"
                    );
                }
            }
        }
    });
    Ok(kinds)
}

fn of_all(pod_monitors: bool) -> Vec<Kind> {
    let mut kinds = Kind::ALL.to_vec();
    kinds.retain(|kind| pod_monitors || *kind != Kind::PodMonitor);
    kinds
}

/// Whether the API server knows PodMonitors; `None`: it did not say.
async fn knows_pod_monitors(client: &Client) -> Option<bool> {
    let Names {
        group,
        version,
        kind,
        ..
    } = Kind::PodMonitor.names();
    match discovery::group(client, group).await {
        Ok(group) => Some(
            group
                .versioned_resources(version)
                .iter()
                .any(|(resource, _)| resource.kind == kind),
        ),
        Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => Some(false),
        Err(_) => None,
    }
}
