//! Pods that the API server refuses, by a quota, a LimitRange, PodSecurity or a webhook: there is
//! no pod that could say why.

use std::time::{Duration, Instant};

use clickstream_testbed::unique_name;
use k8s_openapi::{
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::Event},
    jiff::Timestamp,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    pods::deployment,
    stage::{Migrations, Stage, condition},
};

/// How soon a person is told.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

/// Writes the status of the processors' Deployment, as its controller would. Numbers about the
/// generation that it has now.
pub async fn deployment_says(stage: &Stage, pipeline: &str, status: Value) -> anyhow::Result<()> {
    let deployment = deployment(stage, pipeline).await?;
    let mut status = status;
    status["observedGeneration"] = json!(deployment.metadata.generation);
    stage
        .all::<Deployment>()
        .patch_status(
            &deployment.name_any(),
            &PatchParams::default(),
            &Patch::Merge(json!({ "status": status })),
        )
        .await?;
    Ok(())
}

/// What the Deployment controller writes while the API server refuses its pods.
fn refused(replicas: i32, why: &str) -> Value {
    json!({
        "replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas, "updatedReplicas": 0,
        "conditions": [
            { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable" },
            { "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why },
        ],
    })
}

#[tokio::test]
async fn processors_that_the_api_server_refuses_are_told_with_its_words() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.stop_playing();
    let more = json!({ "processor": { "replicas": 3 } });
    stage.apply(&stage.pipeline("shop", &topic, more)).await?;
    stage
        .condition("shop", "ProcessorsAvailable", "False", "RollingOut")
        .await?;
    let why = "pods \"shop-main-processor-x\" is forbidden: exceeded quota: compute, requested: limits.memory=1Gi, used: limits.memory=4Gi, limited: limits.memory=4Gi";
    let begun = Instant::now();
    deployment_says(&stage, "shop", refused(2, why)).await?;
    let said = stage
        .condition("shop", "ProcessorsAvailable", "False", "PodsRefused")
        .await?;
    assert!(begun.elapsed() < TOLD_WITHIN, "{:?}", begun.elapsed());
    let (_, _, message) = condition(&said, "ProcessorsAvailable").unwrap_or_default();
    assert!(message.contains("exceeded quota: compute"), "{message}");
    let (ready, reason, _) = condition(&said, "Ready").unwrap_or_default();
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "PodsRefused"));

    // a rollout that Kubernetes has given up is told, whatever its pods say
    let late = json!({
        "replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 1,
        "conditions": [{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "ReplicaSet \"shop-main-processor-x\" has timed out progressing.",
        }],
    });
    deployment_says(&stage, "shop", late).await?;
    let said = stage
        .condition("shop", "ProcessorsAvailable", "False", "RolloutStuck")
        .await?;
    let (_, _, message) = condition(&said, "ProcessorsAvailable").unwrap_or_default();
    assert!(message.contains("has timed out progressing"), "{message}");

    let well = json!({ "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "updatedReplicas": 3, "conditions": [] });
    deployment_says(&stage, "shop", well).await?;
    stage.condition("shop", "Ready", "True", "").await?;
    Ok(())
}

/// The Event that the Job controller publishes when a pod is refused.
async fn refuse(stage: &Stage, job: &Job, why: &str) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let event: Event = serde_json::from_value(json!({
        "metadata": { "generateName": "refused-", "namespace": stage.namespace },
        "involvedObject": {
            "apiVersion": "batch/v1", "kind": "Job",
            "name": job.name_any(), "namespace": stage.namespace, "uid": job.uid(),
        },
        "reason": "FailedCreate", "type": "Warning", "message": format!("Error creating: {why}"),
        "source": { "component": "job-controller" },
        "firstTimestamp": now.to_string(), "lastTimestamp": now.to_string(), "count": 1,
    }))?;
    stage
        .all::<Event>()
        .create(&PostParams::default(), &event)
        .await?;
    Ok(())
}

/// A pipeline whose migration has begun: since when, and its Job.
async fn migrating(stage: &Stage) -> anyhow::Result<(Instant, Job)> {
    let begun = Instant::now();
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    let job = stage.children::<Job>("shop", 1).await?.remove(0);
    Ok((begun, job))
}

#[tokio::test]
async fn a_migration_whose_pod_is_refused_says_so_with_the_api_servers_words() -> anyhow::Result<()>
{
    let mut stage = Stage::new(Migrations::Succeed).await?;
    stage.stop_playing();
    let operator = stage.operator()?;
    let (begun, job) = migrating(&stage).await?;
    let why = "pods \"shop-main-migrate-x\" is forbidden: failed quota: compute: must specify limits.cpu for: migrate";
    refuse(&stage, &job, why).await?;
    let said = stage
        .condition("shop", "DatabaseReady", "False", "MigrationBlocked")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(begun.elapsed() < TOLD_WITHIN, "{:?}", begun.elapsed());
    let (_, _, message) = condition(&said, "DatabaseReady").unwrap_or_default();
    assert!(message.contains("must specify limits.cpu"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_migration_without_a_pod_says_where_to_look_when_nobody_tells_why() -> anyhow::Result<()>
{
    let mut stage = Stage::new(Migrations::Succeed).await?;
    stage.stop_playing();
    let operator = stage.operator()?;
    let (begun, job) = migrating(&stage).await?;
    let said = stage
        .condition("shop", "DatabaseReady", "False", "MigrationBlocked")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(begun.elapsed() < TOLD_WITHIN, "{:?}", begun.elapsed());
    let (_, _, message) = condition(&said, "DatabaseReady").unwrap_or_default();
    let command = format!("kubectl describe job {}", job.name_any());
    assert!(message.contains(&command), "{message}");
    // once the pod comes, the Job goes on
    stage.play(Migrations::Succeed);
    stage.condition("shop", "Ready", "True", "").await?;
    Ok(())
}
