//! Retention: days, ledgers and anchors that are past their time go, and nothing else does.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use clickstream_testbed::unique_name;

use crate::{
    days::{DAY, noon, on_both, stack},
    records::{Click, Placed, before, clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

#[tokio::test]
async fn a_day_that_takes_long_to_drop_does_not_hold_up_the_stream() -> anyhow::Result<()> {
    let stack = stack("    retention:\n      events: 48h\n").await?;
    let today = now();
    let processor = stack.start("one")?;
    for (day, numbers) in [(5, 0..100), (0, 100..200)] {
        stack
            .place(on_both(clicks(numbers, before(today, DAY * day))))
            .await?;
        stack.drained().await?;
    }
    end(&processor).await?;

    // somebody has begun to drop the day and died, and its table cannot be read for now
    let gone = before(today, DAY * 5).day().date();
    stack
        .client
        .execute("select clickstream.clickstream_detach_day($1)", &[&gone])
        .await?;
    let reader = stack.postgres.connect(&stack.database).await?;
    reader
        .batch_execute(&format!(
            "begin; lock table clickstream.clickstream_leaving_{} in access exclusive mode",
            gone.format("%Y%m%d")
        ))
        .await?;
    let processor = stack.start_with("again", &[("CLICKSTREAM_TEST_UPKEEP_MS", "200")])?;
    logged(&processor, "retention has to wait").await?;
    stack.place(on_both(clicks(200..300, today))).await?;
    stack.drained().await?;
    assert_eq!(stack.total("expired").await?, 0);

    reader.batch_execute("rollback").await?;
    stack
        .eventually(
            "the day is expired",
            "select sum(expired) = 100 from clickstream_checkpoints",
        )
        .await?;
    // the day after it too, which was made ahead of its time
    stack
        .eventually(
            "no day is on its way out",
            "select not exists (select from clickstream_leaving_days())",
        )
        .await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_reader_that_holds_the_lock_of_retention_is_named_and_can_be_ended() -> anyhow::Result<()>
{
    let stack = stack("    retention:\n      deadLetters: 48h\n").await?;
    let role = unique_name("reader");
    stack
        .client
        .batch_execute(&format!(
            "insert into clickstream.clickstream_dead_letters (topic, partition, source_offset, reason, detail, payload, received_at, stored_at)
             values ('old', 0, 0, 'malformed_json', '', '', '2020-01-01', '2020-01-01');
             create role {role} login"
        ))
        .await?;
    let reader = stack.postgres.connect_as(&role, &stack.database).await?;
    reader
        .batch_execute(
            "select pg_advisory_lock(hashtext('clickstream upkeep'), hashtext('clickstream'))",
        )
        .await?;
    let processor = stack.start_with("one", &[("CLICKSTREAM_TEST_UPKEEP_MS", "200")])?;
    let named = format!("of role {role}, which may not write here, holds the lock");
    logged(&processor, &named).await?;
    let log = processor.log();
    let (_, statement) = log.split_once("end it with: ").context("no statement")?;
    let statement = statement.split('"').next().unwrap_or_default();
    stack.client.batch_execute(statement).await?;
    stack
        .eventually(
            "the old dead letter goes",
            "select not exists (select from clickstream_dead_letters)",
        )
        .await?;
    end(&processor).await
}

#[tokio::test]
async fn retention_waits_for_a_partition_by_name_until_it_is_idle_and_reaches_outliers()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        spec: "  lateEvents:\n    policy: Store\n  watermark:\n    idleTimeout: 30s\n".to_owned(),
        target: "    retention:\n      events: 48h\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let today = now();
    let quick = [("CLICKSTREAM_TEST_UPKEEP_MS", "200")];
    let processor = stack.start_with("one", &quick)?;
    // nothing ever comes to partition 1
    let mut records: Vec<Placed> = Vec::new();
    for (day, numbers) in [(5, 0..50), (0, 50..100)] {
        let clicks = clicks(numbers, before(today, DAY * day));
        records.extend(clicks.iter().map(|click| click.on(0)));
    }
    // late, stored, and of a day without a partition
    records.push(Click::new(100, noon(2001, 1, 1)).on(0));
    stack.place(records).await?;
    stack.drained().await?;
    logged(&processor, "days past their retention are kept").await?;
    assert_eq!(stack.total("expired").await?, 0);
    // the partition counts as idle after 30 s, and holds nothing back any more
    stack
        .eventually(
            "the day and the outlier are expired",
            "select sum(expired) = 50 and sum(expired_late) = 1 from clickstream_checkpoints",
        )
        .await?;
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events")
            .await?,
        50
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn ledgers_expire_in_batches_and_keep_what_is_younger() -> anyhow::Result<()> {
    let stack = stack(
        "    retention:\n      aggregates: 48h\n      deadLetters: 48h\n      lateEvents: 48h\n",
    )
    .await?;
    // more than two batches of each, beside one row of today
    stack
        .client
        .batch_execute(
            "set search_path = clickstream;
             insert into clickstream_agg_lanes
             select day, day + interval '1 minute', substr(sha256(convert_to(n::text, 'UTF8')), 1, 16), 0, 1, n::text
             from generate_series(1, 12000) as n, (values (timestamptz '2020-01-01 00:00Z')) as days (day);
             insert into clickstream_dead_letters (topic, partition, source_offset, reason, detail, payload, received_at, stored_at)
             select 'other', 0, n, 'invalid_json', '', '', '2020-01-01', '2020-01-01' from generate_series(1, 12000) as n;
             insert into clickstream_late_events (topic, partition, source_offset, event_id, user_id, event_ts, event_date, url,
                 received_at, stored_at)
             select 'other', 0, n, gen_random_uuid(), 'u', '2020-01-01', '2020-01-01', '/', '2020-01-01', '2020-01-01'
             from generate_series(1, 12000) as n",
        )
        .await?;
    let processor = stack.start("one")?;
    stack.place(on_both(clicks(0..100, now()))).await?;
    stack.place(vec![(0, Some(b"{".to_vec()))]).await?;
    stack.drained().await?;
    stack
        .eventually(
            "the old rows are gone",
            "select not exists (select from clickstream_agg_lanes where window_start < '2021-01-01')
                and not exists (select from clickstream_late_events)
                and (select count(*) = 1 from clickstream_dead_letters)",
        )
        .await?;
    assert_eq!(
        stack
            .count("select sum(hits) from clickstream_agg_minute")
            .await?,
        100
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn anchors_that_the_log_has_left_behind_go_but_the_newest() -> anyhow::Result<()> {
    let stack = stack("").await?;
    stack
        .client
        .batch_execute(&format!(
            "insert into clickstream.clickstream_anchors (topic, partition, next_offset, reason, spec, clock_times, consumed,
                 accepted, merged, duplicate, rejected, late, skipped)
             select '{}', 0, n, 'hourly', '{{}}', '{{}}', 0, 0, 0, 0, 0, 0, 0 from generate_series(-100, -1) as n",
            stack.topic
        ))
        .await?;
    let processor = stack.start_with("one", &[("CLICKSTREAM_TEST_ANCHOR_MS", "200")])?;
    stack.place(on_both(clicks(0..100, now()))).await?;
    stack.drained().await?;
    stack
        .eventually(
            "only what an audit can start from is kept",
            "select min(next_offset) = 0 from clickstream_anchors",
        )
        .await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn retention_drops_whole_days_and_counts_them_as_expired() -> anyhow::Result<()> {
    let stack = stack("    retention:\n      events: 48h\n").await?;
    let today = now();
    let processor = stack.start("one")?;
    for (day, numbers) in [(5, 0..100), (4, 100..200), (0, 200..300)] {
        let at = before(today, DAY * day);
        stack
            .place(
                clicks(numbers, at)
                    .iter()
                    .enumerate()
                    .map(|(place, click)| click.on(place as i32 % 2))
                    .collect(),
            )
            .await?;
        stack.drained().await?;
    }
    end(&processor).await?;
    assert_eq!(stack.total("expired").await?, 0);
    stack.audit().await?;

    // maintenance is the first thing that a processor does
    let processor = stack.start("again")?;
    stack
        .eventually(
            "two days are expired",
            "select sum(expired) = 200 from clickstream_checkpoints",
        )
        .await?;
    // the day after them too, which was made ahead of its time
    let kept = before(today, DAY * 2).day().date();
    stack
        .eventually(
            "no day is on its way out",
            &format!(
                "select not exists (select from clickstream_days() where day < '{kept}')
                    and not exists (select from clickstream_leaving_days())"
            ),
        )
        .await?;
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events")
            .await?,
        100
    );
    assert_eq!(stack.total("accepted").await?, 300);
    assert_eq!(
        stack
            .count("select sum(hits) from clickstream_agg_minute")
            .await?,
        300
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn replaying_an_old_log_under_retention_drops_nothing_that_it_writes() -> anyhow::Result<()> {
    let stack = stack("    retention:\n      events: 48h\n").await?;
    let old = noon(2015, 5, 17);
    let processor = stack.start("one")?;
    for partition in [0, 1] {
        let numbers = partition as u64 * 100..partition as u64 * 100 + 100;
        stack
            .place(
                clicks(numbers, old)
                    .iter()
                    .map(|click| click.on(partition))
                    .collect(),
            )
            .await?;
    }
    stack.drained().await?;
    end(&processor).await?;
    let processor = stack.start("again")?;
    logged(&processor, "partitions assigned").await?;
    // the days ahead are made after retention has had its turn
    let deadline = Instant::now() + PATIENCE;
    while stack
        .count("select count(*) from clickstream_days() where day > now()")
        .await?
        == 0
    {
        ensure!(Instant::now() < deadline, "no maintenance");
        tokio::task::yield_now().await;
    }
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events")
            .await?,
        200
    );
    assert_eq!(stack.total("expired").await?, 0);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
