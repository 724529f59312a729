//! How pods are found, and how many of them may leave at once.

use serde_json::{Map, Value, json};

use super::{
    Child, Kind,
    labels::selector_of,
    pod::{ADMIN_PORT, ADMIN_PORT_NAME},
};

/// A Service without an address: its name stands for the pods, ready or not, so that all are
/// scraped.
pub fn headless(name: &str, labels: &Map<String, Value>) -> Child {
    Child {
        kind: Kind::Service,
        name: name.to_owned(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": selector_of(labels),
                "ports": [{ "name": ADMIN_PORT_NAME, "port": ADMIN_PORT, "targetPort": ADMIN_PORT_NAME, "protocol": "TCP" }],
            },
        }),
    }
}

/// One processor at a time leaves when nodes are drained; one that is not ready may always go.
pub fn disruption_budget(name: &str, labels: &Map<String, Value>) -> Child {
    Child {
        kind: Kind::PodDisruptionBudget,
        name: name.to_owned(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": { "matchLabels": selector_of(labels) },
            },
        }),
    }
}
