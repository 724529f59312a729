//! A day that gets its partition while rows of it are on their way into the default partition, as
//! happens when several processors read an old log: the loser tries again, and no row is lost,
//! refused or left behind.

use clickstream_pipeline::event::EventTime;
use clickstream_testbed::Process;
use tokio_postgres::Client;

use crate::{
    days::{noon, stack},
    records::{Click, Placed, clicks},
    stack::Stack,
    watch::{end, logged},
};

/// Somebody waits for the default partition.
const WAITS: &str = "select exists (
    select from pg_locks
    where not granted and relation = 'clickstream.clickstream_events_default'::regclass
      and database = (select oid from pg_database where datname = current_database()))";

/// A processor that has made the days of the wall clock, and another session of its database.
async fn ready(stack: &Stack) -> anyhow::Result<(Process, Client)> {
    let processor = stack.start("one")?;
    stack
        .eventually(
            "the days ahead are made",
            "select count(*) >= 2 from clickstream_days()",
        )
        .await?;
    let other = stack.postgres.connect(&stack.database).await?;
    Ok((processor, other))
}

/// That many clicks of a day, on one partition.
fn of_day(from: u64, count: u64, day: EventTime) -> Vec<Placed> {
    let clicks = clicks(from..from + count, day);
    clicks.iter().map(|click| click.on(0)).collect()
}

#[tokio::test]
async fn rows_whose_day_is_made_while_they_wait_for_the_default_partition_go_into_the_day()
-> anyhow::Result<()> {
    let stack = stack("").await?;
    let (processor, other) = ready(&stack).await?;
    // by COPY, and by insert
    for (times, (count, day)) in [(100, noon(2015, 5, 17)), (20, noon(2015, 5, 20))]
        .into_iter()
        .enumerate()
    {
        let date = day.day();
        other
            .batch_execute(&format!(
                "begin; select clickstream.clickstream_create_day('{date}')"
            ))
            .await?;
        stack
            .place(of_day(1_000 * times as u64, count, day))
            .await?;
        stack
            .eventually("a flush waits for the default partition", WAITS)
            .await?;
        other.batch_execute("commit").await?;
        stack.drained().await?;
        let stored = format!(
            "select count(*) from clickstream_events_{}",
            date.to_string().replace('-', "")
        );
        assert_eq!(stack.count(&stored).await?, i64::try_from(count)?);
    }
    assert_eq!(stack.total("accepted").await?, 120);
    assert_eq!(stack.total("rejected").await?, 0);
    logged(&processor, "flush is repeated").await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_day_is_made_although_a_row_of_it_comes_into_the_default_partition_meanwhile()
-> anyhow::Result<()> {
    let stack = stack("").await?;
    let (processor, other) = ready(&stack).await?;
    let day = noon(2016, 2, 29);
    let stray = Click::new(9_999, day).id;
    other
        .batch_execute(&format!(
            "begin;
             insert into clickstream.clickstream_events
                 (event_id, user_id, event_ts, event_date, url, received_at, source_topic_id, source_partition, source_offset)
             values ('{stray}', 'planted', '2016-02-29 12:00Z', '2016-02-29', '/', now(), 1, 0, 0)"
        ))
        .await?;
    stack.place(of_day(0, 100, day)).await?;
    stack
        .eventually("the day waits for the default partition", WAITS)
        .await?;
    other.batch_execute("commit").await?;
    stack.drained().await?;
    stack
        .eventually(
            "all rows are in their day",
            "select count(*) = 101 from clickstream_events where tableoid = to_regclass('clickstream_events_20160229')",
        )
        .await?;
    assert_eq!(stack.total("accepted").await?, 100);
    let taken_out = format!("delete from clickstream_events where event_id = '{stray}'");
    assert_eq!(stack.client.execute(&taken_out, &[]).await?, 1);
    end(&processor).await?;
    assert!(!processor.log().contains("planted"), "{}", processor.log());
    stack.audit().await?;
    Ok(())
}
