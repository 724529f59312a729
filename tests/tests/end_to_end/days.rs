//! Day partitions: old logs, locks of other sessions, and retention.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clickstream_pipeline::event::{Day, EventTime};
use clickstream_producer::generator::GeneratorOptions;

use crate::{
    records::{Placed, after, before, clicks, now},
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
