//! What a platform does not allow is neither dialled nor run.

use std::time::Duration;

use clickstream_testbed::unique_name;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    pods::deployment,
    stage::{Migrations, Stage, condition},
};

#[tokio::test]
async fn a_broker_that_is_not_allowed_is_not_dialled() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let trap = TcpListener::bind("127.0.0.1:0").await?;
    let forbidden = trap.local_addr()?.to_string();
    let brokers = stage.kafka.bootstrap_servers();
    let operator = stage.operator_with(&[
        "--allowed-brokers",
        brokers.as_str(),
        "--deletion-patience",
        "1",
    ])?;
    let topic = unique_name("clicks");
    let mut pipeline = stage.pipeline("shop", &topic, json!({}));
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!(forbidden);
    pipeline["spec"]["deletionPolicy"] = json!({ "topics": "Delete", "tables": "Delete" });
    stage.apply(&pipeline).await?;
    let refused = stage
        .condition("shop", "Stalled", "True", "NotAllowed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let (_, _, message) = condition(&refused, "Stalled").unwrap_or_default();
    for part in [
        "spec.kafka.bootstrapServers",
        &forbidden,
        "pipelines.allowed.brokers",
    ] {
        assert!(message.contains(part), "{message}");
    }
    stage.children::<Job>("shop", 0).await?;
    stage.delete("shop").await?;

    // beside one that is allowed, after which the operator has looked at all of them
    stage.apply(&pipeline).await?;
    stage
        .apply(&stage.pipeline("calm", &topic, json!({})))
        .await?;
    stage
        .condition("calm", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage
        .condition("shop", "Stalled", "True", "NotAllowed")
        .await?;
    let dialled = tokio::time::timeout(Duration::from_millis(200), trap.accept()).await;
    assert!(dialled.is_err(), "it was dialled");
    Ok(())
}

#[tokio::test]
async fn what_was_there_before_the_lists_runs_on_as_it_is() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let mut operator = stage.operator()?;
    let topic = unique_name("clicks");
    let class = |name: &str| {
        let changes = json!({ "processor": { "priorityClassName": name } });
        stage.pipeline("shop", &topic, changes)
    };
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    operator.kill()?;
    operator = stage.operator_with(&["--allowed-priority-classes", "batch"])?;
    // the last one that is allowed is followed
    stage.apply(&class("system-node-critical")).await?;
    let refused = stage
        .condition("shop", "Stalled", "True", "NotAllowed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let (_, _, message) = condition(&refused, "Stalled").unwrap_or_default();
    assert!(
        message.contains("system-node-critical") && message.contains("batch"),
        "{message}"
    );
    let before = deployment(&stage, "shop").await?;
    stage
        .all::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    stage
        .condition("shop", "ProcessorsAvailable", "True", "")
        .await?;
    let after = deployment(&stage, "shop").await?;
    let pod = after
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    assert_eq!(pod.and_then(|pod| pod.priority_class_name.clone()), None);

    // and where none is allowed any more, nothing is touched
    operator.kill()?;
    let operator = stage.operator_with(&["--allowed-brokers", "kafka.example.com"])?;
    let refused = stage
        .pipeline_when("shop", "refused for its broker", |pipeline| {
            condition(pipeline, "Stalled")
                .is_some_and(|(_, _, said)| said.contains("pipelines.allowed.brokers"))
        })
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert_eq!(
        condition(&refused, "TopicsReady")
            .map(|said| said.1)
            .as_deref(),
        Some("NotChecked")
    );
    assert_eq!(deployment(&stage, "shop").await?.uid(), after.uid());
    Ok(())
}
