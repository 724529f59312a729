//! Binaries of earlier versions go on with a schema that has grown: migrations only add.

mod first_release;
mod more_fields;

use std::time::Duration;

use anyhow::ensure;
use clickstream_pipeline::event::EventTime;

use self::first_release::FirstRelease;
use crate::{
    load::Load,
    records::{Click, after, before, clicks, now},
    stack::{Stack, StackOptions},
};

/// What the migration of a next version could do: it adds, to every table that a flush writes. One
/// transaction, as migrations are, which begins as the processor's own tests want it of each
/// migration: without the lock, it and a flush can wait for each other.
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
    let status = first.wait(Duration::from_secs(30)).await?;
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

/// Sends clicks to a partition; the timestamp of their records.
async fn sent(stack: &Stack, partition: i32, clicks: &[Click]) -> anyhow::Result<i64> {
    let millis = now().micros() / 1_000;
    let records = clicks.iter().map(|click| click.on(partition)).collect();
    stack.place_stamped(records, millis).await?;
    Ok(millis)
}

/// Tables of the first release.
async fn of_the_first_release() -> anyhow::Result<Stack> {
    let stack = Stack::new(StackOptions {
        partitions: 2,
        topic: &[("message.timestamp.type", "CreateTime")],
        ..StackOptions::default()
    })
    .await?;
    let (code, said) = stack.command(&["drop"]).await?;
    ensure!(code == 0, "{said}");
    // its report asks for what only later versions have
    let first_release = [("CLICKSTREAM_TEST_MIGRATIONS", "3")];
    let (_, said) = stack.command_with(&["migrate"], &first_release).await?;
    ensure!(said.contains("version=3"), "{said}");
    Ok(stack)
}

/// Noon of yesterday: an id that comes again at another minute comes on the same day.
fn noon() -> EventTime {
    let day = 86_400_000_000;
    EventTime::from_micros(now().micros() / day * day - day / 2)
}

/// Tables of the first release, its writer before and after the migration, this release in its
/// place, killed, the first release again, and this one at last: all of them in the same windows,
/// with ids that the others have stored.
#[tokio::test]
async fn the_first_release_writes_the_tables_of_this_one_until_it_is_replaced_and_when_it_comes_back()
-> anyhow::Result<()> {
    let stack = of_the_first_release().await?;
    let begin = noon();
    let mut first = FirstRelease::claims(&stack, 2).await?;
    for (partition, numbers) in [(0, 0..40), (1, 40..80)] {
        let clicks = clicks(numbers, begin);
        let stamp = sent(&stack, partition, &clicks).await?;
        ensure!(first.flushes(partition, &clicks, stamp).await? == 40);
    }

    let (code, said) = stack.command(&["migrate"]).await?;
    ensure!(code == 0, "{said}");
    // all of these are there already, and half of those that follow
    let known = clicks(20..60, begin);
    let stamp = sent(&stack, 0, &known).await?;
    ensure!(first.flushes(0, &known, stamp).await? == 0);
    let mixed = clicks(70..90, begin);
    let stamp = sent(&stack, 1, &mixed).await?;
    ensure!(first.flushes(1, &mixed, stamp).await? == 10);

    let second = stack.start("second")?;
    stack.owned_by(&["second"]).await?;
    let refused = clicks(90..100, begin);
    let stamp = sent(&stack, 0, &refused).await?;
    ensure!(
        first.flushes(0, &refused, stamp).await.is_err(),
        "written without a claim"
    );
    drop(first);
    sent(&stack, 1, &clicks(85..130, begin)).await?;
    // merged, of which the first release knows nothing
    let late = before(begin, Duration::from_secs(3_600));
    sent(&stack, 0, &clicks(200..210, late)).await?;
    stack.drained().await?;
    assert_eq!(stack.total("merged").await?, 10);
    // its claims name a session that is no more
    second.kill()?;

    let mut first = FirstRelease::claims(&stack, 2).await?;
    let back = clicks(120..150, begin);
    let stamp = sent(&stack, 0, &back).await?;
    ensure!(first.flushes(0, &back, stamp).await? == 20);
    let later = clicks(150..170, after(begin, Duration::from_secs(90)));
    let stamp = sent(&stack, 1, &later).await?;
    ensure!(first.flushes(1, &later, stamp).await? == 20);

    let third = stack.start("third")?;
    stack.owned_by(&["third"]).await?;
    drop(first);
    sent(&stack, 0, &clicks(140..200, begin)).await?;
    stack.drained().await?;
    stack.ends_clean(&[&third]).await?;

    // 0 to 209 once each; 150 to 169 came at two times
    assert_eq!(stack.total("accepted").await?, 210);
    assert_eq!(
        stack
            .count("select count(*) from clickstream_events")
            .await?,
        210
    );
    let hits = "select sum(hits) from clickstream_agg_minute";
    assert_eq!(stack.count(hits).await?, 210);
    let hits = "select sum(hits) from clickstream_traffic_minute";
    assert_eq!(stack.count(hits).await?, 210);
    Ok(())
}

#[tokio::test]
async fn a_long_query_does_not_make_flushes_wait_for_a_migration() -> anyhow::Result<()> {
    let stack = of_the_first_release().await?;
    let mut first = FirstRelease::claims(&stack, 2).await?;
    let reader = stack.postgres.connect(&stack.database).await?;
    reader
        .batch_execute("begin; select from clickstream.clickstream_traffic_minute")
        .await?;
    let over = tokio::time::Instant::now() + Duration::from_secs(4);
    let reads = async {
        tokio::time::sleep_until(over).await;
        reader.batch_execute("commit").await
    };
    let flushes = async {
        let (mut number, mut longest) = (0, Duration::ZERO);
        while tokio::time::Instant::now() < over {
            let click = clicks(number..number + 1, now());
            let stamp = sent(&stack, 0, &click).await?;
            let begin = tokio::time::Instant::now();
            first.flushes(0, &click, stamp).await?;
            longest = longest.max(begin.elapsed());
            number += 1;
        }
        anyhow::Ok(longest)
    };
    let (migrated, read, longest) = tokio::join!(stack.command(&["migrate"]), reads, flushes);
    read?;
    let (code, said) = migrated?;
    ensure!(code == 0, "{said}");
    let longest = longest?;
    ensure!(longest < Duration::from_secs(1), "a flush took {longest:?}");
    Ok(())
}
