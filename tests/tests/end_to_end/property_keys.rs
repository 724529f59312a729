//! The list of keys that properties have.

use serde_json::json;

use crate::{
    columns::{event, on, stack_with},
    metrics::sum,
    records::now,
    watch::end,
};

/// Every key that a stored event has is listed by the commit that stores it, whoever else lists it.
#[tokio::test]
async fn keys_of_properties_are_listed_with_the_first_event_that_has_them() -> anyhow::Result<()> {
    let reader = clickstream_testbed::unique_name("reader");
    let stack = stack_with("  events: { properties: Store }\n").await?;
    let at = now();
    let one = stack.start_watched("one")?;
    let two = stack.start("two")?;
    stack
        .place((0..200).map(|n| on(n, &event(n, at))).collect())
        .await?;
    let mut more = event(300, at);
    more["account"]["seats"] = json!(null);
    more["a/b~c"] = json!([1]);
    stack.place(vec![on(0, &more)]).await?;
    stack.drained().await?;
    let rows = stack
        .client
        .query(
            "select key || ' ' || type from clickstream_property_keys order by key collate \"C\", type",
            &[],
        )
        .await?;
    let keys: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        keys,
        [
            "/account object",
            "/account/plan string",
            "/account/seats null",
            "/account/seats number",
            "/account/since string",
            "/a~1b~0c array",
            "/items array",
            "/trial boolean",
        ]
    );
    // a client that makes keys up fills the list, and no more than that
    let mut flood = Vec::new();
    for number in 400..440 {
        let mut record = event(number, at);
        for key in 0..40 {
            record[format!("k{number}-{key}")] = json!(key);
        }
        flood.push(on(0, &record));
    }
    stack.place(flood).await?;
    stack.drained().await?;
    let listed = "select count(*) from clickstream_property_keys";
    assert_eq!(stack.count(listed).await?, 1_000);
    let series = one.series().await?;
    let left_out = sum(&series, "clickstream_property_keys_left_out_total", "");
    let stored = stack
        .count("select count(*) from clickstream_events, jsonb_object_keys(properties) as k where k like 'k4%'")
        .await?;
    assert_eq!(stored, 1_600);
    assert!(left_out == 0.0 || left_out >= 600.0, "{left_out}");
    end(&one.process).await?;
    end(&two).await?;
    let report = stack.audit().await?;
    assert!(
        !report["notes"]
            .to_string()
            .contains("clickstream_property_keys"),
        "{report}"
    );
    let taken = "delete from clickstream_listed_keys where key = '/trial'";
    stack.client.execute(taken, &[]).await?;
    let report = stack.audit().await?;
    let notes = report["notes"].to_string();
    assert!(notes.contains("/trial (boolean)"), "{notes}");

    // who may read views only may read these
    stack
        .client
        .batch_execute(&format!("create role {reader} login password 'r'"))
        .await?;
    let text = std::fs::read_to_string(&stack.document)?;
    let named = format!("    schema: clickstream\n    readers: [{reader}]\n");
    std::fs::write(
        &stack.document,
        text.replace("    schema: clickstream\n", &named),
    )?;
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    let may = format!(
        "select has_table_privilege('{reader}', 'clickstream_property_keys', 'select')
             and not has_table_privilege('{reader}', 'clickstream_listed_keys', 'select')"
    );
    assert!(stack.client.query_one(&may, &[]).await?.get::<_, bool>(0));
    Ok(())
}
