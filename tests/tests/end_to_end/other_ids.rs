//! Ids that are no UUIDs and times as a warehouse writes them, found by rules for mapping: what is
//! sent again counts once.

use std::{collections::BTreeMap, time::Duration};

use clickstream_pipeline::event::{EventTime, id::of_text};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    records::{Placed, before, now},
    stack::{Stack, StackOptions},
    watch::end,
};

const EVENTS: u64 = 20;

/// An id of one of five kinds, as platforms and their libraries make them.
fn id(number: u64) -> String {
    let random = Uuid::new_v5(&Uuid::NAMESPACE_URL, &number.to_be_bytes());
    let second = 1_795_168_800 + number;
    match number % 5 {
        0 => format!("ajs-next-{second}-{random}"),
        1 => format!("ajs-{}", random.simple()),
        2 => format!("01KAFZ03J8X5Y3ZQ9V7W2T{number:04}"),
        3 => format!("node-next-{second}-{random}"),
        _ => format!("{second}.{number:06}"),
    }
}

/// A time; every fourth as BigQuery writes it.
fn time(number: u64, at: EventTime) -> String {
    let text = at.to_string();
    match number % 4 {
        3 => text.replace('T', " ").replace('Z', " UTC"),
        _ => text,
    }
}

/// A page call.
fn call(number: u64, at: EventTime) -> Value {
    json!({
        "type": "page",
        "messageId": id(number),
        "anonymousId": format!("anonymous-{}", number % 4),
        "timestamp": time(number, at),
        "context": { "page": { "url": format!("https://shop.example/p/{}", number % 3) } },
    })
}

/// The same as a row of the table that a platform makes of its page calls.
fn row(number: u64, at: EventTime) -> Value {
    json!({
        "id": id(number),
        "anonymous_id": format!("anonymous-{}", number % 4),
        "timestamp": time(number, at),
        "context_page_url": format!("https://shop.example/p/{}", number % 3),
    })
}

/// Sends twenty events, and the first ten again.
async fn count_once(spec: &str, event: fn(u64, EventTime) -> Value) -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        spec: spec.to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let newest = now();
    let at = |number| before(newest, Duration::from_secs(EVENTS - number));
    let on = |number: u64| -> Placed {
        let value = event(number, at(number)).to_string().into_bytes();
        ((number % 2) as i32, Some(value))
    };
    stack.place((0..EVENTS).map(on).collect()).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 20);
    stack.place((0..10).map(on).collect()).await?;
    stack.drained().await?;
    for (counter, expected) in [("accepted", 20), ("duplicate", 10), ("rejected", 0)] {
        assert_eq!(stack.total(counter).await?, expected, "{counter}");
    }
    let hits = "select sum(hits) from clickstream_agg_minute";
    assert_eq!(stack.count(hits).await?, 20);

    let columns = "select event_id::text, floor(extract(epoch from event_ts) * 1000000)::bigint
        from clickstream_events";
    let stored = stack.client.query(columns, &[]).await?;
    let stored: BTreeMap<String, i64> = stored.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = (0..EVENTS).map(|number| {
        let event_id = of_text(&id(number)).to_string();
        (event_id, at(number).micros())
    });
    assert_eq!(stored, expected.collect());
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn calls_with_ids_that_are_no_uuids_count_once_by_a_preset() -> anyhow::Result<()> {
    count_once("  events: { preset: Segment }\n", call).await
}

#[tokio::test]
async fn rows_of_a_warehouse_count_once_by_rules_of_ones_own() -> anyhow::Result<()> {
    let spec = "  events:
    preset: Segment
    fields:
      event_id: [/id]
      user_id: [/anonymous_id]
      url: [/context_page_url]
";
    count_once(spec, row).await
}
