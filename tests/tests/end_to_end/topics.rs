//! Topics that are deleted, and others that get their names: what was stored stays, and nobody
//! else's partitions wait.

use std::{fs, path::PathBuf};

use crate::{
    records::{clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

/// Everything that decides what a topic's tables hold, as one text: equal before and after means
/// nothing was changed.
async fn tables(stack: &Stack) -> anyhow::Result<String> {
    let query = "select concat_ws(' ',
        (select string_agg(concat_ws(':', topic, partition, next_offset, consumed, accepted, duplicate, rejected, late, skipped), ',' order by partition)
         from clickstream_checkpoints),
        (select count(*) || '/' || coalesce(md5(string_agg(event_id::text || source_offset, ',' order by event_id, event_date)), '') from clickstream_events),
        (select sum(hits) from clickstream_agg_lanes), (select sum(hits) from clickstream_traffic_parts),
        (select count(*) from clickstream_dead_letters), (select count(*) from clickstream_late_events),
        (select count(*) from clickstream_gaps),
        (select string_agg(kafka_topic_id, ',') from clickstream_topics))";
    Ok(stack.client.query_one(query, &[]).await?.get(0))
}

/// A topic is deleted and made anew while processors read it. `records` go to each partition of the
/// new one, before anybody looks at it; `unseen`: the processors miss that the topic was gone for a
/// while.
async fn made_anew_while_running(records: u64, unseen: bool) -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let watched = stack.start_watched("one")?;
    let old = clicks(0..200, now());
    stack
        .place(
            old.iter()
                .enumerate()
                .map(|(at, click)| click.on(at as i32 % 2))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    let held = tables(&stack).await?;

    if unseen {
        // so short an absence that the group never hears of it
        watched.process.stop_signal()?;
    }
    stack.kafka.delete_topic(&stack.topic).await?;
    stack.kafka.create_topic(&stack.topic, 2, &[]).await?;
    let new = clicks(10_000..10_000 + 2 * records, now());
    stack
        .place(
            new.iter()
                .enumerate()
                .map(|(at, click)| click.on(at as i32 % 2))
                .collect(),
        )
        .await?;
    if unseen {
        watched.process.continue_signal()?;
    }
    assert_eq!(
        watched.shows("/readyz", "2 partitions are halted").await?,
        503
    );
    watched
        .shows("/status", "the topic was deleted and made anew")
        .await?;
    logged(&watched.process, "partition halted").await?;
    assert_eq!(
        tables(&stack).await?,
        held,
        "{}",
        watched.process.log_tail()
    );
    end(&watched.process).await?;
    assert_eq!(tables(&stack).await?, held);
    Ok(())
}

#[tokio::test]
async fn a_shorter_topic_made_anew_while_running_halts_and_changes_nothing() -> anyhow::Result<()> {
    made_anew_while_running(10, false).await?;
    made_anew_while_running(10, true).await
}

#[tokio::test]
async fn a_longer_topic_made_anew_while_running_halts_and_changes_nothing() -> anyhow::Result<()> {
    // the old positions lie within the new log: nothing but the topic's id tells that they mean
    // other records
    made_anew_while_running(500, false).await?;
    made_anew_while_running(500, true).await
}

/// Clicks with these numbers on the first partition of `topic`.
async fn placed_in(
    stack: &Stack,
    topic: &str,
    numbers: std::ops::Range<u64>,
) -> anyhow::Result<usize> {
    let clicks = clicks(numbers, now());
    let records = clicks.iter().map(|click| click.on(0)).collect();
    stack.place_in(topic, records).await
}

/// A stack whose pipeline reads a second topic as well; its name and the document.
async fn two_topics() -> anyhow::Result<(Stack, String, PathBuf)> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await?;
    let other = format!("{}-other", stack.topic);
    stack.kafka.create_topic(&other, 1, &[]).await?;
    let document = stack.document.with_extension("two.yaml");
    let text = fs::read_to_string(&stack.document)?;
    let topics = format!("  topics:\n  - {{name: {other}, management: External}}\n");
    fs::write(&document, text.replace("  topics:\n", &topics))?;
    let processor = stack.start_from(&document, "before", &[])?;
    placed_in(&stack, &stack.topic, 0..100).await?;
    placed_in(&stack, &other, 100..200).await?;
    both_read(&stack, 200).await?;
    end(&processor).await?;
    Ok((stack, other, document))
}

async fn both_read(stack: &Stack, consumed: usize) -> anyhow::Result<()> {
    let query = format!("select sum(consumed) = {consumed} from clickstream_checkpoints");
    stack.eventually("both topics are read", &query).await
}

#[tokio::test]
async fn a_topic_made_anew_while_nobody_reads_halts_at_start_and_the_others_are_read()
-> anyhow::Result<()> {
    let (stack, other, document) = two_topics().await?;
    stack.kafka.delete_topic(&other).await?;
    stack.kafka.create_topic(&other, 1, &[]).await?;
    // its positions lie within the new log
    placed_in(&stack, &other, 1_000..1_500).await?;
    let watched = stack.start_watched_from(&document, "again")?;
    placed_in(&stack, &stack.topic, 200..250).await?;
    both_read(&stack, 250).await?;
    assert_eq!(
        watched.shows("/readyz", "1 partitions are halted").await?,
        503
    );
    watched
        .shows("/status", "the topic was deleted and made anew")
        .await?;
    logged(&watched.process, "partition halted").await?;
    let untouched =
        format!("select next_offset from clickstream_checkpoints where topic = '{other}'");
    assert_eq!(stack.count(&untouched).await?, 100);
    assert_eq!(
        stack.count("select count(*) from clickstream_gaps").await?,
        0
    );
    end(&watched.process).await
}

#[tokio::test]
async fn a_topic_that_has_gone_holds_no_other_up_and_is_not_believed_when_it_comes_back()
-> anyhow::Result<()> {
    let (stack, other, document) = two_topics().await?;
    stack.kafka.delete_topic(&other).await?;
    let watched = stack.start_watched_from(&document, "again")?;
    placed_in(&stack, &stack.topic, 200..250).await?;
    both_read(&stack, 250).await?;
    logged(&watched.process, "topic is not there any more").await?;
    stack.kafka.create_topic(&other, 1, &[]).await?;
    placed_in(&stack, &other, 1_000..1_500).await?;
    watched
        .shows("/status", "the topic was deleted and made anew")
        .await?;
    assert_eq!(stack.total("consumed").await?, 250);
    assert_eq!(
        stack.count("select count(*) from clickstream_gaps").await?,
        0
    );
    end(&watched.process).await
}

#[tokio::test]
async fn a_topic_that_never_was_is_refused_at_start() -> anyhow::Result<()> {
    let (stack, other, document) = two_topics().await?;
    let text = fs::read_to_string(&document)?;
    fs::write(&document, text.replace(&other, "misspelt"))?;
    let processor = stack.start_from(&document, "again", &[])?;
    let status = processor.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1));
    let log = processor.log();
    assert!(log.contains("topic misspelt does not exist on"), "{log}");
    Ok(())
}
