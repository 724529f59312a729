//! Day partitions: old logs, locks of other sessions, and retention.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clickstream_pipeline::event::{Day, EventTime};
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{Postgres, PostgresOptions, shared};

use crate::{
    records::{Click, Placed, after, before, clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

const DAY: Duration = Duration::from_secs(86_400);

async fn stack(target: &str) -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        target: target.to_owned(),
        ..StackOptions::default()
    })
    .await
}

/// Half of them on each of two partitions.
fn on_both(clicks: Vec<Click>) -> Vec<Placed> {
    let placed = |(place, click): (usize, &Click)| click.on(i32::from(place % 2 == 1));
    clicks.iter().enumerate().map(placed).collect()
}

fn noon(year: i32, month: i32, day: i32) -> EventTime {
    let day = Day::from_ymd(year, month, day).expect("a day of the calendar");
    after(day.start(), Duration::from_secs(43_200))
}

#[tokio::test]
async fn logs_of_2012_and_2015_land_in_their_own_days() -> anyhow::Result<()> {
    let stack = stack("").await?;
    let processor = stack.start("one")?;
    let mut sent = 0;
    for (seed, base) in [(1, noon(2012, 6, 1)), (2, noon(2015, 5, 17))] {
        // an event every 40 s: five days
        for part in 0..5_u64 {
            let options = GeneratorOptions {
                seed: seed * 10 + part,
                late: 0.0,
                malformed: 0.0,
                duplicates: 0.0,
                ..GeneratorOptions::default()
            };
            let base = after(base, DAY * u32::try_from(part)?);
            sent += stack.produce_from(options, base, 500).await?;
        }
    }
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, i64::try_from(sent)?);
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events_default")
            .await?,
        0
    );
    assert_eq!(
        stack
            .count("select count(distinct tableoid) from clickstream_events")
            .await?,
        10
    );
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events where event_date between '2012-06-01' and '2012-06-05'")
            .await?,
        2_500
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_log_of_two_months_in_one_flush_leaves_nothing_in_the_default_partition()
-> anyhow::Result<()> {
    let stack = stack("").await?;
    let mut records: Vec<Placed> = Vec::new();
    for day in 0..60_u32 {
        let at = after(noon(2014, 1, 1), DAY * day);
        let numbers = u64::from(day) * 20..u64::from(day + 1) * 20;
        records.extend(clicks(numbers, at).iter().map(|click| click.on(0)));
    }
    stack.place(records).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 1_200);
    stack
        .eventually(
            "every day has its own partition",
            "select not exists (select from clickstream_events_default) and count(distinct tableoid) = 60 from clickstream_events",
        )
        .await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_long_query_does_not_stop_the_stream_when_a_new_day_is_due() -> anyhow::Result<()> {
    let stack = stack("").await?;
    let processor = stack.start("one")?;
    let today = now();
    stack
        .place(
            clicks(0..100, before(today, DAY * 20))
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;

    // a reader of everything, which locks every partition, the default one too, until it is done
    let reader = stack.postgres.connect(&stack.database).await?;
    reader
        .batch_execute("begin; select count(*) from clickstream.clickstream_events")
        .await?;
    let begun = Instant::now();
    for day in [10, 9, 8] {
        let at = before(today, DAY * day);
        let numbers = u64::from(day) * 1_000..u64::from(day) * 1_000 + 100;
        stack
            .place(
                clicks(numbers, at)
                    .iter()
                    .map(|click| click.on(0))
                    .collect(),
            )
            .await?;
        stack.drained().await?;
    }
    ensure!(
        begun.elapsed() < Duration::from_secs(20),
        "the stream waited {:?} for a lock",
        begun.elapsed()
    );
    assert_eq!(stack.total("accepted").await?, 400);
    logged(&processor, "cannot create the partition of a day yet").await?;
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events_default")
            .await?,
        300
    );

    // when the reader is done the days are made and take their rows
    reader.batch_execute("commit").await?;
    stack
        .eventually(
            "the rows have moved into their days",
            "select not exists (select from clickstream_events_default)",
        )
        .await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn late_events_make_no_partitions_also_in_the_first_flush_after_a_start() -> anyhow::Result<()>
{
    let stack = stack("").await?;
    let processor = stack.start("one")?;
    let today = now();
    stack.place(on_both(clicks(0..100, today))).await?;
    stack.drained().await?;
    end(&processor).await?;
    let days = "select count(*) from clickstream_days()";
    let before_start = stack.count(days).await?;

    // sent by somebody who may send clicks: 1,000 days of 2005 to 2007
    let outliers = (0..1_000_u32).map(|day| {
        let at = after(noon(2005, 1, 1), DAY * day);
        Click::new(1_000 + u64::from(day), at)
    });
    let mut records = on_both(clicks(100..150, today));
    records.extend(outliers.map(|click| click.on(0)));
    stack.place(records).await?;
    let processor = stack.start("again")?;
    stack.drained().await?;
    assert_eq!(stack.total("merged").await?, 1_000);
    assert_eq!(stack.count(days).await?, before_start);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_day_summarises_its_times_and_freezes_by_itself() -> anyhow::Result<()> {
    let stack = stack("").await?;
    let processor = stack.start("one")?;
    stack.place(on_both(clicks(0..100, now()))).await?;
    stack.drained().await?;
    end(&processor).await?;
    let days = "from pg_inherits join pg_class as days on days.oid = inhrelid
        where inhparent = 'clickstream_events'::regclass and days.relname ~ '[0-9]{8}$'";
    let without = format!(
        "select count(*) {days} and not ('autovacuum_freeze_min_age=0' = any (coalesce(days.reloptions, '{{}}')))"
    );
    assert_eq!(stack.count(&without).await?, 0);
    let unsummarised = format!(
        "select count(*) from pg_index join pg_class as indexes on indexes.oid = indexrelid
         join pg_am as methods on methods.oid = indexes.relam
         where methods.amname = 'brin' and indrelid in (select days.oid {days})
           and not ('autosummarize=on' = any (coalesce(indexes.reloptions, '{{}}')))"
    );
    assert_eq!(stack.count(&unsummarised).await?, 0);
    Ok(())
}

#[tokio::test]
async fn eleven_years_of_days_and_late_events_do_not_stop_the_stream() -> anyhow::Result<()> {
    // the table of locks that a server with its defaults has
    let postgres = Postgres::start(PostgresOptions {
        settings: vec![("max_connections".to_owned(), "100".to_owned())],
        ..PostgresOptions::default()
    })
    .await?;
    let options = StackOptions {
        partitions: 2,
        // looks late events up among the stored ones
        spec: "  lateEvents:\n    policy: Divert\n".to_owned(),
        ..StackOptions::default()
    };
    let stack = Stack::on(shared::kafka().await?, postgres, options).await?;
    let first = noon(2012, 1, 1);
    // a transaction has locks for some hundred of them
    for hundred in 0..41_i32 {
        let text = format!(
            "set role {}; set search_path = clickstream;
             do $$ begin
                 for at in {}..{} loop
                     execute format(
                         'create table clickstream_events_%s partition of clickstream_events for values from (%L) to (%L)',
                         to_char(date '2012-01-01' + at, 'YYYYMMDD'), date '2012-01-01' + at, date '2012-01-01' + at + 1);
                 end loop;
             end $$;
             reset role",
            stack.owner,
            hundred * 100,
            hundred * 100 + 99
        );
        stack.client.batch_execute(&text).await?;
    }
    // grants their use, and finds a schema of so many tables in order
    let (code, log) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{log}");
    let processor = stack.start("one")?;
    stack.place(on_both(clicks(0..100, now()))).await?;
    stack.drained().await?;
    // each of another day, three flushes' worth of days at once
    let late = (0..400_u32).map(|day| {
        let at = after(first, DAY * (day * 10));
        Click::new(1_000 + u64::from(day), at)
    });
    let mut records: Vec<Placed> = late.clone().map(|click| click.on(0)).collect();
    records.extend(on_both(clicks(100..200, now())));
    // resends of late events
    records.extend(late.take(50).map(|click| click.on(1)));
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 200);
    assert_eq!(stack.total("late").await?, 400);
    assert_eq!(stack.total("duplicate").await?, 50);
    end(&processor).await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    Ok(())
}

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
                 accepted, duplicate, rejected, late, skipped)
             select '{}', 0, n, 'hourly', '{{}}', '{{}}', 0, 0, 0, 0, 0, 0 from generate_series(-100, -1) as n",
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
