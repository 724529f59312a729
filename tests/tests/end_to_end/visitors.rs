//! Distinct users and visits: sets that unite over partitions, processors and windows.

use clickstream_pipeline::{event::EventTime, sketch::Sketch};

use crate::{
    records::{Click, Placed, now},
    stack::{Stack, StackOptions},
    watch::end,
};

const MINUTE: i64 = 60_000_000;

async fn stack(partitions: i32) -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions,
        ..StackOptions::default()
    })
    .await
}

/// A click of this user in this visit.
fn click(number: u64, user: &str, at: EventTime) -> Vec<u8> {
    let click = Click::new(number, at);
    format!(
        r#"{{"event_id":"{}","user_id":"{user}","session_id":"visit of {user}","event_ts":{},"url":"/"}}"#,
        click.id,
        at.micros() / 1_000,
    )
    .into_bytes()
}

/// The beginning of the minute this many minutes before `at`. A test takes `at` once: a clock that
/// reaches the next minute between two clicks would put them into two windows.
fn minute(at: EventTime, back: i64) -> EventTime {
    EventTime::from_micros((at.micros() / MINUTE - back) * MINUTE)
}

async fn visitors_and_sessions(stack: &Stack, windows: &str) -> anyhow::Result<(i64, i64)> {
    let query =
        format!("select visitors, sessions from clickstream_traffic_minute where {windows}");
    let row = stack.client.query_one(&query, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test]
async fn a_visitor_whose_clicks_lie_on_several_partitions_counts_once() -> anyhow::Result<()> {
    let stack = stack(4).await?;
    let processor = stack.start("one")?;
    let window = minute(now(), 2);
    // a producer without keys: each click of a visitor on the next partition
    let records: Vec<Placed> = (0..160)
        .map(|number| {
            let user = format!("user-{}", number / 4 % 10);
            (number as i32 % 4, Some(click(number, &user, window)))
        })
        .collect();
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(visitors_and_sessions(&stack, "true").await?, (10, 10));
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_visitor_of_several_windows_and_processors_counts_once() -> anyhow::Result<()> {
    let stack = stack(2).await?;
    let at = now();
    // the same 300 people in each of three minutes, each minute by another processor
    for back in (1..=3).rev() {
        let processor = stack.start("one")?;
        let records: Vec<Placed> = (0..600)
            .map(|number| {
                let user = format!("user-{}", number % 300);
                let json = click(number + 1_000 * back as u64, &user, minute(at, back));
                (number as i32 % 2, Some(json))
            })
            .collect();
        stack.place(records).await?;
        stack.drained().await?;
        end(&processor).await?;
    }
    let by_window = "select sum(visitors)::bigint from clickstream_traffic_minute";
    let each = stack.count(by_window).await?;
    assert!((870..=930).contains(&each), "{each} in three windows");
    let row = stack
        .client
        .query_one(
            "select visitors, sessions, older_windows from clickstream_visitors(now() - interval '1 hour', now())",
            &[],
        )
        .await?;
    let (visitors, sessions, older): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!((290..=310).contains(&visitors), "{visitors} visitors");
    assert!((290..=310).contains(&sessions), "{sessions} sessions");
    assert_eq!(older, 0);
    let none = "select visitors + sessions from clickstream_visitors('2001-01-01', '2001-01-02')";
    assert_eq!(stack.count(none).await?, 0, "a time without windows");
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn the_number_of_a_set_is_within_its_error_from_nobody_to_a_million() -> anyhow::Result<()> {
    let stack = stack(1).await?;
    let statement = stack
        .client
        .prepare(
            "select clickstream_distinct(('x' || encode($1::bytea, 'hex'))::varbit::bit(24576))",
        )
        .await?;
    let mut sketch = Sketch::default();
    let mut added = 0;
    for number in [
        0, 1, 2, 10, 63, 64, 65, 100, 1_000, 10_000, 100_000, 1_000_000,
    ] {
        while added < number {
            sketch.add(&format!("user-{added}"));
            added += 1;
        }
        let found: i64 = stack
            .client
            .query_one(&statement, &[&sketch.bytes()])
            .await?
            .get(0);
        // 2 % is the standard error: four of them
        let wrong = (found - number).abs() as f64 / number.max(1) as f64;
        assert!(wrong < 0.08, "{found} for {number}");
        assert!(number > 20 || found == number, "{found} for {number}");
    }
    Ok(())
}

#[tokio::test]
async fn a_window_that_an_earlier_version_wrote_keeps_its_numbers_and_says_so() -> anyhow::Result<()>
{
    let stack = stack(2).await?;
    let processor = stack.start("one")?;
    let window = minute(now(), 2);
    let records: Vec<Placed> = (0..40)
        .map(|number| {
            let user = format!("user-{}", number % 20);
            (number as i32 % 2, Some(click(number, &user, window)))
        })
        .collect();
    stack.place(records).await?;
    stack.drained().await?;
    // as the version before leaves one partition's row of the window
    stack
        .client
        .execute(
            "update clickstream_traffic_parts set sketch_format = 1, visitors = 12, sessions = 11, visitors_bits = null, sessions_bits = null
             where partition = 0",
            &[],
        )
        .await?;
    assert_eq!(
        visitors_and_sessions(&stack, "true").await?,
        (22, 21),
        "12 and 11, and 10 of the other partition"
    );
    // the new version adds to it: no fewer than there are now
    let more: Vec<Placed> = (100..130)
        .map(|number| (0, Some(click(number, &format!("new-{number}"), window))))
        .collect();
    stack.place(more).await?;
    stack.drained().await?;
    assert_eq!(
        visitors_and_sessions(&stack, "true").await?,
        (40, 40),
        "30 and 10"
    );
    let row = stack
        .client
        .query_one(
            "select visitors, older_windows from clickstream_visitors(now() - interval '1 hour', now())",
            &[],
        )
        .await?;
    assert_eq!(
        (row.get::<_, Option<i64>>(0), row.get::<_, i64>(1)),
        (None, 1)
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
