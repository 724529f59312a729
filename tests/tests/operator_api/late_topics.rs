//! Topics whose creation the brokers confirm late, or refuse: whose they are afterwards.

use std::time::{Duration, Instant};

use clickstream_testbed::{Kafka, KafkaOptions, Proxy, free_port, unique_name};
use serde_json::json;

use crate::stage::{Migrations, PATIENCE, Stage};

/// How the request for a new topic ends: its last setting, its time-out of five seconds, and that
/// it is no rehearsal.
const END_OF_CREATE_TOPICS: &[u8] = b"LogAppendTime\x00\x00\x13\x88\x00";

#[tokio::test]
async fn a_topic_whose_creation_is_answered_too_late_is_ours_and_goes_with_the_pipeline()
-> anyhow::Result<()> {
    let port = free_port()?;
    let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await?;
    let address = proxy.addr();
    let kafka = Kafka::start(KafkaOptions {
        port: Some(port),
        settings: vec![(
            "advertised.listeners".to_owned(),
            format!("PLAINTEXT://{address}"),
        )],
        ..KafkaOptions::default()
    })
    .await?;
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let mut pipeline = stage.pipeline(
        "shop",
        &topic,
        json!({ "deletionPolicy": { "topics": "Delete" } }),
    );
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!(address.to_string());
    proxy.stall_after_match(END_OF_CREATE_TOPICS, 0);
    stage.apply(&pipeline).await?;
    proxy.sprung(PATIENCE).await?;
    // longer than the operator waits for an answer
    stage
        .condition("shop", "TopicsReady", "False", "KafkaUnreachable")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    proxy.resume();

    let ready = stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let seen = ready.status.map(|status| status.topics).unwrap_or_default();
    assert_eq!(seen[0].created, Some(true));
    assert!(seen[0].id.is_some());
    let events = stage.events("shop").await?;
    assert!(!events.contains(&"TopicExists".to_owned()), "{events:?}");
    assert!(kafka.offsets(&topic, 2).await.is_ok());
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let begun = Instant::now();
    while kafka.offsets(&topic, 0).await.is_ok() {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the topic is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_topic_that_the_brokers_refused_to_make_is_nobodys_when_it_comes_after_all()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let refused = json!({ "topics": [{
        "name": topic, "partitions": 3, "config": { "max.message.bytes": "many" },
    }] });
    stage
        .apply(&stage.pipeline("shop", &topic, refused))
        .await?;
    let found = stage
        .condition("shop", "TopicsReady", "False", "KafkaRefused")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let status = found.status.unwrap_or_default();
    assert_eq!(status.topics[0].created, None, "{:?}", status.topics);
    stage
        .kafka
        .create_topic(&topic, 3, &[("message.timestamp.type", "CreateTime")])
        .await?;
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "TopicsReady", "False", "TopicExists")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}
