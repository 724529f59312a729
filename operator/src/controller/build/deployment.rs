//! The processors of a target.

use clickstream_pipeline::spec::{Bytes, PipelineSpec, TargetSpec};
use clickstream_protocol::annotations::{CONFIG_HASH, RESTART_AT};
use serde_json::{Map, Value, json};

use super::{
    Child, Kind,
    config_map::Given,
    labels, names,
    pod::{PodParts, template},
    tracing,
};
use crate::{controller::validate::ValidatedPipeline, settings::Settings};

/// Where a pod knows the zone of its node.
const ZONE_OF_POD: &str = "metadata.labels['topology.kubernetes.io/zone']";

/// The Deployment. A new pod joins before an old one leaves (`maxSurge: 1`), so partitions move
/// twice at most and wait for nobody; an old one commits what it has read and gives its partitions
/// back before it ends.
pub fn of_target(
    pipeline: &ValidatedPipeline,
    target: &TargetSpec,
    settings: &Settings,
    given: &Given,
) -> Child {
    let spec = &pipeline.document.spec;
    let name = names::child(&pipeline.name, &[&target.name]);
    let labels = labels::of(pipeline, "processor", Some(&target.name));
    let secrets = spec
        .kafka
        .secret_keys()
        .and(target.connection.secret_keys());
    let hash = pipeline.hash_of(&given.at_start, &secrets);
    let pod = spec.processor_pod();
    let mut template = template(
        PodParts {
            container: "processor",
            image: pipeline.processor_image(settings),
            args: vec!["run".to_owned()],
            env: [vec![
                json!({ "name": "CLICKSTREAM_TARGET", "value": target.name }),
                json!({ "name": "CLICKSTREAM_CLUSTER", "value": settings.cluster }),
                json!({
                    "name": "CLICKSTREAM_PROCESSOR_NAME",
                    "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } },
                }),
                // the node's, which Kubernetes gives to its pods (from 1.35 on); empty where it
                // does not
                json!({
                    "name": "CLICKSTREAM_RACK",
                    "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": ZONE_OF_POD } },
                }),
            ], tracing::env(settings, &labels, &pod.template.env)].concat(),
            default_resources: default_resources(spec),
            served: true,
            service_account: Some(&name),
            config_map: &given.config.name,
            document: given.read,
            secrets: &secrets,
            settings: pod,
            labels: &labels,
            annotations: rolled_by(pipeline, &hash),
            ends: false,
            // longer than the flush in flight may take before partitions are given back
            extra: json!({ "terminationGracePeriodSeconds": 45 }),
        },
        settings,
    );
    spread(&mut template["spec"], &labels);
    Child {
        kind: Kind::Deployment,
        name: name.clone(),
        body: json!({
            "metadata": { "labels": labels },
            "spec": {
                "replicas": replicas(spec, target),
                "revisionHistoryLimit": 3,
                "selector": { "matchLabels": labels::selector_of(&labels) },
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
                "template": template,
            },
        }),
    }
}

/// How many processors a target is to have.
pub fn replicas(spec: &PipelineSpec, target: &TargetSpec) -> u32 {
    if spec.suspend {
        0
    } else {
        spec.replicas_of(target)
    }
}

/// What rolls pods: what they read at their start, and a person who asked for it.
pub fn rolled_by(pipeline: &ValidatedPipeline, hash: &str) -> Map<String, Value> {
    let mut annotations = Map::from_iter([(CONFIG_HASH.to_owned(), json!(hash))]);
    if let Some(at) = &pipeline.asked.restart_at {
        annotations.insert(RESTART_AT.to_owned(), json!(at));
    }
    annotations
}

/// Processors keep off each other's hosts and zones, of each version by itself, where nobody says
/// anything about it. What is only preferred keeps no pod from running. Zones are no constraint of
/// their own: nodes without that label, as all are in many clusters, would then be passed over for
/// hosts as well.
fn spread(pod: &mut Value, labels: &Map<String, Value>) {
    let is_said = |field: &str| !pod[field].is_null();
    if is_said("affinity") || is_said("topologySpreadConstraints") {
        return;
    }
    let selector = json!({ "matchLabels": labels::selector_of(labels) });
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": selector,
        "matchLabelKeys": ["pod-template-hash"],
    }]);
    pod["affinity"] = json!({ "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "topology.kubernetes.io/zone",
                "labelSelector": selector,
                "matchLabelKeys": ["pod-template-hash"],
            },
        }],
    } });
}

/// Requests that fit a pipeline at rest and one with a backlog: the filter, three flushes (one
/// grows, one is encoded, one is written) with their rows about three times as large in memory, and
/// 48 MiB for everything else. Only memory has a limit, twice the request: a processor that may use
/// idle CPU works a backlog off sooner and harms nobody.
fn default_resources(spec: &PipelineSpec) -> Value {
    let mebibytes = |bytes: Bytes| bytes.get().div_ceil(1 << 20);
    let request = 48
        + mebibytes(spec.processor.filter_memory)
        + 3 * 2 * mebibytes(spec.processor.flush.max_bytes);
    json!({
        "requests": { "cpu": "100m", "memory": format!("{request}Mi") },
        "limits": { "memory": format!("{}Mi", 2 * request) },
    })
}
