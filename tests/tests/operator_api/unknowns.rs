//! What cannot be known is Unknown, and never shown as fine.

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::unique_name;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    pods::deployment,
    processor::{Processor, running},
    stage::{LOOK, Migrations, PATIENCE, Stage, condition},
    uncreated::deployment_says,
};

#[tokio::test]
async fn lag_is_not_computed_from_whoever_answers_while_kafka_is_away() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let mut pipeline = stage.pipeline(
        "shop",
        &topic,
        json!({ "processor": { "replicas": 1, "lagTarget": 10 } }),
    );
    stage.apply(&pipeline).await?;
    let processor = Processor::start(&stage, "shop", "p-0", running(&topic, &[0, 1, 2])).await?;
    stage
        .condition("shop", "LagWithinTarget", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!("127.0.0.1:1");
    processor.says(running(&topic, &[0, 1])).await?;
    stage.apply(&pipeline).await?;
    let away = stage
        .condition("shop", "TopicsReady", "False", "KafkaUnreachable")
        .await?;
    let (lag, reason, _) = condition(&away, "LagWithinTarget").unwrap_or_default();
    assert_eq!((lag.as_str(), reason.as_str()), ("Unknown", "LagUnknown"));
    let status = away.status.unwrap_or_default();
    assert_eq!(status.topics[0].partitions, Some(3));
    assert_eq!(status.topics[0].replication_factor, Some(1));
    assert_eq!(status.lag, None);
    // the total of all three, as it was when it was known last
    assert_ne!(status.targets[0].consumed, Some(14));
    Ok(())
}

#[tokio::test]
async fn a_database_that_nobody_writes_is_not_said_to_be_written() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "DatabaseReady", "True", "Migrated")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.condition("shop", "Ready", "True", "").await?;
    stage.stop_playing();
    let down =
        json!({ "replicas": 2, "updatedReplicas": 2, "readyReplicas": 0, "availableReplicas": 0 });
    deployment_says(&stage, "shop", down).await?;
    let said = stage
        .condition("shop", "DatabaseReady", "Unknown", "NotReported")
        .await?;
    // that pods are missing says more than that nobody knows
    let (ready, reason, _) = condition(&said, "Ready").unwrap_or_default();
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "RollingOut"));
    Ok(())
}

#[tokio::test]
async fn partitions_that_nobody_owns_are_named() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let one = |lag: u32| {
        let changes = json!({ "processor": { "replicas": 1, "lagTarget": lag } });
        stage.pipeline("shop", &topic, changes)
    };
    stage.apply(&one(30)).await?;
    stage
        .condition("shop", "ProcessorsAvailable", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let processor = Processor::start(&stage, "shop", "p-0", running(&topic, &[1])).await?;
    let said = stage
        .condition("shop", "ProcessorsAvailable", "False", "PartitionsUnowned")
        .await?;
    let (_, _, message) = condition(&said, "ProcessorsAvailable").unwrap_or_default();
    for part in ["2 of 3", &format!("{topic}/0"), &format!("{topic}/2")] {
        assert!(message.contains(part), "{message}");
    }
    // a hand-over takes seconds and makes nobody page; a new generation has to earn it
    let (ready, ..) = condition(&said, "Ready").unwrap_or_default();
    assert_eq!(ready, "True");
    stage.apply(&one(31)).await?;
    stage
        .condition("shop", "Ready", "False", "PartitionsUnowned")
        .await?;
    processor.says(running(&topic, &[0, 1, 2])).await?;
    stage.condition("shop", "Ready", "True", "").await?;
    // of two that are wanted only one answers: what the other one has is not known
    let mut two = one(31);
    two["spec"]["processor"]["replicas"] = json!(2);
    stage.apply(&two).await?;
    stage.condition("shop", "Ready", "True", "").await?;
    processor.says(running(&topic, &[0, 1])).await?;
    let said = stage
        .condition("shop", "ProcessorsAvailable", "Unknown", "NotReported")
        .await?;
    let (_, _, message) = condition(&said, "ProcessorsAvailable").unwrap_or_default();
    assert!(message.contains(&format!("{topic}/2")), "{message}");
    Ok(())
}

#[tokio::test]
async fn while_a_spec_is_refused_what_was_accepted_last_is_kept_up() -> anyhow::Result<()> {
    kept_up(false).await
}

#[tokio::test]
async fn also_by_an_operator_that_never_saw_it() -> anyhow::Result<()> {
    kept_up(true).await
}

async fn kept_up(restarted: bool) -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let mut operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let before = deployment(&stage, "shop").await?;
    let hash = |deployment: &Deployment| -> Value {
        json!(deployment)["spec"]["template"]["metadata"]["annotations"].clone()
    };
    if restarted {
        operator.kill()?;
    }
    stage
        .apply(&stage.pipeline(
            "shop",
            &topic,
            json!({ "window": { "size": "5m" }, "processor": { "replicas": 5 } }),
        ))
        .await?;
    if restarted {
        operator = stage.operator()?;
    }
    stage
        .condition("shop", "Stalled", "True", "WindowSizeRefused")
        .await?;
    stage.postgres_secret("rotated").await?;
    stage
        .all::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    let begun = std::time::Instant::now();
    let after = loop {
        match stage
            .all::<Deployment>()
            .get_opt(&before.name_any())
            .await?
        {
            // Secrets are asked for by a clock of their own: it may come back before the new value
            // is known
            Some(found) if found.uid() != before.uid() && hash(&found) != hash(&before) => {
                break found;
            }
            _ => {}
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "no Deployment with the Secret's new value: {}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    };
    // as it was accepted, and not as it was refused
    assert_eq!(after.spec.and_then(|spec| spec.replicas), Some(2));
    stage
        .condition("shop", "Stalled", "True", "WindowSizeRefused")
        .await?;
    stage
        .condition("shop", "Ready", "False", "WindowSizeRefused")
        .await?;
    Ok(())
}

/// An affinity of about so many bytes, of which pods take any number.
fn long_affinity(bytes: usize) -> Value {
    let value = "v".repeat(60);
    let values: Vec<String> = (0..bytes / 64).map(|_| value.clone()).collect();
    json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 1,
        "preference": { "matchExpressions": [{ "key": "k", "operator": "In", "values": values }] },
    }] } })
}

#[tokio::test]
async fn a_spec_that_the_status_has_no_room_for_is_followed_all_the_same() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    // etcd takes 1.5 MiB: the spec once, and not twice
    let affinity = long_affinity(900 << 10);
    let long = json!({ "processor": { "replicas": 3, "affinity": affinity } });
    stage.apply(&stage.pipeline("shop", &topic, long)).await?;
    let accepted = |pipeline: &ClickstreamPipeline| json!(pipeline.status)["accepted"].clone();
    let ready = stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|_| anyhow::anyhow!("not Ready: {}", operator.log_tail()))?;
    assert_eq!(accepted(&ready), "");
    let before = deployment(&stage, "shop").await?;

    // there is no earlier one to follow: everything stays as it is
    let refused = json!({ "window": { "size": "5m" }, "processor": { "replicas": 1 } });
    stage
        .apply(&stage.pipeline("shop", &topic, refused))
        .await?;
    stage
        .condition("shop", "TopicsReady", "Unknown", "NotChecked")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let after = deployment(&stage, "shop").await?;
    assert_eq!(after.metadata.generation, before.metadata.generation);

    // and one of the usual length is kept again
    let short = json!({ "processor": { "replicas": 1 } });
    stage.apply(&stage.pipeline("shop", &topic, short)).await?;
    let ready = stage.condition("shop", "Ready", "True", "").await?;
    let kept = accepted(&ready);
    assert!(
        kept.as_str()
            .is_some_and(|kept| kept.contains("replicas: 1")),
        "{kept}"
    );
    Ok(())
}
