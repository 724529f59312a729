//! Records that are no events: through the real stack into the dead letters, with place, reason,
//! field and original bytes.

use crate::{
    records::{Click, Placed, after, before, clicks, now},
    stack::{Stack, StackOptions},
    watch::end,
};
use std::time::Duration;

/// A valid event's JSON with one field's raw value replaced, or the field added.
fn with(field: &str, raw: &str) -> Vec<u8> {
    let time = (now().micros() / 1_000).to_string();
    let mut fields = vec![
        ("event_id", "\"6f9619ff-8b86-d011-b42d-00c04fc964ff\""),
        ("user_id", "\"anna\""),
        ("event_ts", time.as_str()),
        ("url", "\"/\""),
    ];
    match fields.iter_mut().find(|(name, _)| *name == field) {
        Some((_, value)) => *value = raw,
        None => fields.push((field, raw)),
    }
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, raw)| format!("\"{name}\":{raw}"))
        .collect();
    format!("{{{}}}", pairs.join(",")).into_bytes()
}

/// A valid event without one field.
fn without(field: &str) -> Vec<u8> {
    with(field, "null")
}

/// Value, expected reason, and how the detail begins (a field's name for a field's fault).
fn corpus() -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    let ahead = after(now(), Duration::from_secs(10 * 365 * 86_400)).micros() / 1_000;
    let soon = after(now(), Duration::from_secs(600)).micros() / 1_000;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let valid = String::from_utf8(with("url", "\"/\"")).expect("JSON made here");
    let field = |name: &'static str, raw: &str| (with(name, raw), "invalid_field", name);
    let document = |bytes: &[u8]| (bytes.to_vec(), "invalid_json", "");
    let range = |raw: &str| (with("event_ts", raw), "timestamp_out_of_range", "event_ts");
    vec![
        (Vec::new(), "empty", ""),
        (vec![b' '; 65_537], "too_large", ""),
        (with("url", &text(70_000)), "too_large", ""),
        (b"\xff".to_vec(), "invalid_utf8", ""),
        (b"{\"url\":\"\xc0\xaf\"}".to_vec(), "invalid_utf8", ""),
        (b"{\"url\":\"\xed\xa0\x80\"}".to_vec(), "invalid_utf8", ""),
        document(b" "),
        document(b"{"),
        document(format!("\u{feff}{valid}").as_bytes()),
        document(format!("{valid}{valid}").as_bytes()),
        document(format!("{valid} x").as_bytes()),
        document(format!("{valid}\0").as_bytes()),
        document(b"{\"a\":NaN}"),
        document(b"{'a':1}"),
        (b"null".to_vec(), "not_an_object", ""),
        (b"[1,{\"a\":2}]".to_vec(), "not_an_object", ""),
        (deep.clone().into_bytes(), "not_an_object", ""),
        (b"{}".to_vec(), "missing_field", "event_id"),
        (without("user_id"), "missing_field", "user_id"),
        (without("event_ts"), "missing_field", "event_ts"),
        (without("url"), "missing_field", "url"),
        field("event_id", "\"00000000-0000-0000-0000-000000000000\""),
        field("event_id", "[\"not-an-id\"]"),
        field("event_id", "7.5"),
        field("event_id", &text(201)),
        field("user_id", "18446744073709551615"),
        field("user_id", "1.5"),
        field("user_id", "1e400"),
        field("user_id", "\"\""),
        field("user_id", &text(129)),
        field("user_id", "\"a\\u0000b\""),
        field("user_id", "\"\\ud800\""),
        field("user_id", "true"),
        field("event_ts", "\"2026-02-30T00:00:00Z\""),
        field("event_ts", "\"2016-12-31T23:59:60Z\""),
        field("event_ts", "\"yesterday\""),
        field("event_ts", "\"2026-03-01\""),
        field("event_ts", "{}"),
        range("\"1999-12-31T23:59:59Z\""),
        range("\"9999-12-31T23:59:59Z\""),
        range("0"),
        range("1e400"),
        // minutes, which are no unit that is read
        range("29453760"),
        (
            with("event_ts", &ahead.to_string()),
            "timestamp_in_future",
            "event_ts",
        ),
        (
            with("event_ts", &soon.to_string()),
            "timestamp_in_future",
            "event_ts",
        ),
        field("url", "\"\""),
        field("url", &text(8_193)),
        field("url", "\"a\\u0000b\""),
        field("url", &deep),
        field("url", "[\"/\"]"),
        (
            format!("{},\"url\":\"/other\"}}", &valid[..valid.len() - 1]).into_bytes(),
            "invalid_field",
            "url",
        ),
    ]
}

#[tokio::test]
async fn each_malformed_record_is_a_dead_letter_with_its_reason_and_its_bytes() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let corpus = corpus();
    let mut records: Vec<Placed> = Vec::new();
    // between two good events each, so that a record which spoils its neighbours is seen
    for (number, (value, _, _)) in corpus.iter().enumerate() {
        records.push(Click::new(number as u64, now()).on(1));
        records.push((1, Some(value.clone())));
    }
    stack.place(records).await?;
    stack.drained().await?;
    let count = i64::try_from(corpus.len())?;
    assert_eq!(stack.total("rejected").await?, count);
    assert_eq!(stack.total("accepted").await?, count);

    let rows = stack
        .client
        .query(
            "select topic, partition, source_offset, reason, detail, payload, received_at <= now()
             from clickstream_dead_letters order by source_offset",
            &[],
        )
        .await?;
    assert_eq!(rows.len(), corpus.len());
    for (number, (row, (value, reason, detail))) in rows.iter().zip(&corpus).enumerate() {
        let shown = String::from_utf8_lossy(&value[..value.len().min(80)]).into_owned();
        assert_eq!(row.get::<_, String>(0), stack.topic);
        assert_eq!(row.get::<_, i32>(1), 1);
        assert_eq!(row.get::<_, i64>(2), 2 * number as i64 + 1, "{shown}");
        assert_eq!(row.get::<_, String>(3), *reason, "{shown}");
        let told: String = row.get(4);
        assert!(
            !told.is_empty() && told.starts_with(detail),
            "{shown}: {told}"
        );
        assert_eq!(row.get::<_, Vec<u8>>(5), *value, "{shown}");
        assert!(row.get::<_, bool>(6));
    }
    end(&processor).await?;
    // payloads stay out of the log
    assert!(
        !processor.log().contains("not-an-id"),
        "{}",
        processor.log()
    );
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_partition_of_nothing_but_poison_holds_no_other_back() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let mut records: Vec<Placed> = (0..2_000)
        .map(|number| (0, Some(format!("{{{number}").into_bytes())))
        .collect();
    records.extend(clicks(0..200, now()).iter().map(|click| click.on(1)));
    stack.place(records).await?;
    stack.drained().await?;
    assert_eq!(stack.total("rejected").await?, 2_000);
    assert_eq!(stack.total("accepted").await?, 200);
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn rows_that_only_a_constraint_refuses_become_dead_letters_and_the_rest_is_kept()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    stack
        .client
        .batch_execute(
            "alter table clickstream_events add constraint no_bad_pages check (url not like '%/forbidden/%')",
        )
        .await?;
    let time = before(now(), Duration::from_secs(5));
    let mut sent = clicks(0..400, time);
    for bad in [17, 203, 204] {
        sent[bad].url = "https://shop.example/forbidden/page".to_owned();
    }
    // one flush of many rows, which goes by COPY, then one of a few
    stack
        .place(
            sent.iter()
                .enumerate()
                .map(|(at, click)| click.on(at as i32 % 2))
                .collect(),
        )
        .await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    let mut few = clicks(1_000..1_003, time);
    few[1].url = "https://shop.example/forbidden/page".to_owned();
    stack
        .place(few.iter().map(|click| click.on(0)).collect())
        .await?;
    stack.drained().await?;

    assert_eq!(stack.total("accepted").await?, 399);
    assert_eq!(stack.total("rejected").await?, 4);
    let rows = stack
        .client
        .query(
            "select partition, source_offset, reason, detail, payload from clickstream_dead_letters order by 1, 2",
            &[],
        )
        .await?;
    let expected = [
        (0, 102, &sent[204]),
        (0, 201, &few[1]),
        (1, 8, &sent[17]),
        (1, 101, &sent[203]),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, (partition, offset, click)) in rows.iter().zip(expected) {
        assert_eq!(
            (row.get::<_, i32>(0), row.get::<_, i64>(1)),
            (partition, offset)
        );
        assert_eq!(row.get::<_, String>(2), "refused_by_database");
        assert!(row.get::<_, String>(3).contains("no_bad_pages"));
        assert_eq!(row.get::<_, Vec<u8>>(4), click.json());
    }
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

/// What looks like trouble and is a valid event: the field, its raw JSON, and the column with what
/// it has to hold, as SQL.
fn odd_but_valid() -> Vec<(&'static str, String, &'static str, String)> {
    let quoted = |text: &str| format!("\"{text}\"");
    let is = |column: &'static str, value: &str| (column, format!("'{value}'"));
    let odd = |field: &'static str, raw: String, (column, value): (&'static str, String)| {
        (field, raw, column, value)
    };
    vec![
        odd(
            "url",
            quoted("a\\r\\nSet-Cookie: x"),
            ("url", "E'a\\r\\nSet-Cookie: x'".to_owned()),
        ),
        odd(
            "url",
            quoted("\\u001b[31mred\\u001b[0m\\t\\\\.\\\\N"),
            ("url", "E'\\x1b[31mred\\x1b[0m\\t\\\\.\\\\N'".to_owned()),
        ),
        odd(
            "url",
            quoted("/café/日本/\\ud83d\\ude00"),
            is("url", "/café/日本/😀"),
        ),
        odd(
            "url",
            quoted(&"x".repeat(8_192)),
            ("url", "repeat('x', 8192)".to_owned()),
        ),
        odd(
            "url",
            quoted("'; drop table clickstream_events; --"),
            is("url", "''; drop table clickstream_events; --"),
        ),
        odd(
            "referrer",
            quoted(""),
            is("coalesce(referrer, '(null)')", "(null)"),
        ),
        odd(
            "user_id",
            "-9223372036854775808".to_owned(),
            is("user_id", "-9223372036854775808"),
        ),
        odd(
            "user_id",
            quoted(&"é".repeat(128)),
            ("user_id", "repeat('é', 128)".to_owned()),
        ),
        odd(
            "ip",
            quoted("::ffff:192.0.2.1"),
            is("host(ip)", "::ffff:192.0.2.1"),
        ),
        odd("ip", quoted("2001:db8::1"), is("ip", "2001:db8::1")),
        odd(
            "ip",
            "null".to_owned(),
            is("coalesce(host(ip), '(null)')", "(null)"),
        ),
        odd("user_agent", quoted("\\\\N"), is("user_agent", "\\N")),
        odd(
            "event_ts",
            quoted("2024-02-29 23:59:59.999"),
            is("event_ts", "2024-02-29 23:59:59.999+00"),
        ),
        odd(
            "event_ts",
            quoted("2024-03-01T01:00:00.1234567+14:00"),
            is("event_ts", "2024-02-29 11:00:00.123456+00"),
        ),
        odd(
            "event_ts",
            quoted("2000-01-01T00:00:00Z"),
            is("event_ts", "2000-01-01 00:00:00+00"),
        ),
        odd(
            "extra",
            format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
            is("url", "/"),
        ),
    ]
}

#[tokio::test]
async fn what_only_looks_malformed_is_stored_as_it_was_sent() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let odd = odd_but_valid();
    let mut records: Vec<Placed> = Vec::new();
    // few records on one partition, so that they are looked up, and the same among many on the
    // other, which are copied
    for (partition, id) in [(0, "00"), (1, "01")] {
        for (number, (field, raw, _, _)) in odd.iter().enumerate() {
            let own = format!("6f9619ff-8b86-d011-b42d-{id}{number:010}");
            let json = String::from_utf8(with(field, raw))?;
            let json = json.replace("6f9619ff-8b86-d011-b42d-00c04fc964ff", &own);
            records.push((partition, Some(json.into_bytes())));
        }
    }
    let count = odd.len();
    let (few, many) = records.split_at(count);
    let mut flood: Vec<Placed> = clicks(0..300, now())
        .iter()
        .map(|click| click.on(1))
        .collect();
    // old times first: T has not begun then, and nothing is late
    flood.splice(0..0, many.iter().cloned());
    stack.place(flood).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    stack.place(few.to_vec()).await?;
    stack.drained().await?;
    assert_eq!(
        stack.total("accepted").await?,
        300 + 2 * i64::try_from(count)?
    );
    for (number, (_, raw, column, value)) in odd.iter().enumerate() {
        for id in ["00", "01"] {
            let query = format!(
                "select count(*) from clickstream_events where event_id = '6f9619ff-8b86-d011-b42d-{id}{number:010}' and {column} = {value}"
            );
            assert_eq!(stack.count(&query).await?, 1, "{raw:.80} {query:.300}");
        }
    }
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_stamps_records_in_seconds_is_blamed_and_its_events_are_not()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        topic: &[("message.timestamp.type", "CreateTime")],
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start_watched("one")?;
    let present = now();
    let records = || {
        clicks(0..20, present)
            .iter()
            .map(|click| click.on(0))
            .collect()
    };
    stack
        .place_stamped(records(), present.micros() / 1_000_000)
        .await?;
    stack.drained().await?;
    assert_eq!(stack.total("rejected").await?, 20);
    let blamed = "select count(*) from clickstream_dead_letters
        where reason = 'timestamp_in_future' and detail like '%the record''s timestamp, which is before 2000%'";
    assert_eq!(stack.count(blamed).await?, 20);
    processor
        .shows(
            "/metrics",
            "clickstream_implausible_record_timestamps_total 20",
        )
        .await?;
    // the same events in records with a time in milliseconds, which clients set by themselves
    stack.place(records()).await?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 20);
    end(&processor.process).await?;
    stack.audit().await?;
    Ok(())
}
