//! Keys of events with columns of their own: added by a migration, written both ways, followed
//! live, and audited.

use std::time::Duration;

use clickstream_pipeline::event::EventTime;
use serde_json::{Value, json};

use crate::{
    load::Load,
    metrics::sum,
    progress::SHORT_SESSION,
    records::{Placed, before, now},
    rules::{Document, followed},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

/// Beyond window, delay and allowed lateness together (1 m + 10 s + 10 m).
const LONG_AGO: Duration = Duration::from_secs(15 * 60);

const COLUMNS: &str = "  events:
    columns:
    - { name: select, pointer: /account/plan, type: Text }
    - { name: seats, pointer: /account/seats, type: Integer }
    - { name: price, pointer: '/items/[sku=basic]/price', type: Number }
    - { name: trial, pointer: /trial, type: Boolean }
    - { name: signed_up, pointer: /account/since, type: Timestamp }
    - { name: day, pointer: /day, type: Text }
    - { name: before, pointer: /before, type: Timestamp }
    - { name: most_rows, pointer: /rows, type: Integer }
  lateEvents: { policy: Divert }
";

/// An event that says more than a click.
pub fn event(number: u64, at: EventTime) -> Value {
    json!({
        "event_id": format!("0195514e-8d8b-7c2b-a5f7-{number:012x}"),
        "user_id": format!("user-{}", number % 7),
        "event_ts": at.micros() / 1000,
        "url": format!("/{}", number % 5),
        "account": {
            "plan": format!("plan \"{}\"", number % 3),
            "seats": number,
            "since": "2026-01-31T12:00:00+01:00",
        },
        "items": [{ "sku": "other", "price": 1 }, { "sku": "basic", "price": number as f64 / 4.0 }],
        "trial": number.is_multiple_of(2),
    })
}

/// A record of a partition that follows from its number.
pub fn on(number: u64, record: &Value) -> Placed {
    ((number % 2) as i32, Some(record.to_string().into_bytes()))
}

/// A pipeline of two partitions.
pub async fn stack_with(spec: &str) -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        spec: spec.to_owned(),
        ..StackOptions::default()
    })
    .await
}

#[tokio::test]
async fn what_stands_at_a_pointer_stands_in_its_column_whichever_way_it_is_written()
-> anyhow::Result<()> {
    let stack = stack_with(COLUMNS).await?;
    let at = now();
    // by COPY, then again, of which all are suspects
    let many: Vec<Placed> = (0..400).map(|n| on(n, &event(n, at))).collect();
    stack.place(many).await?;
    let processor = stack.start_watched("one")?;
    stack.drained().await?;
    let copied = stack
        .count("select count(*) from clickstream_events where seats is not null")
        .await?;
    assert_eq!(copied, 400);
    // few at a time, by INSERT; with what cannot be used, what is absent, and a late one for the
    // ledger
    let mut odd = event(500, at);
    odd["account"] = json!({ "plan": { "name": "x" }, "seats": "many", "since": "tomorrow" });
    odd["trial"] = json!("yes");
    odd["items"] = json!([{ "sku": "basic", "price": "1e999" }]);
    let mut bare = event(501, at);
    for key in ["account", "items", "trial"] {
        bare.as_object_mut().map(|event| event.remove(key));
    }
    let mut long = event(502, at);
    long["account"]["plan"] = json!("ß".repeat(1_000));
    long["account"]["seats"] = json!("12");
    long["trial"] = json!("true");
    let late = event(503, before(at, LONG_AGO));
    let records = [&odd, &bare, &long, &late, &event(1, at)];
    stack
        .place(records.iter().map(|record| on(0, record)).collect())
        .await?;
    stack.drained().await?;

    let rows = stack.client.query_one(
        r#"select
            bool_and("select" = 'plan "' || seats % 3 || '"' and price = seats / 4.0
                and trial = (seats % 2 = 0) and signed_up = '2026-01-31T11:00:00Z')
                filter (where user_id <> '' and source_offset < 200),
            count(*) filter (where num_nulls("select", seats, price, trial, signed_up) = 5),
            bool_or("select" = repeat('ß', 512) and seats = 12 and trial)
        from clickstream_events"#,
        &[],
    );
    let rows = rows.await?;
    assert!(rows.get::<_, bool>(0), "{}", processor.process.log_tail());
    assert_eq!(rows.get::<_, i64>(1), 2);
    assert!(rows.get::<_, bool>(2));
    let ledger = r#"select bool_and("select" = 'plan "2"' and seats = 503 and not trial) and count(*) = 1
        from clickstream_late_events"#;
    assert!(stack.client.query_one(ledger, &[]).await?.get::<_, bool>(0));
    // days were made beside columns that are called as parameters of functions are, and days leave
    let outliers = "select clickstream_expire_outliers('2001-01-01', 10)";
    assert_eq!(stack.count(outliers).await?, 0);
    let told = "select bool_and(col_description(attrelid, attnum) like 'What the event has at /account/seats (%')
        and count(*) = 2 from pg_attribute
        where attname = 'seats' and attrelid in ('clickstream_events'::regclass, 'clickstream_late_events'::regclass)";
    assert!(stack.client.query_one(told, &[]).await?.get::<_, bool>(0));

    let series = processor.series().await?;
    let cleaned = |column: &str, reason: &str| {
        let labels = format!("field=\"{column}\",reason=\"{reason}\"");
        sum(&series, "clickstream_cleaned_fields_total", &labels)
    };
    assert_eq!(cleaned("select", "wrong_type"), 1.0);
    assert_eq!(cleaned("select", "too_long"), 1.0);
    assert_eq!(cleaned("seats", "wrong_type"), 1.0);
    assert_eq!(cleaned("price", "out_of_range"), 1.0);
    let (_, status) = processor.get("/status").await?;
    let status: Value = serde_json::from_str(&status)?;
    assert_eq!(status["cleaned"]["trial"]["wrong_type"], 1, "{status}");

    end(&processor.process).await?;
    stack.audit().await?;
    for (table, place) in [
        (
            "clickstream_events",
            "source_offset = 7 and source_partition = 0",
        ),
        ("clickstream_late_events", "true"),
    ] {
        let changed = format!("update {table} set seats = seats + 1, trial = null where {place}");
        assert_eq!(stack.client.execute(&changed, &[]).await?, 1);
        let (code, report) = stack.command(&["audit"]).await?;
        assert_eq!(code, 3, "{report}");
        assert!(
            report.contains("seats, trial not as in the log"),
            "{report}"
        );
        let back = format!(
            "update {table} set seats = seats - 1, trial = (seats - 1) % 2 = 0 where {place}"
        );
        stack.client.execute(&back, &[]).await?;
    }
    // a column that somebody has dropped cannot be compared, and costs no audit
    let drop = "alter table clickstream_events drop column price";
    stack.client.batch_execute(drop).await?;
    let report = stack.audit().await?;
    let notes = report["notes"].to_string();
    assert!(
        notes.contains("price") && notes.contains("not compared"),
        "{notes}"
    );
    Ok(())
}

#[tokio::test]
async fn a_column_that_is_added_under_load_is_written_once_it_is_there() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let document = Document::of(&stack)?;
    let load = Load::start(&stack, 2_000, &["--late", "0.05", "--duplicates", "0.05"]).await?;
    let one = stack.start_watched("one")?;
    let mut two = stack.start_with("two", &[SHORT_SESSION])?;
    stack.moves_by(2_000).await?;
    document
        .says("  events: { columns: [{ name: agent, pointer: /user_agent, type: Text }] }\n")?;
    logged(&one.process, "has no column").await?;
    let series = one.series().await?;
    assert_eq!(sum(&series, "clickstream_document_not_followed", ""), 1.0);
    // they go on by their rules, and one that starts meanwhile asks for the migration
    stack.moves_by(2_000).await?;
    two.kill()?;
    two = stack.start_with("two", &[SHORT_SESSION])?;
    logged(&two, "run `clickstream-processor migrate`").await?;
    // behind a long query the migration waits by itself, and no flush waits for it
    let reader = stack.postgres.connect(&stack.database).await?;
    let query = "begin; select count(*) from clickstream.clickstream_events";
    reader.batch_execute(query).await?;
    let (migrated, moved) = tokio::join!(stack.command(&["migrate"]), async {
        stack.moves_by(6_000).await?;
        anyhow::Ok(reader.batch_execute("rollback").await?)
    });
    moved?;
    let (code, said) = migrated?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("added a promoted column"), "{said}");
    assert!(said.contains("somebody reads for long"), "{said}");
    followed(&one.process, 1).await?;
    two = stack.start_with("two", &[SHORT_SESSION])?;
    stack.moves_by(4_000).await?;
    // and away again: the column stays, and is null from then on
    document.says("")?;
    followed(&one.process, 2).await?;
    stack.moves_by(4_000).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&one.process, &two]).await?;
    let counts = stack
        .client
        .query_one(
            "select count(*) filter (where agent = user_agent), count(*) filter (where agent is null),
                 count(*) filter (where agent <> user_agent) from clickstream_events",
            &[],
        )
        .await?;
    let (promoted, before_or_after, others): (i64, i64, i64) =
        (counts.get(0), counts.get(1), counts.get(2));
    assert!(
        promoted > 1_000 && before_or_after > 1_000,
        "{promoted} {before_or_after}"
    );
    assert_eq!(others, 0);
    // what people put where no rules named the column is theirs
    let filled = "update clickstream_events set agent = 'filled in' where agent is null";
    stack.client.execute(filled, &[]).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_column_of_somebodys_own_is_taken_where_it_fits_and_otherwise_nothing_is_changed()
-> anyhow::Result<()> {
    let stack = stack_with("").await?;
    let document = Document::of(&stack)?;
    stack
        .client
        .batch_execute(
            "alter table clickstream_events add column fits bigint, add column other int,
                 add column strict text not null default '', add column \"made\" text generated always as ('x') stored",
        )
        .await?;
    let columns = |columns: &str| document.says(&format!("  events: {{ columns: [{columns}] }}\n"));
    let fits = "{ name: fits, pointer: /fits, type: Integer }";
    for (column, says) in [
        (
            "{ name: other, pointer: /o, type: Integer }",
            "column \"other\" of clickstream_events is of type integer, and spec.events.columns wants bigint",
        ),
        ("{ name: strict, pointer: /o, type: Text }", "drop not null"),
        ("{ name: made, pointer: /o, type: Text }", "is generated"),
    ] {
        columns(&format!("{fits}, {column}"))?;
        let (code, said) = stack.command(&["migrate"]).await?;
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains(says) && said.contains("nothing was changed"),
            "{said}"
        );
        let added = "select count(*) from pg_attribute
            where attname = 'fits' and attrelid = 'clickstream_late_events'::regclass";
        assert_eq!(stack.count(added).await?, 0);
        let (code, said) = stack.command(&["run", "--name", "one"]).await?;
        assert_ne!(code, 0, "{said}");
        assert!(said.contains("schema \"clickstream\": "), "{said}");
    }
    columns(fits)?;
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    let mut record = event(1, now());
    record["fits"] = json!(17);
    let one = stack.start("one")?;
    stack.place(vec![on(1, &record)]).await?;
    stack.drained().await?;
    assert_eq!(
        stack.count("select fits from clickstream_events").await?,
        17
    );
    end(&one).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_column_that_is_dropped_under_a_processor_is_named_with_its_table_and_the_way_back()
-> anyhow::Result<()> {
    let stack = stack_with(COLUMNS).await?;
    let at = now();
    for (table, numbers) in [
        ("clickstream_events", 0..400),
        ("clickstream_late_events", 400..401),
    ] {
        let one = stack.start("one")?;
        // it knows its columns, and has written them
        stack
            .place(vec![on(0, &event(9_000 + numbers.start, at))])
            .await?;
        stack.drained().await?;
        let drop = format!("alter table {table} drop column price");
        stack.client.batch_execute(&drop).await?;
        let is_late = table == "clickstream_late_events";
        let at = if is_late { before(at, LONG_AGO) } else { at };
        let records = numbers.map(|number| on(number, &event(number, at)));
        stack.place(records.collect()).await?;
        let ended = one.wait(PATIENCE).await?;
        let said = one.log();
        assert_eq!(ended.code(), Some(1), "{said}");
        let name = format!("column \"price\" of relation \"{table}\" does not exist");
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.contains(&name) && last.contains("run `clickstream-processor migrate`"),
            "{last}"
        );
        // which the next start asks for as well, also of an operator
        let (code, said) = stack.command(&["run", "--name", "one"]).await?;
        assert_eq!(code, 6, "{said}");
        let (code, said) = stack.command(&["migrate"]).await?;
        assert_eq!(code, 0, "{said}");
    }
    let one = stack.start("one")?;
    stack.drained().await?;
    assert_eq!(stack.total("accepted").await?, 402);
    end(&one).await?;
    Ok(())
}
