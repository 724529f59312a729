//! Topics: made, raised, kept in line, and never taken from anybody.

use std::time::{Duration, Instant};

use clickstream_processor::migrate::known_version;
use clickstream_testbed::unique_name;
use kube::ResourceExt;
use serde_json::json;

use crate::stage::{Migrations, PATIENCE, Stage, condition};

fn topics(topic: serde_json::Value) -> serde_json::Value {
    json!({ "topics": [topic] })
}

/// The value of a setting of a topic, as the broker has it.
async fn setting(stage: &Stage, topic: &str, key: &str) -> anyhow::Result<Option<String>> {
    use rdkafka::{
        ClientConfig,
        admin::{AdminClient, AdminOptions, ResourceSpecifier},
        client::DefaultClientContext,
    };
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", stage.kafka.bootstrap_servers())
        .create()?;
    let answers = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new())
        .await?;
    let found = answers.into_iter().next().and_then(Result::ok);
    Ok(found.and_then(|found| found.get(key).and_then(|entry| entry.value.clone())))
}

async fn until_setting(stage: &Stage, topic: &str, key: &str, wanted: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let found = setting(stage, topic, key).await?;
        if found.as_deref() == Some(wanted) {
            return Ok(());
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "{key} of {topic} is {found:?}, not {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_strangers_topic_is_refused_until_it_is_adopted_and_then_never_deleted()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("foreign");
    stage
        .kafka
        .create_topic(&topic, 3, &[("message.timestamp.type", "CreateTime")])
        .await?;
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    let refused = stage
        .condition("shop", "TopicsReady", "False", "TopicExists")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(
        condition(&refused, "TopicsReady")
            .unwrap_or_default()
            .2
            .contains("adopt: true")
    );
    assert_ne!(
        setting(&stage, &topic, "message.timestamp.type")
            .await?
            .as_deref(),
        Some("LogAppendTime")
    );

    // nothing of it changes that is not named
    let adopt = |config: serde_json::Value| {
        json!({
            "topics": [{ "name": topic, "adopt": true, "config": config }],
            "deletionPolicy": { "topics": "Delete" },
        })
    };
    let adopted = adopt(json!({ "segment.ms": "700000" }));
    stage
        .apply(&stage.pipeline("shop", &topic, adopted))
        .await?;
    let ready = stage.condition("shop", "Ready", "True", "").await?;
    let (_, _, message) = condition(&ready, "TopicsReady").unwrap_or_default();
    assert!(message.contains("CreateTime"), "{message}");
    until_setting(&stage, &topic, "segment.ms", "700000").await?;
    assert!(stage.kafka.offsets(&topic, 3).await.is_err());
    let kept = setting(&stage, &topic, "message.timestamp.type").await?;
    assert_eq!(kept.as_deref(), Some("CreateTime"));
    let named = adopt(json!({ "message.timestamp.type": "LogAppendTime" }));
    stage.apply(&stage.pipeline("shop", &topic, named)).await?;
    until_setting(&stage, &topic, "message.timestamp.type", "LogAppendTime").await?;
    stage.delete("shop").await?;
    assert!(
        stage.kafka.offsets(&topic, 0).await.is_ok(),
        "an adopted topic is never deleted"
    );
    Ok(())
}

#[tokio::test]
async fn partitions_are_raised_and_fewer_are_refused_while_everything_else_goes_on()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage.condition("shop", "Ready", "True", "").await?;
    stage
        .apply(&stage.pipeline(
            "shop",
            &topic,
            topics(json!({ "name": topic, "partitions": 5 })),
        ))
        .await?;
    stage
        .pipeline_when("shop", "five partitions", |pipeline| {
            pipeline.status.as_ref().is_some_and(|status| {
                status
                    .topics
                    .first()
                    .is_some_and(|topic| topic.partitions == Some(5))
            })
        })
        .await?;
    assert!(
        stage
            .events("shop")
            .await?
            .contains(&"PartitionsAdded".to_owned())
    );

    let fewer = json!({
        "topics": [{ "name": topic, "partitions": 2, "retention": "2h" }],
        "processor": { "replicas": 3 },
    });
    stage.apply(&stage.pipeline("shop", &topic, fewer)).await?;
    let refused = stage
        .condition("shop", "TopicsReady", "False", "FewerPartitions")
        .await?;
    let stalled = condition(&refused, "Stalled").unwrap_or_default();
    assert_eq!(
        (stalled.0.as_str(), stalled.1.as_str()),
        ("True", "FewerPartitions"),
        "tools that know kstatus see that waiting does not help"
    );
    assert!(
        condition(&refused, "TopicsReady")
            .unwrap_or_default()
            .2
            .contains("set partitions to 5")
    );
    until_setting(&stage, &topic, "retention.ms", "7200000").await?;
    stage
        .condition("shop", "ProcessorsAvailable", "True", "")
        .await?;
    stage
        .pipeline_when("shop", "3/3", |pipeline| {
            pipeline
                .status
                .as_ref()
                .and_then(|status| status.processors.as_deref())
                == Some("3/3")
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_topic_made_anew_behind_our_back_is_reported_and_never_silently_read()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    let ready = stage.condition("shop", "Ready", "True", "").await?;
    let id = ready.status.and_then(|status| status.topics[0].id.clone());
    stage.kafka.delete_topic(&topic).await?;
    stage
        .kafka
        .create_topic(&topic, 1, &[("message.timestamp.type", "CreateTime")])
        .await?;
    // an edit makes the operator look at once; otherwise it is within half a minute
    stage
        .apply(&stage.pipeline("shop", &topic, json!({ "processor": { "replicas": 1 } })))
        .await?;
    let replaced = stage
        .condition("shop", "TopicsReady", "False", "TopicReplaced")
        .await?;
    assert_eq!(
        replaced
            .status
            .and_then(|status| status.topics[0].id.clone()),
        id,
        "the old id stays known"
    );
    Ok(())
}

#[tokio::test]
async fn an_external_topic_is_waited_for_and_then_left_as_it_is() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let topic = unique_name("external");
    let external = topics(json!({ "name": topic, "management": "External" }));
    stage
        .apply(&stage.pipeline("shop", &topic, external))
        .await?;
    stage
        .condition("shop", "TopicsReady", "False", "TopicMissing")
        .await?;
    stage
        .kafka
        .create_topic(&topic, 2, &[("message.timestamp.type", "CreateTime")])
        .await?;
    let ready = stage.condition("shop", "Ready", "True", "").await?;
    let status = ready.status.unwrap_or_default();
    assert_eq!(
        status.topics[0].timestamp_type.as_deref(),
        Some("CreateTime")
    );
    assert_eq!(
        (status.topics[0].partitions, status.topics[0].created),
        (Some(2), None)
    );
    // having read it makes it nobody's to alter
    let managed = topics(json!({ "name": topic, "partitions": 3 }));
    stage
        .apply(&stage.pipeline("shop", &topic, managed))
        .await?;
    stage
        .condition("shop", "TopicsReady", "False", "TopicExists")
        .await?;
    let kept = setting(&stage, &topic, "message.timestamp.type").await?;
    assert_eq!(kept.as_deref(), Some("CreateTime"));
    assert!(stage.kafka.offsets(&topic, 2).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_topic_that_was_handed_over_stays_when_its_pipeline_goes() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    for management in ["Managed", "External"] {
        let delete = json!({
            "topics": [{ "name": topic, "partitions": 3, "management": management }],
            "deletionPolicy": { "topics": "Delete" },
        });
        stage.apply(&stage.pipeline("shop", &topic, delete)).await?;
        let ready = stage
            .condition("shop", "Ready", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        let created = ready.status.and_then(|status| status.topics[0].created);
        assert_eq!(created, Some(true), "{management}");
    }
    stage.delete("shop").await?;
    assert!(stage.kafka.offsets(&topic, 0).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn drift_of_a_setting_is_reverted_with_an_event() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let topic = unique_name("clicks");
    let spec = |replicas| {
        json!({
            "topics": [{ "name": topic, "partitions": 3, "retention": "3h", "config": { "max.message.bytes": "2000000" } }],
            "processor": { "replicas": replicas },
        })
    };
    stage
        .apply(&stage.pipeline("shop", &topic, spec(1)))
        .await?;
    stage.condition("shop", "Ready", "True", "").await?;
    until_setting(&stage, &topic, "max.message.bytes", "2000000").await?;
    stage
        .kafka
        .alter_topic(
            &topic,
            &[("retention.ms", "60000"), ("segment.ms", "700000")],
        )
        .await?;
    stage
        .apply(&stage.pipeline("shop", &topic, spec(2)))
        .await?;
    until_setting(&stage, &topic, "retention.ms", "10800000").await?;
    // what others set is theirs
    assert_eq!(
        setting(&stage, &topic, "segment.ms").await?.as_deref(),
        Some("700000")
    );
    assert!(
        stage
            .events("shop")
            .await?
            .contains(&"TopicConfigured".to_owned())
    );
    Ok(())
}

#[tokio::test]
async fn a_resource_that_is_deleted_and_applied_again_knows_its_topic_from_the_schema()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    let ready = stage.condition("shop", "Ready", "True", "").await?;
    let id = ready
        .status
        .as_ref()
        .and_then(|status| status.topics[0].id.clone());
    let uid = ready.uid();
    stage.delete("shop").await?;
    // there is no garbage collector on this stage
    stage.sweep("shop").await?;

    stage.play(Migrations::Report(json!({
        "schemaVersion": known_version(),
        "topics": [{ "name": topic, "id": id, "created": true }],
        "missingReaders": [],
    })));
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    let again = stage.condition("shop", "Ready", "True", "").await?;
    assert_ne!(again.uid(), uid);
    assert_eq!(
        again.status.and_then(|status| status.topics[0].created),
        Some(true)
    );
    Ok(())
}

#[tokio::test]
async fn a_topic_that_the_pipeline_made_goes_with_it_when_the_policy_says_so() -> anyhow::Result<()>
{
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline(
            "shop",
            &topic,
            json!({ "deletionPolicy": { "topics": "Delete" } }),
        ))
        .await?;
    stage.condition("shop", "Ready", "True", "").await?;
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let begun = Instant::now();
    while stage.kafka.offsets(&topic, 0).await.is_ok() {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the topic is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn kafka_that_is_away_is_a_condition_at_once_and_the_first_pods_wait() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    let mut pipeline = stage.pipeline("shop", "clicks", json!({}));
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!("127.0.0.1:1");
    stage.apply(&pipeline).await?;
    let away = stage
        .condition("shop", "TopicsReady", "False", "KafkaUnreachable")
        .await?;
    let (_, _, message) = condition(&away, "TopicsReady").unwrap_or_default();
    assert!(
        message.contains("127.0.0.1:1") && message.contains("Connection refused"),
        "which broker, and what is wrong: {message}"
    );
    let waits = stage
        .condition(
            "shop",
            "ProcessorsAvailable",
            "False",
            "WaitingForDependencies",
        )
        .await?;
    assert_eq!(
        condition(&waits, "Ready").map(|c| c.0).as_deref(),
        Some("False")
    );
    Ok(())
}
