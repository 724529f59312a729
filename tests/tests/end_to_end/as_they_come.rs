//! Events as feeds have them: ids that are no UUIDs, times in every unit, addresses as proxies
//! write them. They are stored, once each, and the audit reads them by the same rules.

use clickstream_pipeline::event::id::of_text;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    records::Placed,
    stack::{Stack, StackOptions},
    watch::end,
};

/// 2026-11-20T10:00:00Z.
const SECONDS: i64 = 1_795_168_800;

/// An id, a time, an address and a session as a feed writes them, and as they are stored: time in
/// milliseconds behind [`SECONDS`], address and session as text.
type Case = (
    Value,
    Value,
    Value,
    Value,
    (i64, Option<&'static str>, Option<&'static str>),
);

fn cases() -> Vec<Case> {
    let long = format!("s{}", "x".repeat(200));
    let none: Value = Value::Null;
    vec![
        // customer-data platforms
        (
            json!("web-1795168800-5b1d0b3e"),
            json!("2026-11-20T10:00:00.250Z"),
            json!("203.0.113.9"),
            json!("s1"),
            (250, Some("203.0.113.9"), Some("s1")),
        ),
        (
            json!("01KAFZ03J8X5Y3ZQ9V7W2T1R4N"),
            json!("2026-11-20 10:00:01.250 UTC"),
            json!("203.0.113.9, 10.0.0.7"),
            json!(17),
            (1_250, Some("203.0.113.9"), Some("17")),
        ),
        (
            json!("ev_9fK2-Zq"),
            json!("2026-11-20T11:00:02+0100"),
            json!("unknown, 203.0.113.9:4711"),
            json!(""),
            (2_000, Some("203.0.113.9"), None),
        ),
        (
            json!(4_711),
            json!(SECONDS + 3),
            json!("[2001:db8::9]:443"),
            none.clone(),
            (3_000, Some("2001:db8::9"), None),
        ),
        (
            json!("4712"),
            json!(4.25 + 1_795_168_800.0),
            json!("-"),
            json!({ "id": 1 }),
            (4_250, None, None),
        ),
        // data warehouses
        (
            json!("row 5"),
            json!((SECONDS + 5) * 1_000),
            json!(""),
            json!("a"),
            (5_000, None, Some("a")),
        ),
        (
            json!("row 6"),
            json!((SECONDS + 6) * 1_000_000),
            json!("10.0.0.0/8"),
            json!("b"),
            (6_000, None, Some("b")),
        ),
        (
            json!("row 7"),
            json!((SECONDS + 7) * 1_000_000_000),
            json!("fe80::7%eth0"),
            json!("c"),
            (7_000, Some("fe80::7"), Some("c")),
        ),
        (
            json!("row 8"),
            json!(format!("{}", SECONDS + 8)),
            json!(["203.0.113.8", "10.0.0.7"]),
            json!("d"),
            (8_000, Some("203.0.113.8"), Some("d")),
        ),
        // web servers
        (
            json!("log:9"),
            json!("20/Nov/2026:11:00:09 +0100"),
            json!("::ffff:203.0.113.9"),
            json!("e"),
            (9_000, Some("::ffff:203.0.113.9"), Some("e")),
        ),
        (
            json!("ünïcode"),
            json!("2026-11-20 10:00:10"),
            none,
            json!(long),
            (10_000, None, None),
        ),
        (
            json!("6F9619FF-8B86-D011-B42D-00C04FC964FF"),
            json!("2026-11-20T10:00:11"),
            json!(7),
            json!("f"),
            (11_000, None, Some("f")),
        ),
    ]
}

fn record(case: &Case, partition: i32) -> Placed {
    let (id, time, ip, session, _) = case;
    let event = json!({
        "event_id": id, "user_id": "anna", "event_ts": time, "url": "https://docs.example/", "ip": ip,
        "session_id": session, "user_agent": "x".repeat(1_100), "referrer": "",
    });
    (partition, Some(event.to_string().into_bytes()))
}

fn stored_id(id: &Value) -> Uuid {
    match id {
        Value::String(text) => Uuid::try_parse(text).unwrap_or_else(|_| of_text(text)),
        number => of_text(&number.to_string()),
    }
}

#[tokio::test]
async fn events_as_feeds_have_them_are_stored_once_each() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start_watched("one")?;
    let cases = cases();
    let count = i64::try_from(cases.len())?;
    let all = |partition| cases.iter().map(move |case| record(case, partition));
    stack.place(all(0).collect()).await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, count);
    // the first of them again, and all of them on the other partition
    stack.place(all(0).take(5).chain(all(1)).collect()).await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, count);
    assert_eq!(stack.total("duplicate").await?, count + 5);
    assert_eq!(stack.total("rejected").await?, 0);

    for (id, _, _, session, (millis, ip, expected)) in &cases {
        let row = stack
            .client
            .query_one(
                "select (extract(epoch from event_ts) * 1000)::bigint, host(ip), session_id, length(user_agent), referrer is null
                 from clickstream_events where event_id = $1",
                &[&stored_id(id)],
            )
            .await?;
        assert_eq!(row.get::<_, i64>(0), SECONDS * 1_000 + millis, "{id}");
        assert_eq!(row.get::<_, Option<&str>>(1), *ip, "{id}");
        let cut = session.as_str().filter(|text| text.len() > 128);
        let expected = cut.map_or(*expected, |text| Some(&text[..128]));
        assert_eq!(row.get::<_, Option<&str>>(2), expected, "{id}");
        assert_eq!((row.get::<_, i32>(3), row.get::<_, bool>(4)), (1_024, true));
    }

    let records = 2 * count + 5;
    for (field, reason, seen) in [
        ("user_agent", "too_long", records),
        ("referrer", "empty", records),
        ("session_id", "number", 3),
        ("session_id", "wrong_type", 3),
        ("session_id", "too_long", 2),
        ("ip", "trimmed", 5),
        ("ip", "wrong_type", 2),
        ("ip", "not_an_address", 2),
    ] {
        let series = format!(
            "clickstream_cleaned_fields_total{{field=\"{field}\",reason=\"{reason}\"}} {seen}\n"
        );
        processor.shows("/metrics", &series).await?;
    }
    processor
        .shows("/status", &format!("\"referrer\":{{\"empty\":{records}}}"))
        .await?;
    end(&processor.process).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_pipeline_may_refuse_what_would_be_cleaned() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        spec: "  events: { optionalFields: Reject }\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let bad = [
        ("ip", json!("203.0.113.9, 10.0.0.7")),
        ("ip", json!("-")),
        ("session_id", json!(17)),
        ("session_id", json!("")),
        ("user_agent", json!("x".repeat(1_100))),
        ("referrer", json!(false)),
    ];
    let mut records = Vec::new();
    for (number, (field, value)) in bad.iter().enumerate() {
        for value in [value, &Value::Null] {
            let mut event = json!({
                "event_id": format!("event {number}"), "user_id": "anna", "event_ts": SECONDS, "url": "/",
            });
            event[*field] = value.clone();
            records.push((0, Some(event.to_string().into_bytes())));
        }
    }
    stack.place(records).await?;
    stack.drained().await?;
    let count = i64::try_from(bad.len())?;
    assert_eq!(stack.total("rejected").await?, count);
    assert_eq!(stack.total("accepted").await?, count);
    for (number, (field, _)) in bad.iter().enumerate() {
        let named = format!(
            "select count(*) from clickstream_dead_letters
             where source_offset = {} and reason = 'invalid_field' and detail like '{field}: %'",
            2 * number
        );
        assert_eq!(stack.count(&named).await?, 1, "{field}");
    }
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_feed_without_ids_counts_each_click_once_and_its_resends_not_at_all() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions {
        partitions: 2,
        spec: "  events: { id: FromFields, trustedProxies: [10.0.0.0/8] }\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let click = |number: i64, partition| -> Placed {
        let event = json!({
            "user_id": number % 7, "event_ts": SECONDS + number / 10, "url": format!("/{}", number % 13),
            "ip": format!("198.51.100.1, 203.0.113.{}, 10.0.0.7", number % 5),
        });
        (partition, Some(event.to_string().into_bytes()))
    };
    // 2 * 5 * 7 * 13 is more than there are, so no two of one second are alike
    stack
        .place((0..300).map(|number| click(number, 0)).collect())
        .await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 300);
    stack
        .place((0..300).map(|number| click(number, 1)).collect())
        .await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 300);
    assert_eq!(stack.total("duplicate").await?, 300);
    // the proxy that is trusted tells who called it; what stands in front of that may be made up
    let clients = "select count(distinct ip) from clickstream_events where ip << '203.0.113.0/24'";
    assert_eq!(stack.count(clients).await?, 5);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
