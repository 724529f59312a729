//! The same event more than once: within a flush, between partitions and processors, across days
//! and restarts.

use std::time::Duration;

use crate::{
    records::{Click, Placed, after, before, clicks, now},
    stack::{Stack, StackOptions},
    watch::{end, logged},
};

/// As many rows of a partition as are looked up one by one after a claim (`COLD_ROWS` of the
/// engine), and some more.
const BEYOND_COLD: u64 = 10_500;

async fn two_partitions() -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await
}

async fn expect(stack: &Stack, accepted: i64, duplicate: i64) -> anyhow::Result<()> {
    stack.drained().await?;
    assert_eq!(
        (
            stack.total("accepted").await?,
            stack.total("duplicate").await?
        ),
        (accepted, duplicate)
    );
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events")
            .await?,
        accepted
    );
    assert_eq!(
        stack
            .count("select sum(hits) from clickstream_agg_minute")
            .await?,
        accepted
    );
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn an_event_on_two_partitions_of_one_flush_counts_once() -> anyhow::Result<()> {
    let stack = two_partitions().await?;
    let both: Vec<Placed> = clicks(0..300, now())
        .iter()
        .flat_map(|click| [click.on(1), click.on(0)])
        .collect();
    // sent before the processor starts, so that they meet in one flush
    stack.place(both).await?;
    let processor = stack.start("one")?;
    expect(&stack, 300, 300).await?;
    end(&processor).await
}

#[tokio::test]
async fn an_event_in_two_processors_counts_once() -> anyhow::Result<()> {
    let stack = two_partitions().await?;
    let (first, second) = (stack.start("first")?, stack.start("second")?);
    stack
        .eventually(
            "a partition for each",
            "select count(distinct owner) = 2 from clickstream_checkpoints where owner <> ''",
        )
        .await?;
    for round in 0..20_u64 {
        let both: Vec<Placed> = clicks(round * 100..(round + 1) * 100, now())
            .iter()
            .flat_map(|click| [click.on(0), click.on(1)])
            .collect();
        stack.place(both).await?;
    }
    expect(&stack, 2_000, 2_000).await?;
    for processor in [&first, &second] {
        assert!(!processor.log().contains("partition halted"));
        end(processor).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_resend_within_a_partition_counts_once_in_the_same_flush_and_later() -> anyhow::Result<()>
{
    let stack = two_partitions().await?;
    let sent = clicks(0..200, now());
    let twice: Vec<Placed> = sent
        .iter()
        .flat_map(|click| [click.on(0), click.on(0)])
        .collect();
    stack.place(twice).await?;
    let processor = stack.start("one")?;
    expect(&stack, 200, 200).await?;
    stack
        .place(sent.iter().map(|click| click.on(0)).collect())
        .await?;
    expect(&stack, 200, 400).await?;
    end(&processor).await
}

#[tokio::test]
async fn an_id_counts_again_on_another_day() -> anyhow::Result<()> {
    let stack = two_partitions().await?;
    let processor = stack.start("one")?;
    let day = Duration::from_secs(86_400);
    let yesterday = before(now(), day);
    let click = Click::new(1, yesterday);
    let today = click.clone().dated(after(yesterday, day));
    // one record of each day, then both again: T stays unset below 16 events, so nothing is late
    stack
        .place(vec![click.on(0), today.on(0), click.on(0), today.on(0)])
        .await?;
    expect(&stack, 2, 2).await?;
    end(&processor).await
}

#[tokio::test]
async fn resends_of_what_was_stored_before_a_restart_count_once() -> anyhow::Result<()> {
    let stack = two_partitions().await?;
    let before_restart = clicks(0..500, now());
    stack
        .place(before_restart.iter().map(|click| click.on(0)).collect())
        .await?;
    let processor = stack.start("before")?;
    expect(&stack, 500, 0).await?;
    end(&processor).await?;

    let processor = stack.start("after")?;
    // at once: the filter is cold, every row is looked up
    stack
        .place(
            before_restart[..250]
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    expect(&stack, 500, 250).await?;
    assert!(
        !processor
            .log()
            .contains("a row taken for new was stored already")
    );
    // when the filter counts as warm it calls the old ids new, and the primary key corrects it
    stack
        .place(
            clicks(1_000..1_000 + BEYOND_COLD, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    let mut mixed: Vec<Placed> = before_restart[250..]
        .iter()
        .map(|click| click.on(0))
        .collect();
    mixed.extend(
        clicks(50_000..50_200, now())
            .iter()
            .map(|click| click.on(0)),
    );
    stack.place(mixed).await?;
    let accepted = 500 + i64::try_from(BEYOND_COLD)? + 200;
    expect(&stack, accepted, 500).await?;
    logged(&processor, "a row taken for new was stored already").await?;
    end(&processor).await
}
