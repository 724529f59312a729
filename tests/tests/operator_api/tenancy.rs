//! Two installations of the operator that watch one namespace.

use std::time::{Duration, Instant};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{Process, unique_name};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Event};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{
    api_proxy::ApiProxy,
    snapshot::{at_rest, differences},
    stage::{Migrations, PATIENCE, Stage},
};

/// Waits until an Event about the pipeline has this reason and names these in its note.
async fn told(
    stage: &Stage,
    reason: &str,
    names: &[&str],
    operator: &Process,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let events = stage.all::<Event>().list(&ListParams::default()).await?;
        let found = events.iter().any(|event| {
            let note = event.message.as_deref().unwrap_or_default();
            event.involved_object.name.as_deref() == Some("shop")
                && event.reason.as_deref() == Some(reason)
                && names.iter().all(|name| note.contains(name))
        });
        if found {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "no {reason} that names {names:?}: {:#?}: {}",
            stage.events("shop").await?,
            operator.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Wants so many processors, and waits until this installation has seen to it.
async fn follows(
    stage: &Stage,
    topic: &str,
    replicas: i32,
    installation: &str,
    operator: &Process,
) -> anyhow::Result<()> {
    let wanted = json!({ "processor": { "replicas": replicas } });
    stage.apply(&stage.pipeline("shop", topic, wanted)).await?;
    let held = stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let held_by = held.status.and_then(|status| status.held_by);
    assert_eq!(held_by.as_deref(), Some(installation));
    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    let found = deployment.spec.and_then(|spec| spec.replicas);
    assert_eq!(found, Some(replicas));
    Ok(())
}

async fn until_held_by(
    stage: &Stage,
    installation: &str,
    operator: &Process,
) -> anyhow::Result<()> {
    stage
        .pipeline_when("shop", &format!("held by {installation}"), |pipeline| {
            let status = pipeline.status.as_ref();
            status.and_then(|status| status.held_by.as_deref()) == Some(installation)
        })
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn a_pipeline_is_left_alone_while_its_installation_lives_and_taken_over_afterwards()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let [one, another] = ["one", "another"].map(|name| unique_name(name).replace('_', "-"));
    for namespace in [&one, &another] {
        stage.api.create_namespace(namespace).await?;
        stage.rights.grant(namespace).await?;
    }
    let first = stage.operator_with(&["--lease-namespace", &one])?;
    let topic = unique_name("clicks");
    follows(&stage, &topic, 2, &one, &first).await?;
    let before = at_rest(&stage, Duration::from_secs(1)).await?;

    let proxy = ApiProxy::start(stage.api).await?;
    let kubeconfig = proxy.kubeconfig(stage.api)?;
    let second = stage.operator_by(&kubeconfig, &["--lease-namespace", &another])?;
    told(&stage, "HeldElsewhere", &[&one], &second).await?;
    let mut now = at_rest(&stage, Duration::from_secs(1)).await?;
    now.retain(|object, _| !object.starts_with("Event/") || before.contains_key(object));
    assert_eq!(differences(&before, &now), Vec::<String>::new());
    // what the spec asks for meanwhile is the first one's to do
    follows(&stage, &topic, 3, &one, &first).await?;
    at_rest(&stage, Duration::from_secs(1)).await?;
    let lease = format!("/namespaces/{another}/leases");
    let mut writes = proxy.writes();
    writes.retain(|path| !path.contains(&lease) && !path.contains("/events"));
    assert_eq!(writes, Vec::<String>::new());

    // nobody gives its Lease back, which ends by itself
    first.kill()?;
    until_held_by(&stage, &another, &second).await?;
    told(&stage, "TakenOver", &[&one, &another], &second).await?;
    follows(&stage, &topic, 4, &another, &second).await?;

    let third = stage.operator_with(&["--lease-namespace", &one])?;
    told(&stage, "HeldElsewhere", &[&another], &third).await?;
    // this one gives its Lease back
    second.terminate()?;
    let begun = Instant::now();
    while second.exited()?.is_none() {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{}", second.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // the next look is up to half a minute away, unless something happens
    let touched = json!({ "metadata": { "annotations": { "touched": "now" } } });
    let params = PatchParams::default();
    let pipelines = stage.all::<ClickstreamPipeline>();
    pipelines
        .patch("shop", &params, &Patch::Merge(&touched))
        .await?;
    until_held_by(&stage, &one, &third).await?;
    told(&stage, "TakenOver", &[&another, &one], &third).await?;
    follows(&stage, &topic, 5, &one, &third).await?;
    Ok(())
}
