//! What a deletion that was asked for does, gives up, and leaves behind.

use std::time::{Duration, Instant};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{Process, unique_name};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    pods::run_behind_a_pod,
    stage::{LOOK, Migrations, PATIENCE, Stage},
};

/// How long these operators try each step, in seconds.
const SHORT: [&str; 2] = ["--deletion-patience", "2"];

/// A pipeline of which everything goes with it, and its topic.
async fn with_everything(stage: &Stage, operator: &Process) -> anyhow::Result<String> {
    let topic = unique_name("clicks");
    let all = json!({ "deletionPolicy": { "topics": "Delete", "tables": "Delete" } });
    stage.apply(&stage.pipeline("shop", &topic, all)).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(topic)
}

async fn until_gone(stage: &Stage, operator: &Process) -> anyhow::Result<()> {
    let pipelines = stage.all::<ClickstreamPipeline>();
    let begun = Instant::now();
    while pipelines.get_opt("shop").await?.is_some() {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{}", operator.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The note about what is left.
async fn left_behind(stage: &Stage) -> anyhow::Result<Vec<ConfigMap>> {
    let notes = ListParams::default().labels("clickstream.dev/left-behind=shop");
    Ok(stage.all::<ConfigMap>().list(&notes).await?.items)
}

#[tokio::test]
async fn a_deletion_asked_for_while_no_operator_was_there_is_carried_out() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&SHORT)?;
    let topic = with_everything(&stage, &operator).await?;
    operator.kill()?;
    stage.stop_playing();
    let pipelines = stage.all::<ClickstreamPipeline>();
    pipelines.delete("shop", &DeleteParams::default()).await?;
    // longer ago than the patience
    tokio::time::sleep(Duration::from_secs(4)).await;
    let operator = stage.operator_with(&SHORT)?;
    let begun = Instant::now();
    let drops = |job: &Job| job.name_any().contains("drop");
    while !stage
        .all::<Job>()
        .list(&ListParams::default())
        .await?
        .iter()
        .any(drops)
    {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{}", operator.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    // a Job that runs is not given up
    tokio::time::sleep(Duration::from_secs(12)).await;
    let going = pipelines.get_opt("shop").await?;
    anyhow::ensure!(going.is_some(), "{}", operator.log_tail());
    stage.play(Migrations::Succeed);
    until_gone(&stage, &operator).await?;
    assert!(stage.kafka.offsets(&topic, 0).await.is_err());
    let events = stage.events("shop").await?;
    assert!(
        !events.contains(&"CleanupIncomplete".to_owned()),
        "{events:?}"
    );
    assert!(left_behind(&stage).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_a_deletion_could_not_do_is_found_after_it() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&SHORT)?;
    let topic = with_everything(&stage, &operator).await?;
    stage.play(Migrations::Fail("permission denied for schema clickstream"));
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    // what could be done is done
    assert!(stage.kafka.offsets(&topic, 0).await.is_err());
    let events = stage.events("shop").await?;
    assert!(
        events.contains(&"CleanupIncomplete".to_owned()),
        "{events:?}"
    );
    let notes = left_behind(&stage).await?;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].owner_references().is_empty());
    let data = notes[0].data.clone().unwrap_or_default();
    assert!(
        data["left"].contains("permission denied") && !data["left"].contains(&topic),
        "{data:?}"
    );
    assert!(
        data["commands"].contains("clickstream-processor drop --pipeline pipeline.yaml"),
        "{data:?}"
    );
    assert!(data["pipeline.yaml"].contains("ClickstreamPipeline"));
    Ok(())
}

#[tokio::test]
async fn topics_are_not_deleted_under_pods_that_do_not_end() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&SHORT)?;
    let topic = with_everything(&stage, &operator).await?;
    // as on a node that is gone: nobody says that it has ended
    run_behind_a_pod(&stage, "shop", "hangs", 1).await?;
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(stage.kafka.offsets(&topic, 0).await.is_ok());
    assert!(stage.all::<Pod>().get_opt("hangs").await?.is_some());
    let notes = left_behind(&stage).await?;
    let left = notes[0].data.clone().unwrap_or_default()["left"].clone();
    assert!(left.contains(&topic) && left.contains("hangs"), "{left}");
    Ok(())
}

#[tokio::test]
async fn a_spec_that_is_refused_changes_nothing_of_what_a_deletion_deletes() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let mut operator = stage.operator()?;
    let topic = with_everything(&stage, &operator).await?;
    // another broker, where there is none
    let mut broken = stage.pipeline("shop", &topic, json!({}));
    broken["spec"]["kafka"]["bootstrapServers"] = json!("127.0.0.1:1");
    broken["spec"]["window"] = json!({ "size": "5m" });
    broken["spec"]["deletionPolicy"] = json!({ "topics": "Delete", "tables": "Delete" });
    stage.apply(&broken).await?;
    stage
        .condition("shop", "Stalled", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    // also by an operator that has never seen the one before
    operator.kill()?;
    operator = stage.operator_with(&SHORT)?;
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(stage.kafka.offsets(&topic, 0).await.is_err());
    let jobs = stage.all::<Job>().list(&ListParams::default()).await?;
    assert!(jobs.iter().any(|job| job.name_any().contains("drop")));
    let events = stage.events("shop").await?;
    assert!(
        !events.contains(&"CleanupIncomplete".to_owned()),
        "{events:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_spec_that_is_accepted_decides_what_a_deletion_deletes() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&SHORT)?;
    let topic = with_everything(&stage, &operator).await?;
    let kept = json!({ "deletionPolicy": { "topics": "Retain", "tables": "Retain" } });
    stage.apply(&stage.pipeline("shop", &topic, kept)).await?;
    // at once, as it stands
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(stage.kafka.offsets(&topic, 0).await.is_ok());
    let jobs = stage.all::<Job>().list(&ListParams::default()).await?;
    assert!(jobs.iter().all(|job| !job.name_any().contains("drop")));
    Ok(())
}

#[tokio::test]
async fn a_spec_that_is_refused_can_keep_what_was_to_be_deleted() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&SHORT)?;
    let topic = with_everything(&stage, &operator).await?;
    let mut broken = stage.pipeline("shop", &topic, json!({}));
    broken["spec"]["window"] = json!({ "size": "5m" });
    broken["spec"]["deletionPolicy"] = json!({ "topics": "Retain", "tables": "Delete" });
    stage.apply(&broken).await?;
    stage
        .condition("shop", "Stalled", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(stage.kafka.offsets(&topic, 0).await.is_ok());
    let jobs = stage.all::<Job>().list(&ListParams::default()).await?;
    assert!(jobs.iter().any(|job| job.name_any().contains("drop")));
    Ok(())
}
