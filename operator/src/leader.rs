//! Who acts: the holder of a Lease. Two who act at once do no harm, since every write says what it
//! expects; they would only do everything twice.

use anyhow::Context as _;
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::{sync::watch, task::JoinHandle};

/// A leader that is gone is replaced after this long, seconds.
const DURATION: u64 = 15;
/// A leader renews this long before its time is up, seconds.
const GRACE: u64 = 5;
/// Name of the Lease.
pub const LEASE: &str = "clickstream-operator";

/// A candidate.
pub struct Candidate {
    /// Whether this process leads.
    pub leads: watch::Receiver<bool>,
    /// Ends only when leading has become impossible.
    pub task: JoinHandle<Result<LeaseManager, kube_lease_manager::LeaseManagerError>>,
}

/// Stands for election in a namespace, under a name that no other process has.
///
/// # Errors
/// The Lease cannot be made or read.
pub async fn stand(client: Client, namespace: &str, identity: &str) -> anyhow::Result<Candidate> {
    let manager = LeaseManagerBuilder::new(client, LEASE)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await
        .with_context(|| format!("lease {namespace}/{LEASE}"))?;
    let (leads, task) = manager.watch().await;
    Ok(Candidate { leads, task })
}
