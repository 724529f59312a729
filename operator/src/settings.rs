//! What the operator was started with, as every step may know it.

mod network;
mod scraping;

pub use self::{network::Network, scraping::Scraping};
use crate::controller::allowed::Allowed;
use crate::guarding::Guarding;

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image of processors and migrations, unless a pipeline pins one.
    pub processor_image: String,
    /// Image of the producer, unless a pipeline pins one.
    pub producer_image: String,
    /// `imagePullPolicy` of all pods.
    pub image_pull_policy: String,
    /// Secrets for image registries, added to those of a pipeline.
    pub image_pull_secrets: Vec<String>,
    /// Identity of the cluster in schemas' owner rows: the uid of `kube-system`.
    pub cluster: String,
    /// This installation, by the namespace of its Lease; `None`: one that holds nothing.
    pub installation: Option<String>,
    /// What children's NetworkPolicies allow; `None`: they get none.
    pub network_policy: Option<Network>,
    /// How pods are scraped by a PodMonitor; `None`: they get none.
    pub pod_monitor: Option<Scraping>,
    /// What the admin ports of pods are guarded with; `None`: everybody who reaches them may ask.
    pub guarding: Option<Guarding>,
    /// Variables about traces that processors and producers get.
    pub tracing: Vec<(String, String)>,
    /// What pipelines may name.
    pub allowed: Allowed,
}
