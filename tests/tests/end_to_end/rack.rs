//! Records from replicas in the processor's own zone: what a follower gives out, and what it does
//! not know, changes nothing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{Kafka, KafkaOptions, PostgresVersion, shared};

use crate::{
    metrics::{each, sum},
    records::{Click, clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::{Watched, end, logged},
};

const ZONES: &[&str] = &["zone-a", "zone-b", "zone-c"];
const PARTITIONS: i32 = 6;
/// The broker in the processor's zone.
const NEAR: usize = 0;

/// Three brokers in three zones that send consumers to the replica in theirs.
async fn stack() -> anyhow::Result<Stack> {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let kafka = Kafka::start(KafkaOptions {
        brokers: 3,
        heap_mb: 256,
        racks: ZONES,
        settings: vec![("replica.selector.class".to_owned(), selector.to_owned())],
        ..KafkaOptions::default()
    })
    .await?;
    let options = StackOptions {
        partitions: PARTITIONS,
        ..StackOptions::default()
    };
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    Stack::on(kafka, postgres, options).await
}

fn start(stack: &Stack, name: &str) -> anyhow::Result<Watched> {
    stack.start_watched_with(name, &[("CLICKSTREAM_RACK", ZONES[NEAR])])
}

/// Records over some seconds; how many were acknowledged.
async fn trickle(stack: &Stack, seed: u64) -> anyhow::Result<usize> {
    let mut sent = 0;
    for part in 0..8 {
        let options = GeneratorOptions {
            seed: seed * 100 + part,
            rate: 500,
            ..GeneratorOptions::default()
        };
        sent += stack.produce(options, 250).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(sent)
}

/// Waits until so many partitions come from followers.
async fn from_followers(watched: &Watched, is: impl Fn(f64) -> bool) -> anyhow::Result<()> {
    let family = "clickstream_kafka_partitions_from_followers";
    let what = "as many partitions come from followers as should";
    watched
        .until(what, |series| is(sum(series, family, "")))
        .await
        .map(drop)
}

/// Records come while something happens to a broker.
async fn meanwhile(
    stack: &Stack,
    seed: u64,
    happens: impl Fn(&Stack) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let broken = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        happens(stack)
    };
    let (sent, broken) = tokio::join!(trickle(stack, seed), broken);
    broken?;
    sent
}

/// Waits until as many records are committed as were acknowledged. The ends of logs cannot be asked
/// for while leaders change.
async fn taken(stack: &Stack, sent: usize, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let consumed = stack.total("consumed").await?;
        if consumed == i64::try_from(sent)? {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{consumed} of {sent} records are committed"
        );
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_follower_that_is_read_from_may_die_or_hang_and_so_may_leaders() -> anyhow::Result<()> {
    let stack = stack().await?;
    let watched = start(&stack, "near")?;
    let mut sent = trickle(&stack, 1).await?;
    taken(&stack, sent, PATIENCE).await?;
    // the others are led by the broker in this zone
    from_followers(&watched, |count| count >= 2.0).await?;
    // which is known although nothing is fetched from their leaders
    let lag = "clickstream_consumer_lag_seconds";
    watched
        .until("nothing waits", |series| {
            each(series, lag) == [0.0; PARTITIONS as usize]
        })
        .await?;

    // the follower
    sent += meanwhile(&stack, 2, |stack| stack.kafka.broker(NEAR).kill()).await?;
    taken(&stack, sent, PATIENCE).await?;
    from_followers(&watched, |count| count == 0.0).await?;
    stack.kafka.broker(NEAR).restart().await?;
    stack.kafka.wait_ready().await?;
    sent += trickle(&stack, 3).await?;
    taken(&stack, sent, PATIENCE).await?;
    from_followers(&watched, |count| count >= 2.0).await?;

    // the leader of partitions that a follower gives out
    sent += meanwhile(&stack, 4, |stack| stack.kafka.broker(1).kill()).await?;
    taken(&stack, sent, PATIENCE).await?;
    stack.kafka.broker(1).restart().await?;
    stack.kafka.wait_ready().await?;
    from_followers(&watched, |count| count >= 1.0).await?;

    // the follower again, with its connections open: its leaders answer all the while, and nobody
    // ends the process
    sent += meanwhile(&stack, 5, |stack| stack.kafka.broker(NEAR).stop_signal()).await?;
    taken(&stack, sent, Duration::from_secs(45)).await?;
    stack.kafka.broker(NEAR).continue_signal()?;
    sent += trickle(&stack, 6).await?;
    taken(&stack, sent, PATIENCE).await?;

    assert_eq!(
        stack.count("select count(*) from clickstream_gaps").await?,
        0
    );
    end(&watched.process).await?;
    stack.audit().await?;
    stack.kafka.shutdown().await
}

#[tokio::test]
async fn what_retention_took_from_a_follower_is_a_loud_gap_and_the_rest_is_read()
-> anyhow::Result<()> {
    let stack = stack().await?;
    let everywhere = |numbers: std::ops::Range<u64>| {
        let on_its_own = |click: Click| click.on((click.id.as_u128() % PARTITIONS as u128) as i32);
        clicks(numbers, now()).into_iter().map(on_its_own).collect()
    };
    let watched = start(&stack, "before")?;
    stack.place(everywhere(0..600)).await?;
    stack.drained().await?;
    from_followers(&watched, |count| count >= 2.0).await?;
    end(&watched.process).await?;

    stack.place(everywhere(600..1_800)).await?;
    let mut lost = 0;
    for partition in 0..PARTITIONS {
        let (_, log_end) = stack.kafka.offsets(&stack.topic, partition).await?;
        let read = format!(
            "select next_offset from clickstream_checkpoints where partition = {partition}"
        );
        lost += log_end - 50 - stack.count(&read).await?;
        stack
            .kafka
            .delete_records(&stack.topic, partition, log_end - 50)
            .await?;
    }
    let watched = start(&stack, "after")?;
    stack.drained().await?;
    let gaps = "select sum(next_offset - first_offset) from clickstream_gaps";
    assert_eq!(stack.count(gaps).await?, lost);
    assert_eq!(stack.total("consumed").await?, 1_800 - lost);
    logged(
        &watched.process,
        "data loss: kafka dropped records before they were read",
    )
    .await?;
    from_followers(&watched, |count| count >= 2.0).await?;
    end(&watched.process).await?;
    stack.audit().await?;
    stack.kafka.shutdown().await
}
