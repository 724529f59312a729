//! Where the Prometheus operator finds the pods.

use serde_json::{Map, Value, json};

use super::{
    Child, Kind,
    labels::{PIPELINE_LABEL, TARGET_LABEL, selector_of},
    pod::ADMIN_PORT_NAME,
};

/// Scrapes every pod; pipeline and target become labels of the series.
pub fn of(name: &str, labels: &Map<String, Value>) -> Child {
    Child {
        kind: Kind::PodMonitor,
        name: name.to_owned(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "selector": { "matchLabels": selector_of(labels) },
                "podTargetLabels": [PIPELINE_LABEL, TARGET_LABEL],
                "podMetricsEndpoints": [{ "port": ADMIN_PORT_NAME, "path": "/metrics" }],
            },
        }),
    }
}
