//! What the operator was told about the cluster's network.

use std::collections::BTreeMap;

use clickstream_protocol::labels;
use k8s_openapi::{
    api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::Deserialize;

/// What the operator was told about the cluster's network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Who may ask the admin port: the operator, the console, a Prometheus.
    pub from: Vec<NetworkPolicyPeer>,
    /// Where brokers are; none: anywhere, at their ports.
    pub kafka: Vec<NetworkPolicyPeer>,
    /// Where databases are; none: anywhere, at their ports.
    pub postgres: Vec<NetworkPolicyPeer>,
    /// Where Collectors of traces are; none: where the address that pods are given says, and
    /// anywhere if it does not.
    pub collector: Vec<NetworkPolicyPeer>,
    /// What every pod may reach besides.
    pub egress: Vec<NetworkPolicyEgressRule>,
}

impl Network {
    /// With the operators of this namespace among those who may ask, where nobody else is named.
    #[must_use]
    pub fn or_operator_in(mut self, namespace: Option<&str>) -> Self {
        let selector = |wanted: &[(&str, &str)]| {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            Some(LabelSelector {
                match_labels: Some(wanted.iter().map(own).collect::<BTreeMap<_, _>>()),
                match_expressions: None,
            })
        };
        if let (true, Some(namespace)) = (self.from.is_empty(), namespace) {
            self.from.push(NetworkPolicyPeer {
                namespace_selector: selector(&[("kubernetes.io/metadata.name", namespace)]),
                pod_selector: selector(&[
                    (labels::COMPONENT, "operator"),
                    (labels::PART_OF, labels::CLICKSTREAM),
                ]),
                ip_block: None,
            });
        }
        self
    }
}
