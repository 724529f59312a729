//! Partitions that move from process to process in good order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clickstream_testbed::Process;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    load::{Load, fault_time},
    progress::SHORT_SESSION,
    records::{Placed, clicks, now},
    stack::{PATIENCE, Stack, StackOptions},
    watch::{end, logged},
};

/// Records that a process that has ended says it took from Kafka.
fn decoded(process: &Process) -> anyhow::Result<i64> {
    let log = process.log();
    let last = log
        .lines()
        .find(|line| line.contains("everything that was read is committed"))
        .with_context(|| format!("no last line: {}", process.log_tail()))?;
    let number = last.split("decoded=").nth(1).context("no count")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

#[tokio::test]
async fn a_rolling_restart_reads_no_record_twice() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_500, &[]).await?;
    let mut running = vec![(String::from("p0"), stack.start("p0")?)];
    running.push((String::from("p1"), stack.start("p1")?));
    stack.owned_by(&["p0", "p1"]).await?;
    let mut ended = Vec::new();
    let ends = std::time::Instant::now() + fault_time(Duration::ZERO);
    // at least every process of the first generation is replaced once
    while ended.len() < 2 || std::time::Instant::now() < ends {
        let name = format!("p{}", ended.len() + 2);
        let next = stack.start(&name)?;
        running.push((name, next));
        let all: Vec<&str> = running.iter().map(|(name, _)| name.as_str()).collect();
        stack.owned_by(&all).await?;
        stack.moves_by(1_000).await?;
        let (_, oldest) = running.remove(0);
        oldest.terminate()?;
        let status = oldest.wait(Duration::from_secs(30)).await?;
        assert!(status.success(), "{status}: {}", oldest.log_tail());
        ended.push(oldest);
        stack.moves_by(1_000).await?;
    }
    let sent = load.finish().await?;
    stack.drained().await?;
    let last: Vec<&Process> = running.iter().map(|(_, process)| process).collect();
    stack.ends_clean(&last).await?;
    ended.extend(running.into_iter().map(|(_, process)| process));
    let read = ended.iter().map(decoded).sum::<anyhow::Result<i64>>()?;
    eprintln!("{} processes, {sent} records", ended.len());
    assert_eq!(read, sent, "records in the log and records decoded");
    for process in &ended {
        for word in ["fenced", "ended the session", "claimed again"] {
            assert!(!process.log().contains(word), "{word}: {}", process.log());
        }
    }
    Ok(())
}

/// Members of the stack's consumer group, by the name of their processor.
async fn members(stack: &Stack) -> anyhow::Result<Vec<String>> {
    let servers = stack.kafka.bootstrap_servers();
    let group = format!("default.{}.main.local", stack.topic.replace('_', "-"));
    tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .create()?;
        let groups = client.fetch_group_list(Some(&group), Duration::from_secs(30))?;
        let members = groups.groups().iter().flat_map(|group| group.members());
        Ok(members
            .map(|member| member.client_id().to_owned())
            .collect())
    })
    .await?
}

#[tokio::test]
async fn a_processor_that_has_ended_has_left_the_group() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let mut running = Vec::new();
    for name in ["p0", "p1"] {
        running.push((name.to_owned(), stack.start(name)?));
    }
    stack.owned_by(&["p0", "p1"]).await?;
    for round in 0..8 {
        let next = format!("p{}", round + 2);
        running.push((next.clone(), stack.start(&next)?));
        let deadline = Instant::now() + PATIENCE;
        while !members(&stack).await?.contains(&next) {
            ensure!(Instant::now() < deadline, "{next} does not join");
        }
        // partitions are on their way to it: in each round a step further
        tokio::time::sleep(Duration::from_millis(40) * round).await;
        let (name, oldest) = running.remove(0);
        oldest.terminate()?;
        let status = oldest.wait(PATIENCE).await?;
        ensure!(status.success(), "{status}: {}", oldest.log_tail());
        let left = members(&stack).await?;
        ensure!(
            !left.contains(&name),
            "{name} is still one of {left:?}: {}",
            oldest.log()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_processor_is_ready_once_the_group_counts_it_in() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let watched = stack.start_watched("p0")?;
    let deadline = Instant::now() + PATIENCE;
    while watched.get("/readyz").await?.0 != 200 {
        ensure!(Instant::now() < deadline, "{}", watched.process.log_tail());
    }
    let log = watched.process.log();
    ensure!(log.contains("partitions assigned"), "ready before: {log}");
    Ok(())
}

#[tokio::test]
async fn a_partition_that_was_paused_when_it_left_is_read_when_it_comes_back() -> anyhow::Result<()>
{
    let stack = Stack::new(StackOptions {
        spec: "  processor:\n    flush:\n      maxRows: 1000\n".to_owned(),
        ..StackOptions::default()
    })
    .await?;
    let watched = stack.start_watched_with("stays", &[SHORT_SESSION])?;
    stack.owned_by(&["stays"]).await?;
    let to_all = |numbers: std::ops::Range<u64>| -> Vec<Placed> {
        let clicks = clicks(numbers, now()).into_iter();
        let places = (0..4).cycle();
        clicks.zip(places).map(|(click, at)| click.on(at)).collect()
    };
    // no flush gets through, so the buffer is full and every partition paused
    let mut other = stack.postgres.connect(&stack.database).await?;
    let held = other.transaction().await?;
    let lock = "select from clickstream.clickstream_checkpoints for update";
    held.batch_execute(lock).await?;
    stack.place(to_all(0..8_000)).await?;
    watched
        .shows("/metrics", "clickstream_intake_pauses_total 1")
        .await?;
    let comes = stack.start_with("comes", &[SHORT_SESSION])?;
    logged(&watched.process, "the last flush did not end in time").await?;
    held.rollback().await?;
    stack.owned_by(&["stays", "comes"]).await?;
    stack.drained().await?;
    // what the other one gives back is claimed while it is assigned
    end(&comes).await?;
    stack.owned_by(&["stays"]).await?;
    stack.place(to_all(8_000..9_000)).await?;
    stack.drained_within(Duration::from_secs(15)).await?;
    stack.ends_clean(&[&watched.process]).await
}
