//! How fast an audit is: `cargo test --release -p clickstream-processor --test audit -- --ignored
//! --nocapture`.

use std::time::Instant;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{clicks::Click, pipeline::Pipeline};

const PARTITIONS: i32 = 4;
/// Records that are made and sent at a time.
const PORTION: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a benchmark: minutes, and of use in the release profile only"]
async fn a_hundred_thousand_records_are_compared_a_second() -> anyhow::Result<()> {
    let records: usize =
        std::env::var("CLICKSTREAM_AUDIT_RECORDS").map_or(Ok(1_000_000), |count| count.parse())?;
    for (name, time_ordered) in [("version 7", true), ("version 4", false)] {
        let pipeline = Pipeline::new(PARTITIONS, "{}", "").await?;
        let from = Utc::now() - TimeDelta::hours(20);
        let mut previous = Vec::new();
        for first in (0..records).step_by(PORTION) {
            let numbers = first..(first + PORTION).min(records);
            pipeline
                .send(
                    numbers
                        .map(|number| click(number, time_ordered, from, &mut previous))
                        .collect(),
                )
                .await?;
        }
        let begun = Instant::now();
        pipeline.drain().await?;
        let drained = begun.elapsed();
        let begun = Instant::now();
        let (code, text) = pipeline.audit_command("table").await?;
        let audited = begun.elapsed();
        let rate = records as f64 / audited.as_secs_f64();
        eprintln!(
            "{text}\nids of {name}: drained in {drained:.1?}, audited in {audited:.1?}: {rate:.0} records/s"
        );
        assert_eq!(code, Some(0));
        assert!(rate >= 100_000.0, "{rate:.0} records/s");
    }
    Ok(())
}

/// A record of about 250 bytes; 2 % repeat an earlier one, 1 % are malformed.
fn click(
    number: usize,
    time_ordered: bool,
    from: DateTime<Utc>,
    previous: &mut Vec<Click>,
) -> Click {
    if number % 50 == 49 {
        return previous[number * 7 % previous.len()].clone();
    }
    let partition = i32::try_from(number).unwrap_or(0) % PARTITIONS;
    if number % 100 == 30 {
        return Click {
            partition,
            value: Some(b"{\"event_id\":\"not an event\"}".to_vec()),
        };
    }
    let time = from + TimeDelta::milliseconds(i64::try_from(number).unwrap_or(0) * 50);
    let id = if time_ordered {
        Uuid::now_v7()
    } else {
        Uuid::new_v4()
    };
    let value = json!({
        "event_id": id,
        "user_id": format!("user-{}", number * 7 % 10_007),
        "event_ts": time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "url": format!("https://shop.example.com/products/{}", number * 13 % 503),
        "referrer": "https://www.example.com/search?q=shoes",
        "ip": format!("192.0.2.{}", number % 250),
        "session_id": format!("visit-{}", number / 40),
    });
    let click = Click {
        partition,
        value: Some(value.to_string().into_bytes()),
    };
    previous.push(click.clone());
    if previous.len() > 1_000 {
        previous.swap_remove(number % 1_000);
    }
    click
}
