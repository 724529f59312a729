//! Where the Prometheus operator finds the pods.

use serde_json::{Map, Value, json};

use super::{
    Child, Kind,
    labels::{PIPELINE_LABEL, TARGET_LABEL, selector_of},
    pod::ADMIN_PORT_NAME,
};

/// Scrapes every pod. Pipeline and target become the labels `pipeline` and `target` of the series, beside `namespace`
/// and `pod`, which the Prometheus operator sets: dashboards and alerts go by these four.
pub fn of(name: &str, labels: &Map<String, Value>) -> Child {
    let relabelings: Vec<Value> = [(PIPELINE_LABEL, "pipeline"), (TARGET_LABEL, "target")]
        .into_iter()
        .filter(|(label, _)| labels.contains_key(*label))
        .map(
            |(label, series)| json!({ "sourceLabels": [discovered(label)], "targetLabel": series }),
        )
        .collect();
    Child {
        kind: Kind::PodMonitor,
        name: name.to_owned(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "selector": { "matchLabels": selector_of(labels) },
                "podMetricsEndpoints": [{
                    "port": ADMIN_PORT_NAME,
                    "path": "/metrics",
                    "relabelings": relabelings,
                }],
            },
        }),
    }
}

/// Prometheus' name for a pod's label: what no label of a series may hold becomes `_`.
fn discovered(label: &str) -> String {
    format!(
        "__meta_kubernetes_pod_label_{}",
        label.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_target_carry_its_name_and_its_pipelines() {
        let labels = Map::from_iter([
            (PIPELINE_LABEL.to_owned(), json!("web")),
            (TARGET_LABEL.to_owned(), json!("warehouse")),
        ]);
        assert_eq!(
            of("web-warehouse", &labels).body["spec"]["podMetricsEndpoints"][0]["relabelings"],
            json!([
                { "sourceLabels": ["__meta_kubernetes_pod_label_clickstream_dev_pipeline"], "targetLabel": "pipeline" },
                { "sourceLabels": ["__meta_kubernetes_pod_label_clickstream_dev_target"], "targetLabel": "target" },
            ])
        );
    }

    #[test]
    fn series_of_a_producer_have_no_target() {
        let labels = Map::from_iter([(PIPELINE_LABEL.to_owned(), json!("web"))]);
        let body = of("web-producer", &labels).body;
        let relabelings = &body["spec"]["podMetricsEndpoints"][0]["relabelings"];
        assert_eq!(relabelings.as_array().map(Vec::len), Some(1));
    }
}
