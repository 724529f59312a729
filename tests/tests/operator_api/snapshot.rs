//! Everything in a test's namespace at an instant: by version, to see that nobody writes, and by
//! content, to compare.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage};

/// Whatever the operator writes: children, the resource itself, and Events.
const KINDS: [(&str, &str, &str, &str); 10] = [
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Service", "services"),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    ),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
    ),
    ("batch", "v1", "Job", "jobs"),
    ("apps", "v1", "Deployment", "deployments"),
    (
        "clickstream.dev",
        "v1alpha1",
        "ClickstreamPipeline",
        "clickstreampipelines",
    ),
    ("events.k8s.io", "v1", "Event", "events"),
    ("", "v1", "Pod", "pods"),
];

fn api(
    stage: &Stage,
    (group, version, kind, plural): (&str, &str, &str, &str),
) -> Api<DynamicObject> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource)
}

/// The version of every object, by kind and name.
pub async fn versions(stage: &Stage) -> anyhow::Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for kind in KINDS {
        let api = api(stage, kind);
        for object in api.list_metadata(&ListParams::default()).await? {
            versions.insert(
                format!("{}/{}", kind.2, object.name_any()),
                object.resource_version().unwrap_or_default(),
            );
        }
    }
    Ok(versions)
}

/// Waits until nothing in the namespace has changed for this long.
pub async fn at_rest(stage: &Stage, long: Duration) -> anyhow::Result<BTreeMap<String, String>> {
    let begun = Instant::now();
    let mut last = (versions(stage).await?, Instant::now());
    while last.1.elapsed() < long {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = versions(stage).await?;
        if now != last.0 {
            anyhow::ensure!(
                begun.elapsed() < PATIENCE,
                "no rest: {:#?}",
                differences(&last.0, &now)
            );
            last = (now, Instant::now());
        }
    }
    Ok(last.0)
}

/// What differs between two snapshots.
pub fn differences<T: PartialEq + std::fmt::Debug>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in before {
        match after.get(key) {
            None => found.push(format!("{key} is gone")),
            Some(now) if now != value => found.push(format!("{key}: {value:?} -> {now:?}")),
            Some(_) => {}
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        found.push(format!("{key} is new"));
    }
    found
}

/// The children of a pipeline by kind and name, without what differs between two that are the same.
pub async fn children(stage: &Stage, pipeline: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut all = children_of_all(stage).await?;
    Ok(all.remove(pipeline).unwrap_or_default())
}

/// The same of every pipeline, by its name.
pub async fn children_of_all(
    stage: &Stage,
) -> anyhow::Result<BTreeMap<String, BTreeMap<String, Value>>> {
    let mut found: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for kind in &KINDS[..7] {
        for object in api(stage, *kind).list(&ListParams::default()).await? {
            if let Some(pipeline) = object.labels().get("clickstream.dev/pipeline") {
                let key = format!("{}/{}", kind.2, object.name_any());
                let children = found.entry(pipeline.clone()).or_default();
                children.insert(key, stripped(&object));
            }
        }
    }
    Ok(found)
}

fn stripped(object: &DynamicObject) -> Value {
    let owners: Vec<_> = object
        .owner_references()
        .iter()
        .map(|owner| json!([owner.kind, owner.name, owner.controller]))
        .collect();
    let mut data = object.data.clone();
    if let Some(fields) = data.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = data.get_mut("spec").and_then(Value::as_object_mut) {
        // given by the API server, anew for each
        for field in ["clusterIP", "clusterIPs", "selector"] {
            spec.remove(field);
        }
    }
    for pointer in ["/spec/template/metadata/labels"] {
        if let Some(labels) = data.pointer_mut(pointer).and_then(Value::as_object_mut) {
            labels.retain(|key, _| !key.contains("controller-uid"));
        }
    }
    json!({
        "labels": object.labels(),
        "annotations": object.annotations().iter().filter(|(key, _)| !key.starts_with("deployment.kubernetes.io/")).collect::<BTreeMap<_, _>>(),
        "owners": owners,
        "data": data,
    })
}
