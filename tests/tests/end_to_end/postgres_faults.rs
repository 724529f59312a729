//! PostgreSQL that crashes, goes away, falls silent, or answers nothing to a commit.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use clickstream_testbed::{Postgres, PostgresOptions, Proxy, Reply, shared};

use crate::{
    load::{Load, fault_time},
    records::{clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

/// Everything on time, so that whatever is late was made late by a fault.
const NOTHING_LATE: [&str; 2] = ["--late", "0"];

/// A pipeline on a PostgreSQL server of its own.
async fn own_postgres(target: &str) -> anyhow::Result<Stack> {
    let options = PostgresOptions {
        // commits that nobody waits for stay in memory until something else is synced, so a crash
        // does lose some
        settings: vec![
            ("wal_writer_delay".to_owned(), "10s".to_owned()),
            ("wal_writer_flush_after".to_owned(), "1GB".to_owned()),
        ],
        ..PostgresOptions::default()
    };
    let postgres = Postgres::start(options).await?;
    let kafka = shared::kafka().await?;
    let target = target.to_owned();
    Stack::on(
        kafka,
        postgres,
        StackOptions {
            target,
            ..StackOptions::default()
        },
    )
    .await
}

async fn crashes_of_postgresql(durability: &str) -> anyhow::Result<()> {
    let mut stack = own_postgres(&format!("    durability: {durability}\n")).await?;
    let load = Load::start(&stack, 2_000, &NOTHING_LATE).await?;
    let (first, second) = (stack.start("first")?, stack.start("second")?);
    stack.owned_by(&["first", "second"]).await?;
    let ends = Instant::now() + fault_time(Duration::ZERO);
    let mut crashes = 0;
    while crashes < 3 || Instant::now() < ends {
        stack.moves_by(2_000).await?;
        stack.postgres.restart_immediate().await?;
        stack.reconnect().await?;
        crashes += 1;
    }
    stack.moves_by(1_000).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    eprintln!("{durability}: {crashes} crashes, {sent} records");
    assert_eq!(stack.consumed().await?, sent);
    assert_eq!(
        stack
            .count("select sum(late) from clickstream_checkpoints")
            .await?,
        0
    );
    stack.ends_clean(&[&first, &second]).await
}

#[tokio::test]
async fn crashes_of_postgresql_lose_and_double_nothing_with_strict_durability() -> anyhow::Result<()>
{
    crashes_of_postgresql("Strict").await
}

#[tokio::test]
async fn crashes_of_postgresql_lose_and_double_nothing_with_replayable_durability()
-> anyhow::Result<()> {
    crashes_of_postgresql("Replayable").await
}

#[tokio::test]
async fn processors_wait_for_postgresql_through_a_rebalance_and_go_on_alone() -> anyhow::Result<()>
{
    let mut stack = own_postgres("").await?;
    let load = Load::start(&stack, 500, &NOTHING_LATE).await?;
    let (stays, leaves) = (stack.start("stays")?, stack.start("leaves")?);
    stack.owned_by(&["stays", "leaves"]).await?;
    stack.moves_by(500).await?;
    stack.postgres.stop().await?;
    logged(&stays, "cannot connect to postgresql").await?;
    let comes = stack.start("comes")?;
    logged(&comes, "waiting for postgresql").await?;
    leaves.terminate()?;
    let status = leaves.wait(Duration::from_secs(30)).await?;
    assert!(status.success(), "{status}: {}", leaves.log_tail());
    // how long it is away is what is tried here
    tokio::time::sleep(fault_time(Duration::from_secs(5))).await;
    assert!(stays.exited()?.is_none() && comes.exited()?.is_none());
    stack.postgres.start_again().await?;
    stack.reconnect().await?;
    stack.owned_by(&["stays", "comes"]).await?;
    stack.moves_by(500).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    assert_eq!(
        stack
            .count("select sum(late) from clickstream_checkpoints")
            .await?,
        0
    );
    assert!(
        !stays.log().contains("lost=true"),
        "left the group: {}",
        stays.log()
    );
    stack.ends_clean(&[&stays, &comes]).await
}

#[tokio::test]
async fn a_postgresql_that_falls_silent_is_noticed_and_taken_up_again() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], stack.postgres.port()))).await?;
    let load = Load::start(&stack, 500, &NOTHING_LATE).await?;
    let deadline = ("CLICKSTREAM_TEST_STEP_DEADLINE_MS", "3000");
    let processor = stack.start_through(proxy.addr().port(), "waits", &[deadline])?;
    stack.owned_by(&["waits"]).await?;
    stack.moves_by(500).await?;
    proxy.stall();
    logged(&processor, "no answer from PostgreSQL within").await?;
    logged(&processor, "did not open a session within").await?;
    proxy.resume();
    stack.moves_by(500).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    assert_eq!(
        stack
            .count("select sum(late) from clickstream_checkpoints")
            .await?,
        0
    );
    stack.ends_clean(&[&processor]).await
}

#[tokio::test]
async fn a_commit_whose_outcome_is_unknown_is_looked_up_and_not_repeated() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], stack.postgres.port()))).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let processor = stack.start_through(proxy.addr().port(), "unsure", &[])?;
    stack.owned_by(&["unsure"]).await?;
    for reply in [Reply::Drop, Reply::NeverAsked, Reply::Drop, Reply::Deliver] {
        stack.moves_by(1_000).await?;
        proxy.cut_after_match(b"COMMIT", reply);
        proxy.sprung(PATIENCE).await?;
    }
    stack.moves_by(1_000).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    let lost = processor
        .log()
        .matches("partitions are claimed again")
        .count();
    assert!(
        lost >= 4,
        "{lost} of 4 cuts were noticed: {}",
        processor.log()
    );
    stack.ends_clean(&[&processor]).await
}

/// Answers every row as a server does whose disk is full.
const FULL_DISK: &str = "
    create function full_disk() returns trigger language plpgsql as $$
    begin
        raise exception using errcode = 'disk_full', message = 'could not extend file: No space left on device';
    end $$;
    create trigger full_disk before insert on clickstream_events for each row execute function full_disk()";

#[tokio::test]
async fn a_full_disk_is_said_everywhere_ends_no_process_and_holds_none_up() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let first = stack.start_watched("first")?;
    let place = async |numbers| {
        let records = clicks(numbers, now())
            .iter()
            .map(|click| click.on(0))
            .collect();
        stack.place(records).await
    };
    place(0..40).await?;
    stack.drained().await?;

    stack.client.batch_execute(FULL_DISK).await?;
    place(40..80).await?;
    first
        .shows("/readyz", "postgresql refuses what is to be written")
        .await?;
    first.shows("/readyz", "(resources)").await?;
    first.shows("/status", "\"class\":\"resources\"").await?;
    first.shows("/metrics", "clickstream_sink_up 0").await?;
    assert_eq!(
        first.get("/livez").await?.0,
        200,
        "a restart would not help"
    );
    first.process.terminate()?;
    let status = first.process.wait(Duration::from_secs(10)).await?;
    assert!(status.success(), "{status}: {}", first.process.log_tail());
    assert!(
        first
            .process
            .log()
            .contains("is not committed will be read again"),
        "{}",
        first.process.log_tail()
    );

    let second = stack.start_watched("second")?;
    second.shows("/readyz", "(resources)").await?;
    stack
        .client
        .batch_execute("drop trigger full_disk on clickstream_events")
        .await?;
    stack.drained().await?;
    second.shows("/metrics", "clickstream_sink_up 1").await?;
    second.shows("/status", "\"state\":\"running\"").await?;
    assert_eq!(stack.total("accepted").await?, 80);
    end(&second.process).await?;
    stack.audit().await?;
    Ok(())
}
