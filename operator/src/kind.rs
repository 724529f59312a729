//! Kinds of what the operator makes.

/// Kinds of children, in the order in which they are applied: what a pod mounts comes before the
/// pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The pods' identity, without a token.
    ServiceAccount,
    /// The document that the pods read.
    ConfigMap,
    /// Names the pods for scraping.
    Service,
    /// One processor at a time leaves by its own will.
    PodDisruptionBudget,
    /// Who may ask the pods.
    NetworkPolicy,
    /// Where Prometheus finds the pods.
    PodMonitor,
    /// A migration.
    Job,
    /// Processors or producer.
    Deployment,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::PodMonitor,
        Self::Job,
        Self::Deployment,
    ];

    /// How the API calls it.
    pub const fn names(self) -> Names {
        let (group, version, kind, plural) = match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::PodDisruptionBudget => (
                "policy",
                "v1",
                "PodDisruptionBudget",
                "poddisruptionbudgets",
            ),
            Self::NetworkPolicy => (
                "networking.k8s.io",
                "v1",
                "NetworkPolicy",
                "networkpolicies",
            ),
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
        };
        Names {
            group,
            version,
            kind,
            plural,
        }
    }
}

/// How the API calls a kind.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Its group; empty: the first one, which has no name.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The kind itself.
    pub kind: &'static str,
    /// What its objects are called in addresses.
    pub plural: &'static str,
}

impl Names {
    /// Group and version, as objects name them.
    pub fn api_version(self) -> String {
        if self.group.is_empty() {
            return self.version.to_owned();
        }
        format!("{}/{}", self.group, self.version)
    }
}
