//! Records with several events: each event counts by itself, and all of a record are committed
//! together.

use std::time::{Duration, Instant};

use clickstream_pipeline::event::EventTime;

use crate::{
    progress::SHORT_SESSION,
    records::{Click, Placed, before, clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::end,
};

/// New events of each batch.
const FRESH: u64 = 20;
/// Batches that are sent at once.
const BURST: u64 = 20;

async fn stack_with(spec: &str) -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        spec: spec.to_owned(),
        ..StackOptions::default()
    })
    .await
}

fn joined(elements: &[Vec<u8>]) -> Vec<u8> {
    elements.join(&b","[..])
}

/// New events, one of them twice, one that the batch before it on the partition had, a number, and
/// an event without a URL.
fn batch(number: u64, at: EventTime) -> Placed {
    let first = number * FRESH;
    let mut events: Vec<Vec<u8>> = clicks(first..first + FRESH, at)
        .iter()
        .map(Click::json)
        .collect();
    events.push(events[0].clone());
    let before = number.checked_sub(2).unwrap_or(number) * FRESH;
    events.push(Click::new(before, at).json());
    events.push(b"7".to_vec());
    let url = format!(r#","url":"{}""#, Click::new(first, at).url);
    let whole = String::from_utf8_lossy(&events[0]).into_owned();
    events.push(whole.replace(&url, "").into_bytes());
    let record = [&b"{\"batch\":["[..], &joined(&events), b"]}"].concat();
    ((number % 2) as i32, Some(record))
}

async fn is(stack: &Stack, query: &str) -> anyhow::Result<bool> {
    let row = stack
        .client
        .query_one(&format!("select {query}"), &[])
        .await?;
    Ok(row.get(0))
}

/// What an audit says once something was changed, which is changed back afterwards.
async fn audit_after(stack: &Stack, change: &str, back: &str) -> anyhow::Result<String> {
    assert!(stack.client.execute(change, &[]).await? > 0, "{change}");
    let (code, report) = stack.command(&["audit"]).await?;
    assert_eq!(code, 3, "{report}");
    if !back.is_empty() {
        stack.client.execute(back, &[]).await?;
    }
    Ok(report)
}

#[tokio::test]
async fn batches_are_lost_and_doubled_by_no_crash() -> anyhow::Result<()> {
    let stack = stack_with("  events: { batch: /batch }\n").await?;
    let (mut sent, at) = (0, now());
    for point in [
        "after_begin",
        "after_upsert",
        "after_advance",
        "commit_sent",
        "commit_acknowledged",
    ] {
        // a batch without events, and an event that comes alone
        let alone = Click::new(1_000_000 + sent, at);
        let empty = Some(b"{\"batch\":[]}".to_vec());
        stack.place(vec![(0, empty), alone.on(1)]).await?;
        let action = format!("{point}=1*off->return");
        let settings = [("FAILPOINTS", action.as_str()), SHORT_SESSION];
        let processor = stack.start_with(point, &settings)?;
        let deadline = Instant::now() + PATIENCE;
        while processor.exited()?.is_none() {
            assert!(Instant::now() < deadline, "{}", processor.log_tail());
            let records = (sent..sent + BURST).map(|number| batch(number, at));
            stack.place(records.collect()).await?;
            sent += BURST;
        }
    }
    let processor = stack.start("last")?;
    stack.drained().await?;
    end(&processor).await?;
    // each of the first batches of both partitions has its own first event a third time
    let expected = format!(
        "(select sum(accepted) = {} and sum(duplicate) = {} and sum(rejected) = {} and sum(skipped) = 5
            from clickstream_checkpoints)
         and (select count(*) = {} from clickstream_events where source_index between 1 and 19)
         and (select count(*) = {sent} and count(distinct (partition, source_offset)) = {sent}
            from clickstream_dead_letters where source_index = {} and payload = '7')
         and (select sum(hits) = {} from clickstream_agg_minute)",
        sent * FRESH + 5,
        2 * sent,
        2 * sent,
        sent * (FRESH - 1),
        FRESH + 2,
        sent * FRESH + 5,
    );
    assert!(is(&stack, &expected).await?, "{}", processor.log_tail());
    let report = stack.audit().await?;
    assert_eq!(report["records"], sent * (FRESH + 4) + 10, "{report}");

    let of = |index| {
        format!("where source_partition = 0 and source_offset = 2 and source_index = {index}")
    };
    let set = |to, from| {
        format!(
            "update clickstream_events set source_index = {to} {}",
            of(from)
        )
    };
    let report = audit_after(&stack, &set(30, 3), &set(3, 30)).await?;
    assert!(
        report.contains("source_index not as in the log"),
        "{report}"
    );
    // at the place of the event that it made a duplicate
    let report = audit_after(&stack, &set(20, 0), &set(0, 20)).await?;
    assert!(report.contains("stored only later"), "{report}");
    let delete = "delete from clickstream_dead_letters
        where partition = 1 and source_offset = 1 and source_index = 23";
    let report = audit_after(&stack, delete, "").await?;
    assert!(report.contains("not in the dead letters"), "{report}");
    Ok(())
}

#[tokio::test]
async fn late_events_of_records_that_are_arrays_have_places_of_their_own() -> anyhow::Result<()> {
    let spec = "  events: { batch: \"\" }\n  lateEvents: { policy: Divert }\n";
    let stack = stack_with(spec).await?;
    let at = now();
    let array = |events: &[Click]| {
        let events: Vec<Vec<u8>> = events.iter().map(Click::json).collect();
        Some([&b"["[..], &joined(&events), b"]"].concat())
    };
    let long_ago = before(at, Duration::from_secs(7_200));
    let late = clicks(100..103, long_ago);
    let again = [&late[..], &late[1..2]].concat();
    stack
        .place(vec![
            (0, array(&clicks(0..40, at))),
            (0, array(&again)),
            (0, Some(b"[]".to_vec())),
            (0, Some(b"[7".to_vec())),
        ])
        .await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    end(&processor).await?;
    let expected =
        "(select accepted = 40 and late = 3 and duplicate = 1 and rejected = 1 and skipped = 1
            from clickstream_checkpoints where partition = 0)
        and (select array_agg(source_index order by source_index) = '{0,1,2}'
            from clickstream_late_events where source_offset = 1)
        and (select payload = '[7' and source_index = 0 from clickstream_dead_letters)";
    assert!(is(&stack, expected).await?, "{}", processor.log_tail());
    stack.audit().await?;
    let change = "update clickstream_late_events set source_index = 7 where source_index = 2";
    let report = audit_after(&stack, change, "").await?;
    assert!(
        report.contains("source_index not as in the log"),
        "{report}"
    );
    Ok(())
}
