//! The migration that gives every day and both ledgers more columns, while somebody reads them,
//! with flushes in between.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep_until};

use super::{first_release::FirstRelease, sent};
use crate::{
    records::{clicks, now},
    stack::{Stack, StackOptions},
};

/// Days that have a partition already.
const DAYS: i32 = 40;

/// Tables of the version before.
async fn of_the_version_before() -> anyhow::Result<Stack> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        topic: &[("message.timestamp.type", "CreateTime")],
        ..StackOptions::default()
    })
    .await?;
    let (code, said) = stack.command(&["drop"]).await?;
    ensure!(code == 0, "{said}");
    let before = [("CLICKSTREAM_TEST_MIGRATIONS", "11")];
    let (code, said) = stack.command_with(&["migrate"], &before).await?;
    ensure!(code == 0 && said.contains("version=11"), "{said}");
    let days = format!(
        "select clickstream_create_day(current_date - day) from generate_series(-1, {DAYS}) as day"
    );
    let as_owner = format!("set role {}; {days}; reset role", stack.owner);
    stack.client.batch_execute(&as_owner).await?;
    Ok(stack)
}

/// An index whose building was interrupted, as a migration leaves it that is killed in it.
async fn interrupt_building(stack: &Stack) -> anyhow::Result<()> {
    let client = &stack.client;
    client
        .batch_execute(&format!(
            "set role {};
             insert into clickstream_dead_letters (topic, partition, source_offset, reason, detail, payload, received_at)
             select 'interrupted', 0, number, 'empty', '', '', now() from generate_series(1, 2) as number",
            stack.owner
        ))
        .await?;
    let build = "create unique index concurrently clickstream_dead_letters_place on clickstream_dead_letters (topic)";
    ensure!(client.batch_execute(build).await.is_err(), "built");
    client
        .batch_execute("delete from clickstream_dead_letters; reset role")
        .await?;
    Ok(())
}

#[tokio::test]
async fn every_day_and_both_ledgers_grow_while_they_are_read_and_flushes_go_on()
-> anyhow::Result<()> {
    let stack = of_the_version_before().await?;
    interrupt_building(&stack).await?;
    let mut first = FirstRelease::claims(&stack, 2).await?;
    let reader = stack.postgres.connect(&stack.database).await?;
    reader
        .batch_execute(
            "begin; select from clickstream.clickstream_events;
             select from clickstream.clickstream_dead_letters; select from clickstream.clickstream_late_events",
        )
        .await?;
    let over = Instant::now() + Duration::from_secs(3);
    let reads = async {
        sleep_until(over).await;
        reader.batch_execute("commit").await
    };
    let flushes = async {
        let mut number = 0;
        while Instant::now() < over {
            let click = clicks(number..number + 1, now());
            let stamp = sent(&stack, 0, &click).await?;
            first.flushes(0, &click, stamp).await?;
            number += 1;
        }
        anyhow::Ok(number)
    };
    let long_ledgers = [("CLICKSTREAM_TEST_SMALL_LEDGER", "0")];
    let migrate = stack.command_with(&["migrate"], &long_ledgers);
    let (migrated, read, flushed) = tokio::join!(migrate, reads, flushes);
    read?;
    let (code, said) = migrated?;
    ensure!(code == 0, "{said}");
    let flushed = flushed?;
    // while the reader held everything, in the pauses between attempts
    assert!(flushed > 1, "{flushed}");
    assert!(said.contains("trying again"), "{said}");
    assert_eq!(said.matches("building an index").count(), 2, "{said}");

    let keys = "select count(*) from pg_constraint
        where contype = 'p' and connamespace = 'clickstream'::regnamespace
          and conrelid in ('clickstream_dead_letters'::regclass, 'clickstream_late_events'::regclass)
          and pg_get_constraintdef(oid) = 'PRIMARY KEY (topic, partition, source_offset, source_index)'";
    assert_eq!(stack.count(keys).await?, 2);
    let invalid = "select count(*) from pg_index join pg_class on pg_class.oid = indexrelid
        where relnamespace = 'clickstream'::regnamespace and not indisvalid";
    assert_eq!(stack.count(invalid).await?, 0);

    // its rows have the defaults, before the migration and behind it
    let click = clicks(10_000..10_001, now());
    let stamp = sent(&stack, 0, &click).await?;
    ensure!(first.flushes(0, &click, stamp).await? == 1);
    let rows = "select count(*) from clickstream_events
        where event_name = 'page_view' and bot = 0 and source_index = 0 and site is null and properties is null";
    assert_eq!(stack.count(rows).await?, i64::try_from(flushed + 1)?);

    let second = stack.start("second")?;
    stack.owned_by(&["second"]).await?;
    drop(first);
    sent(&stack, 1, &clicks(20_000..20_040, now())).await?;
    stack.drained().await?;
    stack.ends_clean(&[&second]).await?;
    let hits = "select sum(hits) from clickstream_agg_minute where event_name = 'page_view' and bot_hits = 0";
    assert_eq!(stack.count(hits).await?, i64::try_from(flushed + 41)?);
    Ok(())
}
