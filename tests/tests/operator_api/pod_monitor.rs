//! PodMonitors, where the cluster knows them: by the Prometheus Operator's own definition.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, bail, ensure};
use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{KubeApi, unique_name};
use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    },
};
use serde_json::{Value, json};

use crate::{
    pods::deployment,
    stage::{LOOK, Migrations, PATIENCE, Stage, install},
};

const MODULE: &str = "github.com/prometheus-operator/prometheus-operator@v0.84.0";
const DEFINITION: &str = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml";

/// The definition out of the Prometheus Operator's Go module; `None` where there is no Go to fetch
/// it with, which continuous integration has to have.
fn definition() -> anyhow::Result<Option<CustomResourceDefinition>> {
    let fetched = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .output();
    let told = match fetched {
        Ok(output) if output.status.success() => output.stdout,
        other => {
            let why = format!("{MODULE} cannot be fetched: {other:?}");
            if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
                bail!(why);
            }
            eprintln!("skipped: {why}");
            return Ok(None);
        }
    };
    let told: Value = serde_json::from_slice(&told)?;
    let folder = PathBuf::from(told["Dir"].as_str().context("a module without a folder")?);
    let text = fs::read_to_string(folder.join(DEFINITION))?;
    Ok(Some(serde_yaml::from_str(&text)?))
}

#[tokio::test]
async fn pods_are_scraped_where_the_cluster_knows_pod_monitors() -> anyhow::Result<()> {
    let Some(definition) = definition()? else {
        return Ok(());
    };
    // a server of the test's own: others expect it not to know the kind
    let api = Box::leak(Box::new(KubeApi::start().await?));
    let stage = Stage::on(api, Migrations::Succeed).await?;

    let operator = stage.operator_with(&[
        "--pod-monitor",
        "--pod-monitor-labels",
        "release=prometheus,team=data",
        "--pod-monitor-interval",
        "15s",
    ])?;
    let with_producer = json!({ "producer": { "enabled": true } });
    let topic = unique_name("web");
    stage
        .apply(&stage.pipeline("web", &topic, with_producer))
        .await?;
    let ready = stage.condition("web", "Ready", "True", "").await;
    let ready = ready.map_err(|error| error.context(operator.log_tail()))?;

    // somebody installs the Prometheus Operator later
    install(&stage.client, &definition).await?;
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PodMonitor");
    let monitors: Api<DynamicObject> = Api::namespaced_with(
        stage.client.clone(),
        &stage.namespace,
        &ApiResource::from_gvk(&kind),
    );
    let begun = Instant::now();
    let found = loop {
        let found = monitors.list(&ListParams::default()).await?.items;
        if found.len() == 2 {
            break found;
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "of the processors and of the producer: {found:#?}\n{}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    };
    for monitor in &found {
        // what the definition does not know would be gone
        let endpoint = &monitor.data["spec"]["podMetricsEndpoints"][0];
        ensure!(endpoint["path"] == "/metrics", "{monitor:#?}");
        ensure!(endpoint["interval"] == "15s", "{monitor:#?}");
        let found_by = |key: &str| monitor.labels().get(key).map(String::as_str);
        ensure!(found_by("release") == Some("prometheus"), "{monitor:#?}");
        ensure!(found_by("team") == Some("data"), "{monitor:#?}");
        ensure!(
            endpoint["relabelings"][0]["targetLabel"] == "pipeline",
            "{monitor:#?}"
        );
        let labels = &monitor.data["spec"]["selector"]["matchLabels"];
        ensure!(labels["clickstream.dev/pipeline"] == "web", "{monitor:#?}");
        ensure!(is_controlled_by(monitor, &ready), "{monitor:#?}");
    }

    let versions = |all: &[DynamicObject]| -> Vec<_> {
        all.iter()
            .filter_map(DynamicObject::resource_version)
            .collect()
    };
    let without_producer = json!({ "producer": { "enabled": false } });
    stage
        .apply(&stage.pipeline("web", &topic, without_producer))
        .await?;
    let begun = Instant::now();
    let left = loop {
        let left = monitors.list(&ListParams::default()).await?.items;
        if left.len() == 1 {
            break left;
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "the producer's stays: {left:#?}"
        );
        tokio::time::sleep(LOOK).await;
    };
    stage.condition("web", "Ready", "True", "").await?;
    ensure!(
        versions(&found).contains(&versions(&left)[0]),
        "the processors' PodMonitor was written again: {left:#?}"
    );

    // switched off, as by a change of the chart's values: what was made is taken away
    drop(operator);
    let _operator = stage.operator()?;
    let begun = Instant::now();
    loop {
        let left = monitors.list(&ListParams::default()).await?.items;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "it stays: {left:#?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// How the PodMonitors of a pipeline ask, once there are so many.
async fn endpoints(
    monitors: &Api<DynamicObject>,
    pipeline: &str,
    count: usize,
) -> anyhow::Result<Vec<Value>> {
    let of = ListParams::default().labels(&format!("clickstream.dev/pipeline={pipeline}"));
    let begun = Instant::now();
    loop {
        let found = monitors.list(&of).await?.items;
        if found.len() == count {
            let endpoints = found.iter();
            let endpoints = endpoints.map(|of| of.data["spec"]["podMetricsEndpoints"][0].clone());
            return Ok(endpoints.collect());
        }
        ensure!(begun.elapsed() < PATIENCE, "{pipeline} has {}", found.len());
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn pods_that_wait_their_turn_are_scraped_as_they_are() -> anyhow::Result<()> {
    let Some(definition) = definition()? else {
        return Ok(());
    };
    let api = Box::leak(Box::new(KubeApi::start().await?));
    let mut stage = Stage::on(api, Migrations::Succeed).await?;
    install(&stage.client, &definition).await?;
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PodMonitor");
    let monitors: Api<DynamicObject> = Api::namespaced_with(
        stage.client.clone(),
        &stage.namespace,
        &ApiResource::from_gvk(&kind),
    );
    let operator = stage.operator_with(&["--pod-monitor"])?;
    // the last has a producer as well
    let names = ["one", "other", "pinned"];
    let count = |name: &str| if name == "pinned" { 2 } else { 1 };
    let topic = unique_name("clicks");
    for name in names {
        let changes = match name {
            "pinned" => json!({
                "image": "clickstream/processor:pinned",
                "producer": { "enabled": true, "image": "clickstream/producer:pinned" },
            }),
            _ => json!({}),
        };
        let topic = format!("{topic}_{name}");
        stage.apply(&stage.pipeline(name, &topic, changes)).await?;
    }
    for name in names {
        stage
            .condition(name, "Ready", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        for endpoint in endpoints(&monitors, name, count(name)).await? {
            ensure!(endpoint["scheme"].is_null(), "{name}: {endpoint}");
        }
    }
    operator.kill()?;

    // another release, by which the pods of the pinned one stay as they are
    stage.stop_playing();
    let otherwise = json!({ "metadata": { "labels": {
        "clickstream.dev/release": "0.0.9-another", "clickstream.dev/template-hash": "another",
    } } });
    let deployments = stage.all::<Deployment>();
    for made in stage.children::<Deployment>("pinned", 2).await? {
        let (name, params) = (made.name_any(), PatchParams::default());
        deployments
            .patch(&name, &params, &Patch::Merge(&otherwise))
            .await?;
    }
    let operator = stage.operator_with(&["--pod-monitor", "--pod-monitor-interval", "7s"])?;
    let begun = Instant::now();
    let is_followed = |endpoint: &Value| endpoint["interval"] == "7s";
    let mut pinned = endpoints(&monitors, "pinned", 2).await?;
    while !pinned.iter().all(is_followed) {
        ensure!(begun.elapsed() < PATIENCE, "{}", operator.log_tail());
        tokio::time::sleep(LOOK).await;
        pinned = endpoints(&monitors, "pinned", 2).await?;
    }
    for kept in stage.children::<Deployment>("pinned", 2).await? {
        ensure!(kept.labels()["clickstream.dev/release"] == "0.0.9-another");
    }
    operator.kill()?;

    // nobody brings Deployments up: who has the turn keeps it
    let options = ["--pod-monitor", "--metrics-tls-secret=pods-tls"];
    let operator = stage.operator_with(&options)?;
    let is_guarded = |deployment: &Deployment| {
        json!(deployment)["spec"]["template"]
            .to_string()
            .contains("pods-tls")
    };
    let begun = Instant::now();
    let mut waiting = names.to_vec();
    while waiting.len() == names.len() {
        ensure!(begun.elapsed() < PATIENCE, "{}", operator.log_tail());
        for name in names {
            if is_guarded(&deployment(&stage, name).await?) {
                waiting.retain(|waits| *waits != name);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    for name in &waiting {
        stage
            .condition(name, "DatabaseReady", "True", "Queued")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    for name in names {
        let is_guarded = is_guarded(&deployment(&stage, name).await?);
        for endpoint in endpoints(&monitors, name, count(name)).await? {
            let by_tls = endpoint["scheme"] == "https";
            ensure!(
                by_tls == is_guarded,
                "{name}: pods are guarded: {is_guarded}, and asked by TLS: {by_tls}"
            );
        }
    }
    // one that is deleted meanwhile comes back
    let waits = waiting[0];
    let of = ListParams::default().labels(&format!("clickstream.dev/pipeline={waits}"));
    monitors
        .delete_collection(&DeleteParams::default(), &of)
        .await?;
    endpoints(&monitors, waits, count(waits)).await?;

    stage.play(Migrations::Succeed);
    let begun = Instant::now();
    for name in names {
        let by_tls = |endpoint: &Value| endpoint["scheme"] == "https";
        let mut found = endpoints(&monitors, name, count(name)).await?;
        while !found.iter().all(by_tls) || !is_guarded(&deployment(&stage, name).await?) {
            ensure!(
                begun.elapsed() < PATIENCE * 2,
                "{name}: {}",
                operator.log_tail()
            );
            tokio::time::sleep(LOOK).await;
            found = endpoints(&monitors, name, count(name)).await?;
        }
    }
    // the same holds for pods that stay because the API server refuses their next version
    operator.kill()?;
    let refused = json!({ "podTemplate": { "tolerations": [{ "operator": "Perhaps" }] } });
    let topic = format!("{topic}_one");
    stage.apply(&stage.pipeline("one", &topic, refused)).await?;
    let operator = stage.operator_with(&["--pod-monitor"])?;
    stage
        .condition("one", "Stalled", "True", "ObjectRefused")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    ensure!(is_guarded(&deployment(&stage, "one").await?));
    let [endpoint] = &endpoints(&monitors, "one", 1).await?[..] else {
        unreachable!("one was asked for");
    };
    ensure!(endpoint["scheme"] == "https", "{endpoint}");
    Ok(())
}

fn is_controlled_by(monitor: &DynamicObject, pipeline: &ClickstreamPipeline) -> bool {
    monitor.owner_references().iter().any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) == pipeline.metadata.uid.as_ref()
    })
}
