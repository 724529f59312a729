//! Who may ask the pods: only their admin port answers at all.

use serde_json::{Map, Value, json};

use super::{Child, Kind, labels::selector_of, pod::ADMIN_PORT_NAME};

/// Ingress to the admin port only. What pods reach is left open: Kafka and PostgreSQL are wherever the spec says.
pub fn ingress(name: &str, labels: &Map<String, Value>) -> Child {
    Child {
        kind: Kind::NetworkPolicy,
        name: name.to_owned(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "podSelector": { "matchLabels": selector_of(labels) },
                "policyTypes": ["Ingress"],
                "ingress": [{ "ports": [{ "port": ADMIN_PORT_NAME, "protocol": "TCP" }] }],
            },
        }),
    }
}
