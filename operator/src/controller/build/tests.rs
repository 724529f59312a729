#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod effects;
#[allow(
    dead_code,
    reason = "the sweep on a real API server looks at more of a change"
)]
mod fields;
mod former;
mod inputs;
mod migrations;
mod pod_templates;
mod policies;

use clickstream_protocol::annotations::CONFIG_HASH;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, PodSpec, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    controller::{
        allowed::Allowed,
        validate::{FetchedSecrets, validate},
    },
    crd::ClickstreamPipeline,
    settings::{Network, Scraping},
};

const MINIMAL: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: { name: shop, namespace: web }
spec:
  kafka: { bootstrapServers: 'kafka:9092' }
  targets: [{ connection: { secret: { name: postgres } } }]
  producer: { enabled: true }
";

fn settings() -> Settings {
    Settings {
        processor_image: "processor:1".to_owned(),
        producer_image: "producer:1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secrets: vec!["registry".to_owned()],
        cluster: "cluster".to_owned(),
        installation: None,
        network_policy: Some(Network::default().or_operator_in(Some("system"))),
        pod_monitor: Some(Scraping::default()),
        guarding: None,
        tracing: Vec::new(),
        allowed: Allowed::default(),
    }
}

fn secrets(password: &str) -> FetchedSecrets {
    let data = [("password".to_owned(), password.as_bytes().to_vec())];
    FetchedSecrets([("postgres".to_owned(), Some(data.into()))].into())
}

fn pipeline(change: impl FnOnce(&mut Value)) -> ValidatedPipeline {
    with_password("secret", change)
}

fn with_password(password: &str, change: impl FnOnce(&mut Value)) -> ValidatedPipeline {
    let mut document: Value = serde_yaml::from_str(MINIMAL).unwrap();
    change(&mut document);
    let resource: ClickstreamPipeline = serde_json::from_value(document).unwrap();
    let valid = validate(&resource).unwrap_or_else(|problems| panic!("{problems:?}"));
    valid.with_values(secrets(password))
}

impl Deployed {
    /// With the Deployment at the end.
    fn all(self) -> impl Iterator<Item = Child> {
        self.around.into_iter().chain([self.deployment])
    }
}

fn children(pipeline: &ValidatedPipeline) -> Vec<Child> {
    let target_spec = &pipeline.document.spec.targets[0];
    let processors = target(pipeline, target_spec, &settings(), &[]);
    let producer = producer(pipeline, &settings()).into_iter();
    let migration = migration(pipeline, target_spec, &settings(), 0);
    let running = processors.all().chain(producer.flat_map(Deployed::all));
    running.chain(migration).collect()
}

fn pod_specs(children: &[Child]) -> Vec<PodSpec> {
    children
        .iter()
        .filter(|child| matches!(child.kind, Kind::Deployment | Kind::Job))
        .map(|child| {
            serde_json::from_value(child.body["spec"]["template"]["spec"].clone()).unwrap()
        })
        .collect()
}

fn hash(pipeline: &ValidatedPipeline) -> Value {
    let deployment = target(
        pipeline,
        &pipeline.document.spec.targets[0],
        &settings(),
        &[],
    )
    .deployment;
    deployment.body["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH].clone()
}

/// Reading a child as Kubernetes' own type and writing it again loses nothing: every field is one
/// that Kubernetes knows.
fn is_whole<T: DeserializeOwned + serde::Serialize>(child: &Child) {
    let read: T = serde_json::from_value(child.body.clone()).unwrap();
    let mut written = serde_json::to_value(read).unwrap();
    if let Some(written) = written.as_object_mut() {
        written.remove("apiVersion");
        written.remove("kind");
    }
    assert_eq!(written, child.body, "{:?}", child.kind);
}

#[test]
fn every_child_is_what_kubernetes_knows_under_its_kind() {
    for child in children(&pipeline(|_| {})) {
        match child.kind {
            Kind::ServiceAccount => is_whole::<ServiceAccount>(&child),
            Kind::ConfigMap => is_whole::<ConfigMap>(&child),
            Kind::Service => is_whole::<Service>(&child),
            Kind::PodDisruptionBudget => is_whole::<PodDisruptionBudget>(&child),
            Kind::NetworkPolicy => is_whole::<NetworkPolicy>(&child),
            Kind::Job => is_whole::<Job>(&child),
            Kind::Deployment => is_whole::<Deployment>(&child),
            Kind::PodMonitor => {}
        }
    }
}

#[test]
fn no_pod_has_a_token_a_privilege_or_a_writable_root() {
    let specs = pod_specs(&children(&pipeline(|_| {})));
    assert_eq!(specs.len(), 3);
    for spec in specs {
        assert_eq!(spec.automount_service_account_token, Some(false));
        let pod = spec.security_context.unwrap();
        assert_eq!(pod.run_as_non_root, Some(true));
        // platforms that give each namespace its users refuse a pod that chooses one
        assert_eq!(
            (pod.run_as_user, pod.run_as_group, pod.fs_group),
            (None, None, None)
        );
        for secret in spec
            .volumes
            .into_iter()
            .flatten()
            .filter_map(|of| of.secret)
        {
            assert_eq!(
                secret.default_mode,
                Some(0o444),
                "whoever the pod runs as reads it"
            );
        }
        assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
        let container = spec.containers[0].security_context.clone().unwrap();
        assert_eq!(container.read_only_root_filesystem, Some(true));
        assert_eq!(container.allow_privilege_escalation, Some(false));
        assert_eq!(
            container.capabilities.unwrap().drop,
            Some(vec!["ALL".to_owned()])
        );
    }
}

#[test]
fn secrets_are_mounted_key_by_key_and_only_where_they_are_read() {
    let children = children(&pipeline(|document| {
        document["spec"]["kafka"]["tls"] = json!({ "caSecret": { "name": "kafka-ca" } });
    }));
    let mounted = |component: &str| {
        let child = children
            .iter()
            .find(|child| {
                matches!(child.kind, Kind::Deployment | Kind::Job)
                    && child.body["metadata"]["labels"]["app.kubernetes.io/component"] == component
            })
            .unwrap();
        let spec: PodSpec =
            serde_json::from_value(child.body["spec"]["template"]["spec"].clone()).unwrap();
        let mut names: Vec<_> = spec
            .volumes
            .unwrap()
            .into_iter()
            .filter_map(|volume| volume.secret)
            .map(|secret| (secret.secret_name.unwrap(), secret.items.unwrap().len()))
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        mounted("processor"),
        [("kafka-ca".to_owned(), 1), ("postgres".to_owned(), 6)]
    );
    assert_eq!(mounted("producer"), [("kafka-ca".to_owned(), 1)]);
    assert_eq!(mounted("migration"), [("postgres".to_owned(), 6)]);
}

#[test]
fn no_secret_value_is_in_any_child() {
    let text = format!("{:?}", children(&with_password("hunter2-hunter2", |_| {})));
    assert!(!text.contains("hunter2"));
}

#[test]
fn what_pods_read_at_their_start_rolls_them_and_nothing_else_does() {
    let before = hash(&pipeline(|_| {}));
    let rolling: [(&str, Value); 4] = [
        ("/spec/watermark", json!({ "idleTimeout": "20s" })),
        ("/spec/processor", json!({ "filterMemory": "64Mi" })),
        ("/spec/kafka", json!({ "bootstrapServers": "other:9092" })),
        ("/spec/window", json!({ "size": "5m" })),
    ];
    for (field, value) in rolling {
        let after = hash(&pipeline(|document| {
            document["spec"][field.trim_start_matches("/spec/")] = value.clone();
        }));
        assert_ne!(before, after, "{field} is rolling");
    }
    let live: [(&str, Value); 7] = [
        ("watermark", json!({ "delay": "20s" })),
        ("lateEvents", json!({ "policy": "Drop" })),
        ("processor", json!({ "replicas": 5, "lagTarget": 100 })),
        ("suspend", json!(true)),
        (
            "topics",
            json!([{ "name": "clickstream", "partitions": 12, "retention": "24h" }]),
        ),
        ("deletionPolicy", json!({ "topics": "Delete" })),
        ("producer", json!({ "enabled": true, "rate": 7 })),
    ];
    assert_eq!(
        before,
        hash(&pipeline(
            |document| document["spec"]["targets"][0]["readers"] = json!(["bi"])
        ))
    );
    for (field, value) in live {
        let after = hash(&pipeline(|document| {
            document["spec"][field] = value.clone()
        }));
        assert_eq!(before, after, "{field} is live for processors");
    }
    assert_ne!(
        before,
        hash(&with_password("another", |_| {})),
        "a new password rolls"
    );
}

#[test]
fn the_release_is_another_one_when_a_setting_stands_on_pods() {
    let form = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        form_of_pods(&settings)
    };
    let before = form(&|_| {});
    assert_eq!(before, form(&|_| {}));
    let changes: [&dyn Fn(&mut Settings); 5] = [
        &|settings| settings.processor_image = "processor:2".to_owned(),
        &|settings| settings.producer_image = "producer:2".to_owned(),
        &|settings| settings.image_pull_policy = "Always".to_owned(),
        &|settings| settings.image_pull_secrets.clear(),
        &|settings| {
            settings.tracing = vec![(
                "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
                "http://c".to_owned(),
            )]
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        assert_ne!(before, form(change), "change {index}");
    }
    assert_eq!(before, form(&|settings| settings.network_policy = None));
}

#[test]
fn processors_keep_off_each_others_hosts_and_zones_where_nobody_says_otherwise() {
    let pod = |change: Value| {
        let pipeline = pipeline(|document| document["spec"]["processor"] = change);
        let target_spec = &pipeline.document.spec.targets[0];
        let deployment = target(&pipeline, target_spec, &settings(), &[]).deployment;
        let labels = deployment.body["spec"]["template"]["metadata"]["labels"].clone();
        let spec = deployment.body["spec"]["template"]["spec"].clone();
        (serde_json::from_value::<PodSpec>(spec).unwrap(), labels)
    };
    let (spec, labels) = pod(json!({}));
    let hosts = spec.topology_spread_constraints.unwrap().remove(0);
    assert_eq!(hosts.topology_key, "kubernetes.io/hostname");
    assert_eq!(hosts.when_unsatisfiable, "ScheduleAnyway");
    let affinity = spec.affinity.unwrap();
    assert_eq!(affinity.node_affinity, None);
    let apart = affinity.pod_anti_affinity.unwrap();
    assert_eq!(
        apart.required_during_scheduling_ignored_during_execution,
        None
    );
    let zones = apart
        .preferred_during_scheduling_ignored_during_execution
        .unwrap()
        .remove(0)
        .pod_affinity_term;
    assert_eq!(zones.topology_key, "topology.kubernetes.io/zone");
    for selector in [hosts.label_selector, zones.label_selector] {
        let wanted = selector.unwrap().match_labels.unwrap();
        assert!(wanted.iter().all(|(key, value)| labels[key] == *value));
        assert!(wanted.contains_key("clickstream.dev/target"));
    }
    let own =
        json!([{ "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" }]);
    let (spec, _) = pod(json!({ "topologySpreadConstraints": own }));
    assert_eq!(json!(spec.topology_spread_constraints), own);
    assert_eq!(spec.affinity, None);
    let (spec, _) = pod(json!({ "affinity": { "nodeAffinity": {} } }));
    assert_eq!(spec.topology_spread_constraints, None);
}

#[test]
fn suspended_means_no_pods_and_the_same_template() {
    let pipeline = pipeline(|document| document["spec"]["suspend"] = json!(true));
    for child in children(&pipeline)
        .iter()
        .filter(|child| child.kind == Kind::Deployment)
    {
        assert_eq!(child.body["spec"]["replicas"], 0);
    }
}

#[test]
fn selectors_name_labels_that_the_pods_have() {
    for child in children(&pipeline(|_| {})) {
        if child.kind != Kind::Deployment {
            continue;
        }
        let labels = &child.body["spec"]["template"]["metadata"]["labels"];
        let selected = child.body["spec"]["selector"]["matchLabels"]
            .as_object()
            .unwrap();
        assert!(selected.iter().all(|(key, value)| &labels[key] == value));
    }
}

#[test]
fn what_pods_are_given_is_a_document_that_they_accept() {
    for child in children(&pipeline(|document| {
        document["spec"]["processor"] = json!({
            "affinity": { "podAntiAffinity": {} }, "nodeSelector": { "disk": "ssd" },
            "resources": { "limits": { "memory": "1Gi" } }, "replicas": 7,
        });
    })) {
        if child.kind == Kind::ConfigMap {
            let text = child.body["data"]["pipeline.yaml"].as_str().unwrap();
            let document =
                clickstream_pipeline::spec::ClickstreamPipeline::from_yaml(text).unwrap();
            document.validate().unwrap();
            assert!(!text.contains("ssd") && !text.contains("1Gi"), "{text}");
        }
    }
}

#[test]
fn pods_that_run_say_where_they_are_from_when_their_spans_go_somewhere() {
    let pipeline = pipeline(|_| ());
    let mut settings = settings();
    let collector = "http://collector:4318";
    settings.tracing = vec![
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            collector.to_owned(),
        ),
        ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "env=prod".to_owned()),
    ];
    let target_spec = &pipeline.document.spec.targets[0];
    let value = |child: &Child, name: &str| {
        let env = &child.body["spec"]["template"]["spec"]["containers"][0]["env"];
        let found = env.as_array().unwrap().iter().find(|it| it["name"] == name);
        found.map(|it| it["value"].as_str().unwrap_or_default().to_owned())
    };
    let processors = target(&pipeline, target_spec, &settings, &[]).deployment;
    assert_eq!(
        value(&processors, "OTEL_EXPORTER_OTLP_ENDPOINT").as_deref(),
        Some(collector)
    );
    assert_eq!(
        value(&processors, "OTEL_RESOURCE_ATTRIBUTES").unwrap(),
        format!(
            "env=prod,k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),clickstream.pipeline=shop,clickstream.target={}",
            target_spec.name
        )
    );
    let producer = producer(&pipeline, &settings).unwrap().deployment;
    assert_eq!(producer.kind, Kind::Deployment);
    assert!(value(&producer, "OTEL_EXPORTER_OTLP_ENDPOINT").is_some());
    // a Job cannot be changed, and makes no spans
    let job = migration(&pipeline, target_spec, &settings, 0)
        .pop()
        .unwrap();
    assert_eq!(value(&job, "OTEL_EXPORTER_OTLP_ENDPOINT"), None);
}
