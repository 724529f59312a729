//! What events say besides the fields of the first releases, written in both ways, and audited.

use crate::{
    records::{Click, Placed, clicks, now},
    stack::{Stack, StackOptions},
};

/// A click that says more.
fn with_plan(click: &Click, seats: usize) -> Placed {
    let json = format!(
        r#"{{"event_id":"{}","user_id":"{}","plan":{{"seats":{seats},"name":"pro \"two\""}},"event_ts":{},"url":"{}","price":1.50}}"#,
        click.id,
        click.user,
        click.at.micros() / 1_000,
        click.url
    );
    (0, Some(json.into_bytes()))
}

#[tokio::test]
async fn properties_are_stored_by_insert_and_by_copy_and_plain_events_have_none()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        spec: "  events: {properties: Store}\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    // by insert at first, whatever it holds; by COPY once the processor knows what is new
    for numbers in [0..40, 100..300] {
        let clicks = clicks(numbers, now());
        let placed = clicks.iter().enumerate();
        stack
            .place(
                placed
                    .map(|(seats, click)| with_plan(click, seats))
                    .collect(),
            )
            .await?;
        stack.drained().await?;
    }
    let plain = clicks(400..500, now());
    stack
        .place(plain.iter().map(|click| click.on(0)).collect())
        .await?;
    stack.drained().await?;
    stack.ends_clean(&[&processor]).await?;

    let stored = r#"select count(*) from clickstream_events
        where properties - 'plan' = '{"price": 1.5}' and properties->'plan'->>'name' = 'pro "two"'
          and event_name = 'page_view' and site is null"#;
    assert_eq!(stack.count(stored).await?, 240);
    let seats = "select sum((properties->'plan'->>'seats')::int) from clickstream_events";
    assert_eq!(stack.count(seats).await?, 39 * 40 / 2 + 199 * 200 / 2);
    let none = "select count(*) from clickstream_events where properties is null";
    assert_eq!(stack.count(none).await?, 100);
    Ok(())
}
