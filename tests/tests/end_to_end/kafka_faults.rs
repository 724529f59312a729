//! What happens to the log and to the brokers while the stream runs.

use std::time::Duration;

use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{Kafka, KafkaOptions, PostgresVersion, shared};

use crate::{
    records::{clicks, now},
    stack::{Stack, StackOptions},
    watch::{end, logged},
};

/// How long a fault lasts: seconds in an ordinary run, longer where the environment asks for it.
fn fault_time(ordinary: u64) -> Duration {
    let asked = std::env::var("CLICKSTREAM_FAULT_SECONDS").ok();
    Duration::from_secs(
        asked
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(ordinary),
    )
}

fn generated(seed: u64) -> GeneratorOptions {
    GeneratorOptions {
        seed,
        rate: 500,
        ..GeneratorOptions::default()
    }
}

#[tokio::test]
async fn partitions_that_are_added_under_load_are_read_from_their_beginning() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions::default()).await?;
    let processors = [stack.start("first")?, stack.start("second")?];
    let mut sent = stack.produce(generated(1), 3_000).await?;
    let (grown, more) = tokio::join!(
        stack.kafka.create_partitions(&stack.topic, 8),
        stack.produce(generated(2), 3_000)
    );
    grown?;
    sent += more?;
    sent += stack.produce(generated(3), 3_000).await?;
    stack.drained().await?;
    assert_eq!(stack.total("consumed").await?, i64::try_from(sent)?);
    assert_eq!(
        stack
            .count("select count(*) from clickstream_checkpoints where next_offset > 0")
            .await?,
        8
    );
    stack
        .eventually(
            "eight partitions are expected by the report of finality",
            "select partitions = 8 from clickstream_topics",
        )
        .await?;
    for processor in &processors {
        end(processor).await?;
    }
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_of_three_that_is_killed_and_comes_back_costs_nothing() -> anyhow::Result<()> {
    let kafka = Kafka::start(KafkaOptions {
        brokers: 3,
        heap_mb: 256,
        ..KafkaOptions::default()
    })
    .await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let stack = Stack::on(kafka, postgres, StackOptions::default()).await?;
    let processors = [stack.start("first")?, stack.start("second")?];
    let mut sent = stack.produce(generated(1), 2_000).await?;
    stack.drained().await?;
    for broker in 0..2 {
        stack.kafka.broker(broker).kill()?;
        sent += stack.produce(generated(2 + broker as u64), 2_000).await?;
        stack.kafka.broker(broker).restart().await?;
        stack.kafka.wait_ready().await?;
        sent += stack.produce(generated(8 + broker as u64), 2_000).await?;
        stack.drained().await?;
    }
    assert_eq!(stack.total("consumed").await?, i64::try_from(sent)?);
    for processor in &processors {
        end(processor).await?;
    }
    stack.audit().await?;
    stack.kafka.shutdown().await
}

#[tokio::test]
async fn processors_wait_for_kafka_and_go_on_alone() -> anyhow::Result<()> {
    let kafka = Kafka::start(KafkaOptions::default()).await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let stack = Stack::on(kafka, postgres, StackOptions::default()).await?;
    let processors = [stack.start("first")?, stack.start("second")?];
    let mut sent = stack.produce(generated(1), 2_000).await?;
    stack.drained().await?;

    stack.kafka.broker(0).kill()?;
    tokio::time::sleep(fault_time(12)).await;
    stack.kafka.broker(0).restart().await?;
    stack.kafka.wait_ready().await?;
    sent += stack.produce(generated(2), 2_000).await?;
    stack.drained().await?;

    // the same with a broker that hangs and keeps its connections
    stack.kafka.broker(0).stop_signal()?;
    tokio::time::sleep(fault_time(12)).await;
    stack.kafka.broker(0).continue_signal()?;
    sent += stack.produce(generated(3), 2_000).await?;
    stack.drained().await?;

    assert_eq!(stack.total("consumed").await?, i64::try_from(sent)?);
    assert_eq!(
        stack.total("late").await?,
        stack
            .count("select count(*) from clickstream_late_events")
            .await?
    );
    for processor in &processors {
        end(processor).await?;
    }
    stack.audit().await?;
    stack.kafka.shutdown().await
}

#[tokio::test]
async fn what_retention_took_is_a_loud_gap_and_the_rest_is_read() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("before")?;
    stack
        .place(
            clicks(0..100, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    end(&processor).await?;

    stack
        .place(
            clicks(100..300, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.kafka.delete_records(&stack.topic, 0, 250).await?;
    let watched = stack.start_watched("after")?;
    stack.drained().await?;
    assert_eq!(
        stack
            .count("select next_offset - first_offset from clickstream_gaps where partition = 0 and first_offset = 100")
            .await?,
        150
    );
    assert_eq!(stack.total("consumed").await?, 150);
    logged(
        &watched.process,
        "data loss: kafka dropped records before they were read",
    )
    .await?;
    watched
        .shows("/metrics", "clickstream_gap_records_total 150")
        .await?;
    watched.shows("/status", "[100,250]").await?;
    end(&watched.process).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn what_retention_takes_while_running_is_a_gap_too() -> anyhow::Result<()> {
    let postgres = clickstream_testbed::Postgres::start(Default::default()).await?;
    let kafka = shared::kafka().await?;
    let stack = Stack::on(
        kafka,
        postgres,
        StackOptions {
            partitions: 1,
            ..StackOptions::default()
        },
    )
    .await?;
    let processor = stack.start("one")?;
    stack
        .place(
            clicks(0..100, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    // a reader that does not get on, long enough for the log to move away under it
    processor.stop_signal()?;
    stack
        .place(
            clicks(100..300, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.kafka.delete_records(&stack.topic, 0, 280).await?;
    processor.continue_signal()?;
    stack.drained().await?;
    let gap = stack
        .count("select coalesce(sum(next_offset - first_offset), 0) from clickstream_gaps")
        .await?;
    // what was fetched before the log moved may still be read; nothing is passed over without a row
    assert_eq!(stack.total("consumed").await? + gap, 300);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
