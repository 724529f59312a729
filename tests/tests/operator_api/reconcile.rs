//! From a resource to its children, its topics and its status.

use std::collections::BTreeSet;

use clickstream_processor::migrate::known_version;
use clickstream_testbed::unique_name;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::stage::{Migrations, Stage, condition};

#[tokio::test]
async fn a_new_pipeline_gets_topic_tables_and_processors_and_becomes_ready() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({ "producer": { "enabled": true } })))
        .await?;
    let ready = stage
        .condition("shop", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;

    let status = ready.status.clone().unwrap_or_default();
    assert_eq!(status.processors.as_deref(), Some("2/2"));
    assert_eq!(status.topics[0].partitions, Some(3));
    assert_eq!(status.topics[0].created, Some(true));
    assert_eq!(
        status.topics[0].timestamp_type.as_deref(),
        Some("LogAppendTime")
    );
    assert_eq!(status.targets[0].schema_version, Some(known_version()));
    assert_eq!(
        status.targets[0].consumer_group.as_deref(),
        Some("default.shop.main.test")
    );
    assert_eq!(
        condition(&ready, "LagWithinTarget").map(|c| c.1).as_deref(),
        Some("NoTarget")
    );

    let deployments = stage.children::<Deployment>("shop", 2).await?;
    let components: BTreeSet<_> = deployments
        .iter()
        .map(|d| d.labels()["app.kubernetes.io/component"].clone())
        .collect();
    assert_eq!(
        components,
        BTreeSet::from(["processor".to_owned(), "producer".to_owned()])
    );
    assert!(
        deployments
            .iter()
            .all(|d| d.owner_references()[0].uid == ready.uid().unwrap_or_default())
    );
    stage.children::<Job>("shop", 1).await?;
    stage.children::<Service>("shop", 1).await?;
    stage.children::<PodDisruptionBudget>("shop", 1).await?;
    stage.children::<ServiceAccount>("shop", 2).await?;
    stage.children::<ConfigMap>("shop", 3).await?;
    let events = stage.events("shop").await?;
    assert!(events.contains(&"TopicCreated".to_owned()), "{events:?}");
    assert!(!operator.log().contains("WARN"), "{}", operator.log());
    Ok(())
}

#[tokio::test]
async fn a_child_that_is_deleted_or_changed_by_hand_is_restored() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;

    let service = stage.children::<Service>("shop", 1).await?.remove(0);
    let services = stage.all::<Service>();
    services
        .delete(&service.name_any(), &DeleteParams::default())
        .await?;
    let again = stage.children::<Service>("shop", 1).await?.remove(0);
    assert_ne!(again.uid(), service.uid());

    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    let deployments = stage.all::<Deployment>();
    let patch = json!({ "spec": { "replicas": 7 } });
    deployments
        .patch(
            &deployment.name_any(),
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&patch),
        )
        .await?;
    let begun = std::time::Instant::now();
    loop {
        let now = deployments.get(&deployment.name_any()).await?;
        if now.spec.and_then(|spec| spec.replicas) == Some(2) {
            break;
        }
        anyhow::ensure!(
            begun.elapsed() < crate::stage::PATIENCE,
            "still as it was edited"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_migration_holds_the_processors_back_and_says_its_last_line() -> anyhow::Result<()>
{
    let mut stage = Stage::new(Migrations::Fail("password authentication failed")).await?;
    let operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    let failed = stage
        .condition("shop", "DatabaseReady", "False", "MigrationFailed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let (_, _, message) = condition(&failed, "DatabaseReady").unwrap_or_default();
    assert!(
        message.contains("password authentication failed"),
        "{message}"
    );
    stage.children::<Deployment>("shop", 0).await?;

    // a new password is tried at once, not when the pause is over
    stage.play(Migrations::Succeed);
    stage.postgres_secret("new").await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn suspending_stops_the_pods_and_resuming_starts_them() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage
        .apply(&stage.pipeline("shop", &topic, json!({ "suspend": true })))
        .await?;
    stage
        .condition("shop", "Ready", "True", "Suspended")
        .await?;
    stage.condition("shop", "Suspended", "True", "").await?;
    // nobody who waits for it waits any longer
    stage.condition("shop", "Reconciling", "False", "").await?;
    stage.condition("shop", "Stalled", "False", "").await?;
    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    assert_eq!(deployment.spec.and_then(|spec| spec.replicas), Some(0));
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage.condition("shop", "Ready", "True", "Ready").await?;
    Ok(())
}

#[tokio::test]
async fn a_removed_target_takes_its_children_along() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let two = json!({ "targets": [
        { "name": "one", "schema": "one", "connection": { "secret": { "name": "postgres" } } },
        { "name": "two", "schema": "two", "connection": { "secret": { "name": "postgres" } } },
    ] });
    stage.apply(&stage.pipeline("shop", &topic, two)).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.children::<Deployment>("shop", 2).await?;
    let one = json!({ "targets": [
        { "name": "one", "schema": "one", "connection": { "secret": { "name": "postgres" } } },
    ] });
    stage.apply(&stage.pipeline("shop", &topic, one)).await?;
    let left = stage.children::<Deployment>("shop", 1).await?.remove(0);
    assert_eq!(left.labels()["clickstream.dev/target"], "one");
    stage.children::<Service>("shop", 1).await?;
    Ok(())
}
