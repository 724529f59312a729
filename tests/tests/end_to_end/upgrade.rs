//! Binaries one version older go on with a schema that has grown: migrations only add.

use crate::{
    load::Load,
    stack::{Stack, StackOptions},
};

/// What the migration of a next version could do: it adds, to every table that a flush writes. One transaction, as migrations are,
/// which begins as the processor's own tests want it of each migration: without the lock, it and a flush can wait for each other.
const NEXT_VERSION: &str = "
    begin;
    set local lock_timeout = '10s';
    lock table clickstream_checkpoints in access exclusive mode;
    alter table clickstream_events add column country text;
    alter table clickstream_checkpoints add column remark text not null default 'none';
    alter table clickstream_agg_lanes add column bots bigint not null default 0;
    alter table clickstream_traffic_parts add column countries_sketch bytea;
    alter table clickstream_dead_letters add column tried_again timestamptz;
    alter table clickstream_late_events add column country text;
    create index on clickstream_dead_letters (reason);
    create table clickstream_countries (country text primary key, hits bigint not null);
    insert into clickstream_migrations
        select max(version) + 1, 'next', max(applied_on), max(checksum) from clickstream_migrations;
    commit";

#[tokio::test]
async fn processors_of_the_version_before_go_on_under_load_when_the_schema_grows()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let first = stack.start("first")?;
    let second = stack.start("second")?;
    stack.owned_by(&["first", "second"]).await?;
    stack.moves_by(3_000).await?;

    let as_owner = format!("set role {}; {NEXT_VERSION}; reset role", stack.owner);
    stack.client.batch_execute(&as_owner).await?;
    stack.moves_by(3_000).await?;

    // one is replaced by its like, as a node that is drained does it in the middle of an upgrade
    first.terminate()?;
    let status = first.wait(std::time::Duration::from_secs(30)).await?;
    assert!(status.success(), "{status}: {}", first.log_tail());
    let third = stack.start("third")?;
    stack.owned_by(&["second", "third"]).await?;
    let (code, said) = stack.command(&["migrate"]).await?;
    assert_eq!(code, 0, "{said}");
    stack.moves_by(3_000).await?;

    load.finish().await?;
    stack.drained().await?;
    stack.ends_clean(&[&second, &third]).await?;
    for processor in [&first, &second, &third] {
        assert!(!processor.log().contains(" ERROR "), "{}", processor.log());
    }
    let grown = "select count(*) from clickstream_events where country is null";
    assert!(stack.count(grown).await? > 0);
    Ok(())
}
