//! Records without an event in them: tombstones, and the control records of transactions. They
//! advance the position, and lag still gets to 0.

use std::time::{Duration, Instant};

use anyhow::ensure;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{
    records::{Click, Placed, clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::end,
};

/// Sends each group of clicks in a transaction of its own, to partition 0; `false` aborts it. Waits
/// for the markers, which the broker writes after it has answered.
async fn transactions(stack: &Stack, groups: Vec<(Vec<Click>, bool)>) -> anyhow::Result<()> {
    let (servers, topic) = (stack.kafka.bootstrap_servers(), stack.topic.clone());
    let (_, before) = stack.kafka.offsets(&stack.topic, 0).await?;
    let records: usize = groups.iter().map(|(clicks, _)| clicks.len() + 1).sum();
    let end = before + i64::try_from(records)?;
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("transactional.id", &topic)
            .create()?;
        producer.init_transactions(PATIENCE)?;
        for (clicks, commit) in groups {
            producer.begin_transaction()?;
            for click in clicks {
                let json = click.json();
                let record = BaseRecord::<(), [u8]>::to(&topic)
                    .partition(0)
                    .payload(&json);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(PATIENCE)?;
            if commit {
                producer.commit_transaction(PATIENCE)?;
            } else {
                producer.abort_transaction(PATIENCE)?;
            }
        }
        Ok(())
    })
    .await??;
    let deadline = Instant::now() + PATIENCE;
    while stack.kafka.offsets(&stack.topic, 0).await?.1 < end {
        ensure!(Instant::now() < deadline, "the markers were never written");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn one_partition() -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await
}

#[tokio::test]
async fn tombstones_are_skipped_and_outside_the_account() -> anyhow::Result<()> {
    let stack = one_partition().await?;
    let watched = stack.start_watched("one")?;
    let mut records: Vec<Placed> = vec![(0, None); 3];
    records.extend(clicks(0..50, now()).iter().map(|click| click.on(0)));
    records.extend(vec![(0, None); 2]);
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(stack.total("skipped").await?, 5);
    assert_eq!(stack.total("consumed").await?, 50);
    // nothing but a tombstone: still no lag
    stack.place(vec![(0, None)]).await?;
    stack.drained().await?;
    assert_eq!(stack.total("skipped").await?, 6);
    watched.shows("/status", "\"lag\":0").await?;
    end(&watched.process).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn control_records_are_passed_over_and_lag_gets_to_zero() -> anyhow::Result<()> {
    let stack = one_partition().await?;
    let watched = stack.start_watched("one")?;
    let groups = (0..5_u64)
        // the third is aborted: its events never happened
        .map(|group| (clicks(group * 10..(group + 1) * 10, now()), group != 2))
        .collect();
    transactions(&stack, groups).await?;
    // 50 records and 5 markers; drained() compares with the end of the log
    stack.drained_within(Duration::from_secs(30)).await?;
    assert_eq!(stack.total("next_offset").await?, 55);
    assert_eq!(stack.total("consumed").await?, 40);
    assert_eq!(stack.total("skipped").await?, 0);
    watched.shows("/status", "\"lag\":0").await?;
    // an aborted transaction alone at the end
    transactions(&stack, vec![(clicks(100..110, now()), false)]).await?;
    stack.drained_within(Duration::from_secs(30)).await?;
    assert_eq!(stack.total("consumed").await?, 40);
    end(&watched.process).await?;
    stack.audit().await?;

    // and from the beginning, by another processor
    let processor = stack.start("again")?;
    transactions(&stack, vec![(clicks(200..210, now()), true)]).await?;
    stack.drained_within(Duration::from_secs(30)).await?;
    assert_eq!(stack.total("consumed").await?, 50);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_stays_open_is_waited_for_and_said() -> anyhow::Result<()> {
    let stack = one_partition().await?;
    let processor = stack.start_watched_with("one", &[("CLICKSTREAM_TEST_STUCK_MS", "1000")])?;
    stack
        .place(
            clicks(0..10, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    let (servers, topic) = (stack.kafka.bootstrap_servers(), stack.topic.clone());
    let open = tokio::task::spawn_blocking(move || -> anyhow::Result<BaseProducer> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("transactional.id", &topic)
            // Kafka must not end it before the test does
            .set("transaction.timeout.ms", "600000")
            .create()?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        for click in clicks(10..20, now()) {
            let json = click.json();
            let record = BaseRecord::<(), [u8]>::to(&topic)
                .partition(0)
                .payload(&json);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(PATIENCE)?;
        Ok(producer)
    })
    .await??;
    // others' records wait behind it
    stack
        .place(
            clicks(20..30, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    processor
        .shows("/status", "\"open_transaction_seconds\":")
        .await?;
    processor.shows("/status", "\"lag\":20").await?;
    assert_eq!(stack.total("accepted").await?, 10);
    stack
        .eventually(
            "a partition with records behind an open transaction is not idle",
            "select count(*) = 0 from clickstream_checkpoints where idle_since is not null",
        )
        .await?;
    assert!(
        processor.process.exited()?.is_none(),
        "{}",
        processor.process.log_tail()
    );

    tokio::task::spawn_blocking(move || open.commit_transaction(PATIENCE)).await??;
    stack
        .eventually(
            "everything is stored",
            "select sum(accepted) = 30 from clickstream_checkpoints",
        )
        .await?;
    processor
        .shows(
            "/metrics",
            &format!(
                "clickstream_open_transaction_seconds{{partition=\"0\",topic=\"{}\"}} 0",
                stack.topic
            ),
        )
        .await?;
    end(&processor.process).await?;
    stack.audit().await?;
    Ok(())
}
