//! What visitors sent is in no log: PostgreSQL's errors quote rows in their details, and some in
//! their texts.

use crate::{
    days::stack,
    records::{Click, clicks, now},
    stack::PATIENCE,
    watch::end,
};

/// What no log may hold.
const PLANTED: &str = "https://shop.example/planted/4711";

/// Stops a processor with an error of the database that names a visitor's page; what the log has to
/// say instead.
async fn stops(refusing: &str, said: &str) -> anyhow::Result<()> {
    let stack = stack("").await?;
    stack.client.batch_execute(refusing).await?;
    let processor = stack.start("one")?;
    let planted = |click: Click| Click {
        url: PLANTED.to_owned(),
        ..click
    };
    let clicks = clicks(0..100, now()).into_iter().map(planted);
    stack
        .place(clicks.map(|click| click.on(0)).collect())
        .await?;
    let status = processor.wait(PATIENCE).await?;
    let log = processor.log();
    assert!(!status.success(), "{log}");
    assert!(log.contains(said), "{log}");
    assert!(!log.contains("planted"), "{log}");
    assert_eq!(log.matches(said).count(), 1, "said twice: {log}");
    Ok(())
}

#[tokio::test]
async fn the_key_that_a_unique_index_refuses_is_not_logged() -> anyhow::Result<()> {
    stops(
        "create unique index one_a_page on clickstream_events (url, event_date)",
        "duplicate key value violates unique constraint",
    )
    .await
}

#[tokio::test]
async fn what_a_trigger_says_of_a_row_is_not_logged() -> anyhow::Result<()> {
    stops(
        "create function clickstream.refuse() returns trigger language plpgsql as
         $$ begin raise exception 'no % here', new.url; end $$;
         create trigger refuse before insert on clickstream_events for each row execute function clickstream.refuse()",
        "(SQLSTATE P0001)",
    )
    .await
}

#[tokio::test]
async fn rows_are_not_logged_at_any_level() -> anyhow::Result<()> {
    let stack = stack("").await?;
    let processor =
        stack.start_with("one", &[("RUST_LOG", "trace,tokio_postgres::query=trace")])?;
    let planted = |click: Click| Click {
        url: PLANTED.to_owned(),
        ..click
    };
    // by insert, whose parameters are the rows, and by COPY
    for numbers in [0..20, 100..300] {
        let clicks = clicks(numbers, now()).into_iter().map(planted);
        stack
            .place(clicks.map(|click| click.on(0)).collect())
            .await?;
        stack.drained().await?;
    }
    end(&processor).await?;
    let log = processor.log();
    assert!(log.contains("TRACE"), "no level below: {log:.2000}");
    if let Some(line) = log.lines().find(|line| line.contains("planted")) {
        panic!("{line:.600}");
    }
    Ok(())
}
