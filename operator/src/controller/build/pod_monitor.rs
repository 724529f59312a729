//! Where the Prometheus operator finds the pods.

use serde_json::{Map, Value, json};

use super::{
    Child, Kind,
    labels::{PIPELINE_LABEL, TARGET_LABEL, selector_of},
    pod::ADMIN_PORT_NAME,
};
use crate::settings::Scraping;

/// Scrapes every pod. Pipeline and target become the labels `pipeline` and `target` of the series,
/// beside `namespace` and `pod`, which the Prometheus operator sets: dashboards and alerts go by
/// these four.
pub fn of(name: &str, labels: &Map<String, Value>, scraping: &Scraping) -> Child {
    let relabelings: Vec<Value> = [(PIPELINE_LABEL, "pipeline"), (TARGET_LABEL, "target")]
        .into_iter()
        .filter(|(label, _)| labels.contains_key(*label))
        .map(
            |(label, series)| json!({ "sourceLabels": [discovered(label)], "targetLabel": series }),
        )
        .collect();
    let mut endpoint = json!({
        "port": ADMIN_PORT_NAME,
        "path": "/metrics",
        "relabelings": relabelings,
    });
    if let Some(interval) = &scraping.interval {
        endpoint["interval"] = json!(interval);
    }
    // ours win: children are found by them
    let mut all: Map<String, Value> = scraping
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    all.extend(labels.clone());
    Child {
        kind: Kind::PodMonitor,
        name: name.to_owned(),
        body: json!({
            "metadata": { "labels": all },
            "spec": {
                "selector": { "matchLabels": selector_of(labels) },
                "podMetricsEndpoints": [endpoint],
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
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn series_of_a_target_carry_its_name_and_its_pipelines() {
        let labels = Map::from_iter([
            (PIPELINE_LABEL.to_owned(), json!("web")),
            (TARGET_LABEL.to_owned(), json!("warehouse")),
        ]);
        assert_eq!(
            of("web-warehouse", &labels, &Scraping::default()).body["spec"]["podMetricsEndpoints"]
                [0]["relabelings"],
            json!([
                { "sourceLabels": ["__meta_kubernetes_pod_label_clickstream_dev_pipeline"], "targetLabel": "pipeline" },
                { "sourceLabels": ["__meta_kubernetes_pod_label_clickstream_dev_target"], "targetLabel": "target" },
            ])
        );
    }

    #[test]
    fn series_of_a_producer_have_no_target() {
        let labels = Map::from_iter([(PIPELINE_LABEL.to_owned(), json!("web"))]);
        let body = of("web-producer", &labels, &Scraping::default()).body;
        let endpoint = &body["spec"]["podMetricsEndpoints"][0];
        assert_eq!(endpoint["relabelings"].as_array().map(Vec::len), Some(1));
        assert!(endpoint["interval"].is_null(), "{endpoint}");
    }

    #[test]
    fn it_has_the_labels_that_prometheus_selects_and_keeps_its_own() {
        let labels = Map::from_iter([(PIPELINE_LABEL.to_owned(), json!("web"))]);
        let chosen = [
            "release=prometheus".to_owned(),
            format!("{PIPELINE_LABEL}=other"),
        ];
        let scraping = Scraping::new(&chosen, Some("15s")).unwrap();
        let body = of("web-producer", &labels, &scraping).body;
        assert_eq!(
            body["metadata"]["labels"],
            json!({ "release": "prometheus", PIPELINE_LABEL: "web" })
        );
        // a label for Prometheus is on no pod
        assert_eq!(
            body["spec"]["selector"]["matchLabels"],
            json!({ PIPELINE_LABEL: "web" })
        );
        assert_eq!(body["spec"]["podMetricsEndpoints"][0]["interval"], "15s");
    }

    #[test]
    fn what_is_no_label_and_no_time_is_refused_at_the_start() {
        for interval in ["15s", "1m30s", "500ms", "1h"] {
            assert!(Scraping::new(&[], Some(interval)).is_ok(), "{interval}");
        }
        for interval in ["15", "s", "often", "1d", "15s "] {
            assert!(Scraping::new(&[], Some(interval)).is_err(), "{interval}");
        }
        assert_eq!(
            Scraping::new(&[], Some("")).unwrap(),
            Scraping::default(),
            "an empty variable"
        );
        for label in ["release", "=prometheus"] {
            assert!(Scraping::new(&[label.to_owned()], None).is_err(), "{label}");
        }
    }
}
