use serde_json::json;

use super::problems::{problems, text};
use super::*;

/// Changes processors, then the producer, in one place, and expects a problem there.
macro_rules! refused {
    ($path:expr, $part:ident => $change:expr) => {{
        problems(
            |p| {
                let $part = &mut p.spec.processor;
                $change;
            },
            &[&format!("spec.processor.{}", $path)],
        );
        problems(
            |p| {
                let $part = &mut p.spec.producer;
                $change;
            },
            &[&format!("spec.producer.{}", $path)],
        );
    }};
}

/// A map of as many entries as asked for.
fn entries(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|i| (format!("k{i}"), text("v"))).collect()
}

#[test]
fn both_kinds_of_pods_show_what_the_spec_says_of_them() {
    let mut spec = full().spec;
    // what was said before there were templates
    for template in [
        &mut spec.pod_template,
        &mut spec.processor.pod_template,
        &mut spec.producer.pod_template,
    ] {
        *template = PodTemplateSpec::default();
    }
    let PodSettings {
        resources,
        template: processor,
    } = spec.processor_pod();
    assert_eq!(resources.unwrap().requests["cpu"], json!("500m"));
    assert_eq!(processor.labels["example.com/cost-center"], "web");
    assert_eq!(processor.annotations["example.com/note"], "a b");
    assert_eq!(processor.node_selector["topology.kubernetes.io/zone"], "a");
    assert_eq!(
        processor.tolerations,
        [json!({ "key": "spot", "operator": "Exists" })]
    );
    assert_eq!(processor.affinity, Some(json!({ "nodeAffinity": {} })));
    assert_eq!(processor.topology_spread_constraints[0]["maxSkew"], 1);
    assert_eq!(processor.priority_class_name.as_deref(), Some("high"));
    assert_eq!(processor.image_pull_secrets[1].name, "mirror");
    let PodSettings {
        resources,
        template: producer,
    } = spec.producer_pod();
    assert_eq!(resources.unwrap().limits["memory"], json!("64Mi"));
    assert_eq!(producer.labels["team"], "web");
    assert_eq!(producer.annotations["note"], "c");
    assert_eq!(producer.node_selector["disk"], "ssd");
    assert_eq!(producer.tolerations, [json!({ "operator": "Exists" })]);
    assert_eq!(producer.affinity, Some(json!({ "podAffinity": {} })));
    assert_eq!(producer.topology_spread_constraints[0]["maxSkew"], 2);
    assert_eq!(producer.priority_class_name.as_deref(), Some("low"));
    assert_eq!(producer.image_pull_secrets[0].name, "registry");
    assert_eq!(minimal().spec.processor_pod(), PodSettings::default());
    assert_eq!(minimal().spec.producer_pod(), PodSettings::default());
}

#[test]
fn amounts_are_quantities() {
    let limits = |name: &str, amount: serde_json::Value| ResourcesSpec {
        limits: [(text(name), amount)].into(),
        ..ResourcesSpec::default()
    };
    for amount in [
        json!("1x"),
        json!("-1"),
        json!(""),
        json!("m"),
        json!("1.2.3"),
        json!("1e"),
        json!(-1),
        json!(0.5),
        json!(true),
        json!("1".repeat(33)),
    ] {
        refused!("resources.limits.cpu", part => part.resources = Some(limits("cpu", amount.clone())));
    }
    for amount in [
        json!(2),
        json!("0.5"),
        json!("1e3"),
        json!("100m"),
        json!("+1Gi"),
        json!(".5"),
    ] {
        problems(
            |p| p.spec.processor.resources = Some(limits("cpu", amount)),
            &[],
        );
    }
    refused!("resources.limits.c p u", part => part.resources = Some(limits("c p u", json!(1))));
    refused!("resources.requests", part => part.resources = Some(ResourcesSpec {
        requests: (0..17).map(|i| (format!("r{i}"), json!(1))).collect(),
        ..ResourcesSpec::default()
    }));
}

#[test]
fn labels_and_annotations_are_kubernetes_and_none_of_the_operators() {
    for key in [
        "app.kubernetes.io/name",
        "clickstream.dev/pipeline",
        "",
        "a b",
        "-a",
        "A_/b",
        "a/b/c",
        &"k".repeat(64),
    ] {
        refused!(format!("labels.{key}"), part => part.labels = [(text(key), text("v"))].into());
        refused!(format!("annotations.{key}"), part => part.annotations = [(text(key), text("v"))].into());
    }
    for value in ["a b", "-a", "a.", "ä", &"v".repeat(64)] {
        refused!("labels.k", part => part.labels = [(text("k"), text(value))].into());
        refused!("nodeSelector.k", part => part.node_selector = [(text("k"), text(value))].into());
    }
    let unconfined = "container.apparmor.security.beta.kubernetes.io/processor";
    refused!(format!("annotations.{unconfined}"), part => part.annotations = [(text(unconfined), text("unconfined"))].into());
    refused!("annotations.k", part => part.annotations = [(text("k"), "v".repeat(8193))].into());
    refused!("labels", part => part.labels = entries(33));
    refused!("annotations", part => part.annotations = entries(33));
    refused!("nodeSelector", part => part.node_selector = entries(33));
    problems(
        |p| {
            p.spec.processor.labels = entries(32);
            p.spec.processor.annotations =
                [(text("example.com/K.e_y"), text("any: {text}"))].into();
            p.spec.processor.node_selector = [(text("kubernetes.io/arch"), text("amd64"))].into();
        },
        &[],
    );
}

#[test]
fn what_a_pod_has_as_a_mapping_is_a_mapping() {
    refused!("affinity", part => part.affinity = Some(json!("near")));
    refused!("tolerations[1]", part => part.tolerations = vec![json!({}), json!(1)]);
    refused!("topologySpreadConstraints[0]", part => part.topology_spread_constraints = vec![json!([])]);
    refused!("tolerations", part => part.tolerations = vec![json!({}); 17]);
    refused!("topologySpreadConstraints", part => part.topology_spread_constraints = vec![json!({}); 17]);
}

#[test]
fn names_of_other_resources_are_names() {
    let secrets = |names: &[&str]| -> Vec<PullSecretSpec> {
        names
            .iter()
            .map(|name| PullSecretSpec { name: text(name) })
            .collect()
    };
    refused!("priorityClassName", part => part.priority_class_name = Some(text("High")));
    refused!("imagePullSecrets[0].name", part => part.image_pull_secrets = secrets(&["../a"]));
    refused!("imagePullSecrets[1].name", part => part.image_pull_secrets = secrets(&["a", "a"]));
    let many: Vec<String> = (0..17).map(|i| format!("s{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused!("imagePullSecrets", part => part.image_pull_secrets = secrets(&many));
    problems(
        |p| p.spec.processor.image_pull_secrets = secrets(&many[..16]),
        &[],
    );
}
