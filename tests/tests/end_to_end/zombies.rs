//! Processes that believe they own what they have lost.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::Proxy;

use crate::{
    load::Load,
    progress::SHORT_SESSION,
    stack::{PATIENCE, Stack, StackOptions},
    watch::logged,
};

#[tokio::test]
async fn a_process_frozen_beyond_its_session_is_refused_by_the_database() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let zombie = stack.start_with("zombie", &[SHORT_SESSION])?;
    stack.owned_by(&["zombie"]).await?;
    let heir = stack.start_with("heir", &[SHORT_SESSION])?;
    stack.owned_by(&["zombie", "heir"]).await?;
    stack.moves_by(1_000).await?;
    zombie.stop_signal()?;
    stack.owned_by(&["heir"]).await?;
    stack.moves_by(1_000).await?;
    stack.no_transaction_is_left_open().await?;
    zombie.continue_signal()?;
    logged(&zombie, "partitions are claimed again").await?;
    // it comes back as a member like any other
    stack.owned_by(&["zombie", "heir"]).await?;
    assert!(
        !heir.log().contains("claimed again"),
        "the zombie took partitions away from their owner: {}",
        heir.log()
    );
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&zombie, &heir]).await
}

#[tokio::test]
async fn a_client_frozen_inside_copy_does_not_hold_up_the_next_owner() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], stack.postgres.port()))).await?;
    let mut sent = 0;
    let frozen = stack.start_through(proxy.addr().port(), "frozen", &[SHORT_SESSION])?;
    let deadline = Instant::now() + PATIENCE;
    // the server must be inside the COPY, with the checkpoints locked, and wait for more
    loop {
        proxy.stall_after_match(b"PGCOPY", 30_000);
        sent += stack.produce(GeneratorOptions::default(), 5_000).await?;
        proxy.sprung(PATIENCE).await?;
        let inside = stack
            .client
            .query_one(
                "select count(*) = 1 from pg_stat_activity as backends join pg_stat_progress_copy as copies using (pid)
                 where backends.datname = current_database() and backends.wait_event = 'ClientRead'",
                &[],
            )
            .await?;
        if inside.get(0) {
            break;
        }
        ensure!(Instant::now() < deadline, "no flush was caught in its COPY");
        proxy.resume();
    }
    frozen.stop_signal()?;
    let heir = stack.start_with("heir", &[SHORT_SESSION])?;
    logged(&heir, "partitions assigned").await?;
    let assigned = Instant::now();
    stack.drained().await?;
    assert!(
        assigned.elapsed() < Duration::from_secs(10),
        "the heir was held up for {:?}: {}",
        assigned.elapsed(),
        heir.log_tail()
    );
    assert!(
        heir.log().contains("ended the session of a previous owner"),
        "{}",
        heir.log_tail()
    );
    frozen.continue_signal()?;
    proxy.resume();
    stack.owned_by(&["frozen", "heir"]).await?;
    sent += stack
        .produce(
            GeneratorOptions {
                seed: 7,
                ..GeneratorOptions::default()
            },
            2_000,
        )
        .await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, i64::try_from(sent)?);
    stack.ends_clean(&[&frozen, &heir]).await
}

#[tokio::test]
async fn a_claim_that_is_taken_away_fences_its_owner_until_it_claims_again() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let processor = stack.start("owner")?;
    stack.owned_by(&["owner"]).await?;
    stack.moves_by(1_000).await?;
    // one partition of four: the others must go on
    stack
        .client
        .batch_execute(
            "update clickstream_checkpoints set claim_token = gen_random_uuid(), epoch = epoch + 1 where partition = 0",
        )
        .await?;
    let epochs = "select epoch from clickstream_checkpoints where partition = 0";
    let taken = stack.count(epochs).await?;
    logged(
        &processor,
        "fenced: another owner has claimed the partition",
    )
    .await?;
    stack
        .eventually(
            "the partition is claimed again",
            &format!("select epoch > {taken} from clickstream_checkpoints where partition = 0"),
        )
        .await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    assert_eq!(
        stack
            .count("select count(*) from clickstream_checkpoints where partition > 0 and epoch > 1")
            .await?,
        0,
        "only the fenced partition is claimed again"
    );
    stack.ends_clean(&[&processor]).await
}
