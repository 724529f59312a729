//! Topics that others made: their events are found where the rules say, and audited by the same
//! rules.

use clickstream_pipeline::event::EventTime;
use serde_json::{Value, json};

use crate::{
    records::{Placed, now},
    stack::{Stack, StackOptions},
    watch::end,
};

/// A page call as Segment's libraries send it.
fn page_call(number: u64, at: EventTime) -> Value {
    let (page, user) = (number % 7, number % 11);
    let user_id = (user % 3 != 0).then(|| format!("customer-{user}"));
    json!({
        "type": "page",
        "event": (user == 1).then_some("Viewed"),
        "shop": format!("shop-{}", user % 2),
        "messageId": format!("ajs-next-{number}"),
        "anonymousId": format!("anonymous-{user}"),
        "userId": user_id,
        "timestamp": at.to_string(),
        "sentAt": at.to_string(),
        "context": {
            "ip": format!("192.0.2.{user}"),
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64)",
            "locale": "en-GB",
            "page": {
                "path": format!("/item/{page}"),
                "referrer": "https://search.example/",
                "title": format!("Item {page}"),
                "url": format!("https://shop.example/item/{page}"),
            },
        },
        "properties": { "name": format!("Item {page}"), "price": 4.5 },
        "integrations": {},
    })
}

fn on(number: u64, record: &Value) -> Placed {
    ((number % 2) as i32, Some(record.to_string().into_bytes()))
}

fn stack_with(spec: &str) -> impl Future<Output = anyhow::Result<Stack>> {
    Stack::new(StackOptions {
        partitions: 2,
        spec: spec.to_owned(),
        ..StackOptions::default()
    })
}

#[tokio::test]
async fn a_topic_of_segments_events_is_read_by_its_preset() -> anyhow::Result<()> {
    let stack =
        stack_with("  events: { preset: Segment, properties: Store, fields: { site: [/shop] } }\n")
            .await?;
    let at = now();
    let mut records: Vec<_> = (0..200).map(|n| on(n, &page_call(n, at))).collect();
    // sent again after an answer that was lost
    records.extend((0..20).map(|n| on(n, &page_call(n, at))));
    // a call of another kind, and a broken one
    let mut identify = page_call(300, at);
    identify["type"] = json!("identify");
    identify["context"]["page"] = Value::Null;
    records.push(on(0, &identify));
    records.push((1, Some(b"{\"messageId\"".to_vec())));
    stack.place(records).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;

    let expected = "select
        (select count(*) = 200 and count(distinct event_id) = 200 from clickstream_events) and
        (select sum(duplicate) = 20 and sum(rejected) = 2 from clickstream_checkpoints) and
        (select count(*) = 73 from clickstream_events where user_id like 'anonymous-%') and
        (select bool_and(split_part(user_id, '-', 2) = split_part(host(ip), '.', 4))
            from clickstream_events) and
        (select count(distinct url) = 7 and bool_and(referrer = 'https://search.example/')
            and bool_and(user_agent like 'Mozilla/5.0 %') and bool_and(session_id is null)
            from clickstream_events) and
        (select count(*) = 200 from clickstream_events
            where event_name = case when user_id like '%-1' then 'Viewed' else 'page' end
            and site = 'shop-' || mod(split_part(user_id, '-', 2)::int, 2)) and
        (select sum(hits) = 200 and count(distinct (event_name, site)) = 3
            and sum(hits) filter (where event_name = 'Viewed') = 19
            from clickstream_agg_minute)";
    assert!(
        stack
            .client
            .query_one(expected, &[])
            .await?
            .get::<_, bool>(0)
    );
    // what is no field is there to be asked for, as PostgreSQL does it
    let properties = "select
        count(*) = 200 and count(properties) = 200
        and bool_and(properties #>> '{context,page,title}' = 'Item ' || right(url, 1))
        and sum((properties -> 'properties' ->> 'price')::numeric) = 900
        and bool_and(properties @> '{\"context\": {\"locale\": \"en-GB\"}}')
        and bool_and((properties ->> 'type' = 'page') is true = (event_name = 'Viewed'))
        and not bool_or(properties ?| array['messageId', 'shop'])
        and not bool_or(properties #> '{context,page}' ? 'url')
        and count(*) filter (where properties ? 'anonymousId') = 127
        from clickstream_events";
    assert!(
        stack
            .client
            .query_one(properties, &[])
            .await?
            .get::<_, bool>(0)
    );
    let letters = stack
        .client
        .query(
            "select reason, detail from clickstream_dead_letters order by partition",
            &[],
        )
        .await?;
    let letters: Vec<(String, String)> =
        letters.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(letters[0].0, "missing_field");
    assert_eq!(
        letters[0].1,
        "url: nothing at /context/page/url or /properties/url"
    );
    assert_eq!(letters[1].0, "invalid_json");

    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

/// Whatever stands in a record: PostgreSQL takes it, and the audit finds what it would have kept.
#[tokio::test]
async fn no_property_is_refused_by_postgresql() -> anyhow::Result<()> {
    let stack = stack_with("  events: { properties: Store }\n").await?;
    let at = now().micros() / 1000;
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let long = format!("\"{}\"", "x".repeat(9000));
    let values = [
        r#""a\u0000b""#,
        r#""\ud800""#,
        r#""\udc00\ud83d\ude00""#,
        "1e400000",
        "-1E-400000",
        "0e999999999999",
        "1.7976931348623157e308",
        "5e-324",
        "-0",
        "123456789012345678901234567890.10",
        r#"{"k":1,"k":2,"\u006b":[1.50,null,{}]}"#,
        r#"{"":"\u00e9\/\b\u001f"}"#,
        "[]",
        "{}",
        &deep,
        &long,
    ];
    let record = |(number, value): (usize, &&str)| {
        let record = format!(
            r#"{{"event_id":"0195514e-8d8b-7c2b-a5f7-{number:012x}","user_id":{number},
            "event_ts":{at},"url":"/","value":{value},"\u0000\udfff":{number}}}"#
        );
        ((number % 2) as i32, Some(record.into_bytes()))
    };
    let records: Vec<Placed> = values.iter().enumerate().map(record).collect();
    // sent again: on the way of suspects as well, and late ones too
    stack.place([records.clone(), records].concat()).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    let expected = format!(
        "select count(*) = {} and count(properties) = {0} and count(properties -> 'value') = {}
         and bool_and(properties ->> repeat(chr(65533), 2) = user_id) from clickstream_events",
        values.len(),
        values.len() - 2
    );
    let is_kept = stack.client.query_one(&expected, &[]).await?;
    assert!(is_kept.get::<_, bool>(0), "{}", processor.log_tail());
    assert_eq!(
        stack
            .count("select sum(duplicate) from clickstream_checkpoints")
            .await?,
        values.len() as i64
    );
    end(&processor).await?;
    stack.audit().await?;
    let changed = "update clickstream_events
        set properties = jsonb_set(properties, '{value}', '3') where user_id = '8'";
    stack.client.execute(changed, &[]).await?;
    let (code, report) = stack.command(&["audit"]).await?;
    assert_eq!(code, 3, "{report}");
    assert!(report.contains("properties not as in the log"), "{report}");
    Ok(())
}

/// The outbox of a service: what Debezium makes of it, with a schema registry in front.
#[tokio::test]
async fn an_event_in_a_text_behind_a_prefix_is_read_by_rules_of_ones_own() -> anyhow::Result<()> {
    let stack = stack_with(
        "  events:
    envelope: /payload/after/body
    schemaRegistryPrefix: Strip
    fields:
      event_id: [$/payload/after/id]
      event_ts: [$/payload/ts_ms]
      user_id: [/customer/number]
      url: [/page, /path]
    constants: { user_agent: outbox }
",
    )
    .await?;
    let at = now();
    let record = |number: u64| {
        let body = json!({ "customer": { "number": number % 5 }, "path": format!("/p/{number}") });
        let record = json!({
            "schema": { "type": "struct" },
            "payload": {
                "before": null,
                "after": { "id": format!("order-{number}"), "body": body.to_string() },
                "ts_ms": at.micros() / 1000,
                "op": "c",
            },
        });
        // an id of a schema need not be text
        let prefix = [0, 0, 0, 0xff, number as u8];
        let payload = [&prefix[..], record.to_string().as_bytes()].concat();
        ((number % 2) as i32, Some(payload))
    };
    stack.place((0..100).map(record).collect()).await?;
    let processor = stack.start("one")?;
    stack.drained().await?;
    let expected = "select count(*) = 100 and count(distinct url) = 100
        and count(distinct user_id) = 5 and bool_and(user_agent = 'outbox')
        from clickstream_events";
    assert!(
        stack
            .client
            .query_one(expected, &[])
            .await?
            .get::<_, bool>(0)
    );
    assert_eq!(
        stack
            .count("select count(*) from clickstream_dead_letters")
            .await?,
        0
    );
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}
