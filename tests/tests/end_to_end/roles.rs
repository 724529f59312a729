//! Owner and writer of the tables are two roles without further rights, as in production.

use std::{fs, time::Duration};

use anyhow::Context as _;
use clickstream_testbed::unique_name;

use crate::{
    records::{Placed, after, before, clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

async fn stack() -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        spec: "  watermark:\n    idleTimeout: 1s\n".to_owned(),
        ..StackOptions::default()
    })
    .await
}

/// Forty clicks of now, on partition 0.
fn forty() -> Vec<Placed> {
    clicks(0..40, now())
        .iter()
        .map(|click| click.on(0))
        .collect()
}

/// Those, and as many a day ahead of them.
fn two_days() -> Vec<Placed> {
    let tomorrow = after(now(), Duration::from_secs(86_400));
    let mut records = forty();
    records.extend(clicks(40..80, tomorrow).iter().map(|click| click.on(0)));
    records
}

#[tokio::test]
async fn a_quiet_partition_does_not_hold_finality_back() -> anyhow::Result<()> {
    let stack = stack().await?;
    let processor = stack.start("one")?;
    stack.place(forty()).await?;
    stack.drained().await?;
    stack
        .eventually(
            "windows become final although partition 1 never had an event",
            "select final_until is not null from clickstream_finality",
        )
        .await?;
    end(&processor).await
}

/// A quiet site: a hit a minute, twenty of them, then silence. T lags 15 events behind, so it alone
/// would never say that the last windows are over.
#[tokio::test]
async fn after_a_long_silence_everything_that_was_received_is_final() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        spec: "  watermark:\n    delay: 1s\n    idleTimeout: 1s\n  lateEvents:\n    allowedLateness: 2s\n"
            .to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    let present = now();
    let records = (0..20)
        .map(|number| {
            let at = before(present, Duration::from_secs(60 * (20 - number)));
            clicks(number..number + 1, at)[0].on(0)
        })
        .collect();
    stack.place(records).await?;
    stack.drained().await?;
    stack
        .eventually(
            "all twenty minutes are final",
            "select count(*) = 20 and bool_and(final) from clickstream_traffic_minute",
        )
        .await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

/// The silence that counts is one of this claim: a new owner has to see the end of the log itself.
#[tokio::test]
async fn a_claim_begins_with_a_partition_that_is_not_idle() -> anyhow::Result<()> {
    let stack = stack().await?;
    let first = stack.start("one")?;
    stack.place(forty()).await?;
    stack
        .eventually(
            "both partitions are silent",
            "select count(*) = 2 from clickstream_checkpoints where idle_since is not null",
        )
        .await?;
    let silent = stack
        .client
        .query_one("select max(idle_since) from clickstream_checkpoints", &[])
        .await?
        .get::<_, std::time::SystemTime>(0);
    first.kill()?;
    let second = stack.start("two")?;
    stack.owned_by(&["two"]).await?;
    let after = stack
        .client
        .query_one(
            "select coalesce(bool_and(idle_since > $1), true) from clickstream_checkpoints where idle_since is not null",
            &[&silent],
        )
        .await?;
    assert!(
        after.get::<_, bool>(0),
        "the dead owner's silence counts on"
    );
    // and at rest it is told again, by the new owner
    stack
        .eventually(
            "both partitions are silent again",
            "select count(*) = 2 from clickstream_checkpoints where idle_since is not null",
        )
        .await?;
    end(&second).await
}

#[tokio::test]
async fn the_writer_can_audit_days_that_were_created_after_the_migration() -> anyhow::Result<()> {
    let options = StackOptions {
        partitions: 2,
        spec: "  watermark:\n    maxFutureSkew: 24h\n".to_owned(),
        ..StackOptions::default()
    };
    let stack = Stack::new(options).await?;
    let processor = stack.start("one")?;
    stack.place(two_days()).await?;
    stack.drained().await?;
    stack
        .eventually(
            "a partition of a day",
            "select exists (select from clickstream_days())",
        )
        .await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn tables_are_not_dropped_while_a_processor_holds_partitions() -> anyhow::Result<()> {
    let stack = stack().await?;
    let processor = stack.start("one")?;
    stack.place(forty()).await?;
    stack.drained().await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("processors still hold 2 partitions"),
        "{said}"
    );
    assert_eq!(stack.total("accepted").await?, 40);
    end(&processor).await?;
    // one that was killed holds nothing either, once the server has noticed
    let killed = stack.start("two")?;
    stack
        .eventually(
            "both partitions have an owner",
            "select count(*) = 2 from clickstream_checkpoints where backend_pid <> 0",
        )
        .await?;
    killed.kill()?;
    stack
        .eventually(
            "its session has ended",
            "select not exists (select from pg_stat_activity where datname = current_database() and application_name like 'clickstream-processor%')",
        )
        .await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    Ok(())
}

#[tokio::test]
async fn somebody_elses_views_are_named_and_not_dropped_along() -> anyhow::Result<()> {
    let stack = stack().await?;
    stack
        .client
        .batch_execute(
            "create schema mine;
             create view mine.report as select url, hits from clickstream.clickstream_agg_minute;
             create materialized view mine.users as select count(*) from clickstream.clickstream_events",
        )
        .await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("mine.report, mine.users"), "{said}");
    let there = "select count(*) from mine.report, mine.users, clickstream.clickstream_agg_minute";
    assert_eq!(stack.count(there).await?, 0, "all of it is still there");
    stack
        .client
        .batch_execute("drop schema mine cascade")
        .await?;
    let (code, said) = stack.command(&["drop"]).await?;
    assert_eq!(code, 0, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_schema_that_is_closed_to_the_role_is_not_called_missing() -> anyhow::Result<()> {
    let stack = stack().await?;
    let writer = stack.owner.replace("owner_of", "writer_of");
    let revoke = format!("revoke usage on schema clickstream from {writer}");
    stack.client.batch_execute(&revoke).await?;
    let processor = stack.start("one")?;
    let status = processor.wait(PATIENCE).await?;
    let log = processor.log();
    assert!(!status.success(), "{log}");
    assert!(log.contains("grant usage on schema"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_window_that_is_not_over_is_not_final_however_silent_it_is() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions {
        partitions: 1,
        spec: "  window:\n    size: 1h\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let processor = stack.start("one")?;
    stack
        .place(
            clicks(0..40, now())
                .iter()
                .map(|click| click.on(0))
                .collect(),
        )
        .await?;
    stack.drained().await?;
    let silent = "select bool_and(idle_since is not null) from clickstream_checkpoints";
    stack.eventually("the partition is silent", silent).await?;
    // as after a silence of idle time, delay and grace
    let quiet = "select coalesce(clickstream_advance_final(0, 0, 3600000000, 0) > now(), false)::int::bigint";
    assert_eq!(stack.count(quiet).await?, 0, "final before it is over");
    end(&processor).await
}

#[tokio::test]
async fn a_role_that_only_reads_is_waited_for_or_refused_and_the_log_says_why() -> anyhow::Result<()>
{
    let stack = stack().await?;
    let role = unique_name("reader");
    stack
        .client
        .batch_execute(&format!(
            "create role {role} login; grant pg_read_all_data to {role};
             alter role {role} set default_transaction_read_only = on"
        ))
        .await?;
    let document = stack.document.with_extension("reader.yaml");
    let text = fs::read_to_string(&stack.document)?;
    let writer = text
        .lines()
        .find(|line| line.trim_start().starts_with("user:"))
        .context("no user")?;
    fs::write(
        &document,
        text.replace(writer, &format!("      user: {role}")),
    )?;
    let processor = stack.start_from(&document, "one", &[])?;
    logged(
        &processor,
        "default_transaction_read_only is on for the server, the database or the role",
    )
    .await?;
    stack
        .client
        .batch_execute(&format!(
            "alter role {role} reset default_transaction_read_only"
        ))
        .await?;
    let status = processor.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1), "{}", processor.log_tail());
    let log = processor.log();
    assert!(log.contains("permission denied for"), "{log}");
    Ok(())
}
