use clickstream_operator::crd::{ClickstreamPipeline, ClickstreamPipelineStatus, PodOptions};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::cel::validate_cel;

use super::*;

fn stored(document: &Value) -> ClickstreamPipeline {
    let mut document = document.clone();
    document["metadata"]["uid"] = json!("0-1");
    document["metadata"]["resourceVersion"] = json!("7");
    serde_json::from_value(document).unwrap()
}

#[test]
fn what_the_api_stores_is_the_document_that_the_processors_read() {
    let pipeline = stored(&full());
    let mut expected = spec::ClickstreamPipeline::from_yaml(FULL).unwrap();
    expected.metadata.labels.clear();
    expected.metadata.annotations.clear();
    assert_eq!(pipeline.document(), expected);
    let mut bare = minimal();
    bare["metadata"] = json!({ "name": "demo" });
    assert_eq!(stored(&bare).document().metadata.namespace, "default");
}

#[test]
fn a_label_changes_nothing_in_the_document() {
    let mut labelled = minimal();
    labelled["metadata"]["labels"] = json!({ "team": "web" });
    labelled["metadata"]["annotations"] = json!({ "note": "x" });
    assert_eq!(stored(&labelled).document(), stored(&minimal()).document());
}

#[test]
fn a_new_object_has_the_type_it_is_known_by() {
    let pipeline = stored(&minimal());
    let new = ClickstreamPipeline::new("demo", pipeline.spec);
    let written = serde_json::to_value(&new).unwrap();
    assert_eq!(
        (&written["apiVersion"], &written["kind"]),
        (&minimal()["apiVersion"], &minimal()["kind"])
    );
    assert_eq!(written["metadata"], json!({ "name": "demo" }));
    assert!(written.get("status").is_none());
}

#[test]
fn what_is_not_known_is_absent_from_the_status() {
    let written = serde_json::to_value(ClickstreamPipelineStatus::default()).unwrap();
    assert_eq!(written, json!({}));
    let partial = json!({ "targets": [{ "name": "default", "consumed": 0 }], "topics": [{ "name": "clicks" }] });
    let read: ClickstreamPipelineStatus = serde_json::from_value(partial.clone()).unwrap();
    assert_eq!(
        (read.targets[0].consumed, read.targets[0].lag),
        (Some(0), None)
    );
    assert_eq!(serde_json::to_value(&read).unwrap(), partial);
}

#[test]
fn a_status_of_another_release_is_read_all_the_same() {
    let later = json!({ "observedGeneration": 1, "targets": [{ "name": "a", "novelty": {} }], "novelty": 1 });
    let read: ClickstreamPipelineStatus = serde_json::from_value(later).unwrap();
    assert_eq!(read.observed_generation, Some(1));
}

#[test]
fn the_settings_of_pods_become_kubernetes_own_types() {
    let pipeline = stored(&full());
    let places = pipeline.spec.places_of_pods();
    let options: Vec<_> = places
        .iter()
        .map(|(path, said)| (path.as_str(), PodOptions::try_from(said).unwrap()))
        .collect();
    let of = |place: &str| {
        let found = options.iter().find(|(path, _)| *path == place);
        found.unwrap().1.clone()
    };
    let common = of("spec.podTemplate");
    assert_eq!(common.security_context.unwrap().run_as_user, Some(1000));
    assert_eq!(common.env.len(), 5);
    assert!(common.volumes[2].projected.is_some());
    let migration = of("spec.targets[0].migration.podTemplate");
    assert_eq!(migration.host_aliases[0].ip, "10.0.0.4");
    let pod = of("spec.processor");
    let resources = pod.resources.unwrap();
    assert_eq!(
        resources.requests.unwrap()["cpu"],
        Quantity("500m".to_owned())
    );
    // a number is a quantity, too
    assert_eq!(resources.limits.unwrap()["cpu"], Quantity("2".to_owned()));
    assert_eq!(pod.labels["example.com/cost-center"], "web");
    assert_eq!(pod.tolerations[0].key.as_deref(), Some("spot"));
    assert!(pod.affinity.unwrap().node_affinity.is_some());
    assert_eq!(pod.topology_spread_constraints[0].max_skew, 1);
    assert_eq!(pod.image_pull_secrets[1].name, "mirror");
    let none = PodOptions::try_from(&stored(&minimal()).spec.producer_pod()).unwrap();
    assert_eq!(none, PodOptions::default());
}

#[test]
fn a_value_that_no_pod_takes_is_named_by_its_field() {
    let refused = |field: &str, value: Value| {
        let mut document = minimal();
        document["spec"]["processor"] = json!({ field: value });
        PodOptions::try_from(&stored(&document).spec.processor_pod())
            .unwrap_err()
            .field
    };
    assert_eq!(
        refused("affinity", json!({ "nodeAffinity": 1 })),
        "affinity"
    );
    assert_eq!(
        refused("tolerations", json!([{ "tolerationSeconds": "1" }])),
        "tolerations"
    );
    assert_eq!(
        refused("topologySpreadConstraints", json!([{ "maxSkew": "a" }])),
        "topologySpreadConstraints"
    );
    assert_eq!(
        refused("resources", json!({ "limits": { "cpu": true } })),
        "resources.limits"
    );
    assert_eq!(
        refused("resources", json!({ "requests": { "cpu": [] } })),
        "resources.requests"
    );
}

#[test]
fn the_rules_can_be_asked_without_an_api_server() {
    let mut pipeline = stored(&full());
    assert_eq!(validate_cel(&pipeline), Ok(()));
    pipeline.spec.window.size = "7s".parse().unwrap();
    let errors = validate_cel(&pipeline).unwrap_err();
    assert_eq!(errors[0].field_path, "spec.window.size");
    assert!(
        errors[0].message.contains("choose a divisor of 24h"),
        "{errors}"
    );
}
