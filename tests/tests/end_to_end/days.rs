//! Day partitions: old logs, late events, locks of other sessions, and years of days.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clickstream_pipeline::event::{Day, EventTime};
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{Postgres, PostgresOptions, shared};

use crate::{
    records::{Click, Placed, after, before, clicks, now},
    stack::{Stack, StackOptions},
    watch::{end, logged},
};

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// A pipeline of a topic with two partitions; `target` is lines of the target in its document.
pub async fn stack(target: &str) -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        target: target.to_owned(),
        ..StackOptions::default()
    })
    .await
}

/// Half of them on each of two partitions.
pub fn on_both(clicks: Vec<Click>) -> Vec<Placed> {
    let placed = |(place, click): (usize, &Click)| click.on(i32::from(place % 2 == 1));
    clicks.iter().enumerate().map(placed).collect()
}

/// Noon of a day.
pub fn noon(year: i32, month: i32, day: i32) -> EventTime {
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
async fn a_generated_column_that_people_have_added_is_in_new_days_too() -> anyhow::Result<()> {
    let stack = stack("").await?;
    let processor = stack.start("one")?;
    let today = now();
    let at = before(today, DAY * 20);
    stack.place(on_both(clicks(0..100, at))).await?;
    stack.drained().await?;
    let add = "alter table clickstream_events
        add column weekday smallint generated always as (extract(isodow from event_date)::smallint) stored";
    stack.client.batch_execute(add).await?;

    // a day that is made before its rows come, and one that finds rows of it in the default
    // partition
    let at = before(today, DAY * 10);
    stack.place(on_both(clicks(100..500, at))).await?;
    stack.drained().await?;
    let reader = stack.postgres.connect(&stack.database).await?;
    reader
        .batch_execute("begin; select count(*) from clickstream.clickstream_events")
        .await?;
    let at = before(today, DAY * 5);
    stack.place(on_both(clicks(500..600, at))).await?;
    stack.drained().await?;
    let outliers = "select count(*) from clickstream_events_default";
    assert_eq!(stack.count(outliers).await?, 100);
    reader.batch_execute("commit").await?;
    stack
        .eventually(
            "every row is in the partition of its day, with its weekday",
            "select count(*) = 600 and bool_and(weekday = extract(isodow from event_ts at time zone 'UTC'))
                and bool_and(tableoid <> 'clickstream_events_default'::regclass)
             from clickstream_events",
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
async fn eleven_years_of_days_and_late_events_stop_neither_the_stream_nor_an_audit()
-> anyhow::Result<()> {
    // the table of locks that a server with its defaults has
    let postgres = Postgres::start(PostgresOptions {
        settings: vec![("max_connections".to_owned(), "100".to_owned())],
        ..PostgresOptions::default()
    })
    .await?;
    let options = StackOptions {
        partitions: 3,
        // looks late events up among the stored ones
        spec: "  lateEvents:\n    policy: Divert\n".to_owned(),
        ..StackOptions::default()
    };
    let stack = Stack::on(shared::kafka().await?, postgres, options).await?;
    let first = noon(2012, 1, 1);
    make_days(&stack, 4_100).await?;
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
    // a week, on time
    for day in 0..8_u32 {
        let numbers = 2_000 + u64::from(day) * 10..2_010 + u64::from(day) * 10;
        let clicks = clicks(numbers, before(now(), DAY * (7 - day)));
        records.extend(clicks.iter().map(|click| click.on(2)));
    }
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 280);
    assert_eq!(stack.total("late").await?, 400);
    assert_eq!(stack.total("duplicate").await?, 50);
    end(&processor).await?;
    stack.audit().await?;
    audit_without_the_beginning_of_the_log(&stack).await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    Ok(())
}

/// Gives `days` days from 2012 on a partition each.
async fn make_days(stack: &Stack, days: i32) -> anyhow::Result<()> {
    // a transaction has locks for some hundred of them
    for hundred in 0..days / 100 {
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
    Ok(())
}

/// Aggregates are compared with the rows of all time then, and a row that no record explains is
/// looked for among all days.
async fn audit_without_the_beginning_of_the_log(stack: &Stack) -> anyhow::Result<()> {
    let processor = stack.start("again")?;
    let clicks = clicks(3_000..3_300, now());
    let placed = clicks.iter().zip((0..3).cycle());
    stack
        .place(
            placed
                .map(|(click, partition)| click.on(partition))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    end(&processor).await?;
    for partition in 0..3 {
        let claimed = stack
            .count(&format!(
                "select max(next_offset) from clickstream_anchors where partition = {partition}"
            ))
            .await?;
        stack
            .kafka
            .delete_records(&stack.topic, partition, claimed)
            .await?;
    }
    let report = stack.audit().await?;
    let notes = report["notes"].to_string();
    assert!(notes.contains("compared with the stored rows"), "{notes}");

    let stray = format!(
        "insert into clickstream.clickstream_events
             (event_id, user_id, event_ts, event_date, url, received_at, source_topic_id, source_partition, source_offset)
         select gen_random_uuid(), user_id, '2013-05-05 12:00Z', '2013-05-05', url, received_at, source_topic_id,
             source_partition, source_offset
         from clickstream.clickstream_events
         where event_date = '{}' and source_partition = 2 order by source_offset desc limit 1",
        now().day()
    );
    assert_eq!(stack.client.execute(&stray, &[]).await?, 1);
    let (code, said) = stack.command(&["audit"]).await?;
    assert_eq!(code, 3, "{said}");
    for found in [
        "stray_row",
        "of 2013-05-05 names this record",
        "window 2013-05-05",
    ] {
        assert!(said.contains(found), "no {found:?} in: {said}");
    }
    Ok(())
}
