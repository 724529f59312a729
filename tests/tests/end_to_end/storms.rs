//! Processors that come and go faster than anybody wants, that stop for a moment, and that get
//! little of the machine.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clickstream_testbed::Process;
use rand::RngExt as _;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    commands,
    dice::dice,
    load::{Load, fault_time},
    progress::SHORT_SESSION,
    stack::{PATIENCE, Stack, StackOptions},
    watch::end,
};

#[tokio::test]
async fn members_that_come_and_go_twice_a_second_cost_nothing() -> anyhow::Result<()> {
    let mut dice = dice();
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let stays = stack.start_with("stays", &[SHORT_SESSION])?;
    stack.owned_by(&["stays"]).await?;
    let (mut members, mut leaving) = (Vec::<Process>::new(), Vec::new());
    let ends = Instant::now() + fault_time(Duration::from_secs(6));
    let mut started = 0;
    while started < 6 || Instant::now() < ends {
        started += 1;
        members.push(stack.start_with(&format!("m{started}"), &[SHORT_SESSION])?);
        // the pace of the storm is what is tried here
        tokio::time::sleep(Duration::from_millis(500)).await;
        if members.len() > 2 {
            let oldest = members.remove(0);
            // one in three leaves without a word, and the group waits for its session to end
            if dice.random_bool(0.33) {
                oldest.kill()?;
            } else {
                oldest.terminate()?;
                leaving.push(oldest);
            }
        }
    }
    for member in &members {
        member.terminate()?;
    }
    leaving.extend(members);
    for member in &leaving {
        let status = member.wait(PATIENCE).await?;
        ensure!(status.success(), "{status}: {}", member.log_tail());
    }
    stack.moves_by(1_000).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&stays]).await
}

#[tokio::test]
async fn a_freeze_shorter_than_the_session_changes_no_owner() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let processors = [stack.start("p0")?, stack.start("p1")?];
    stack.owned_by(&["p0", "p1"]).await?;
    stack.moves_by(500).await?;
    let epochs = "select sum(epoch) from clickstream_checkpoints";
    let before = stack.count(epochs).await?;
    for processor in &processors {
        processor.stop_signal()?;
        // a fifth of the session
        tokio::time::sleep(Duration::from_secs(2)).await;
        processor.continue_signal()?;
        stack.moves_by(1_000).await?;
    }
    assert_eq!(stack.count(epochs).await?, before, "claims were made anew");
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    let [one, other] = &processors;
    stack.ends_clean(&[one, other]).await
}

#[tokio::test]
async fn a_process_frozen_between_copy_and_commit_never_commits() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let pause = ("FAILPOINTS", "after_advance=3*off->1*sleep(8000)");
    let frozen = stack.start_with("frozen", &[pause, SHORT_SESSION])?;
    stack
        .eventually(
            "everything but COMMIT is done",
            "select exists (select from pg_stat_activity where datname = current_database()
             and application_name like 'clickstream-processor%' and state = 'idle in transaction'
             and state_change < clock_timestamp() - interval '1 s')",
        )
        .await?;
    frozen.stop_signal()?;
    let before = stack.consumed().await?;
    let heir = stack.start_with("heir", &[SHORT_SESSION])?;
    stack.owned_by(&["heir"]).await?;
    stack.no_transaction_is_left_open().await?;
    assert!(stack.consumed().await? >= before);
    stack.moves_by(1_000).await?;
    frozen.continue_signal()?;
    stack.owned_by(&["frozen", "heir"]).await?;
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&frozen, &heir]).await
}

/// The group that the stack's processors are in.
fn group(client: &BaseConsumer, stack: &Stack) -> anyhow::Result<String> {
    let pipeline = stack.topic.replace('_', "-");
    let groups = client.fetch_group_list(None, Duration::from_secs(30))?;
    let mut names = groups.groups().iter().map(|group| group.name().to_owned());
    let group = names.find(|name| name.contains(&pipeline));
    group.ok_or_else(|| anyhow::anyhow!("no group of {pipeline}"))
}

#[tokio::test]
async fn strangers_with_other_group_protocols_cost_nothing() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 500, &[]).await?;
    let processors = [stack.start("p0")?, stack.start("p1")?];
    stack.owned_by(&["p0", "p1"]).await?;
    let servers = stack.kafka.bootstrap_servers();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &servers);
    let group = group(&client.create()?, &stack)?;
    for (key, value) in [
        ("partition.assignment.strategy", "range"),
        ("partition.assignment.strategy", "roundrobin"),
        ("group.protocol", "consumer"),
    ] {
        let mut stranger = client.clone();
        stranger
            .set("group.id", &group)
            .set("enable.auto.commit", "false")
            .set(key, value);
        let topic = stack.topic.clone();
        let tried = tokio::task::spawn_blocking(move || -> anyhow::Result<usize> {
            let stranger: BaseConsumer = stranger.create()?;
            stranger.subscribe(&[&topic])?;
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                // refusals and records alike: whoever is let in reads them for nothing
                drop(stranger.poll(Duration::from_millis(100)));
            }
            Ok(stranger.assignment()?.count())
        });
        eprintln!("{value}: {} partitions", tried.await??);
        stack.moves_by(500).await?;
    }
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    let [one, other] = &processors;
    stack.ends_clean(&[one, other]).await
}

#[tokio::test]
async fn a_processor_with_64_descriptors_and_a_tenth_of_a_cpu_is_slow_and_no_more()
-> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 500, &[]).await?;
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64; exec \"$@\"", "sh"])
        .arg(commands::processor().await?)
        .args(["run", "--name", "poor", "--pipeline"])
        .arg(&stack.document)
        .env("CLICKSTREAM_CLUSTER", "local");
    let poor = Process::spawn(&command, "poor")?;
    stack.owned_by(&["poor"]).await?;
    stack.moves_by(500).await?;
    let ends = Instant::now() + fault_time(Duration::from_secs(6));
    while Instant::now() < ends {
        poor.stop_signal()?;
        tokio::time::sleep(Duration::from_millis(90)).await;
        poor.continue_signal()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sent = load.finish().await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, sent);
    let log = poor.log();
    ensure!(!log.contains("Too many open files"), "{log}");
    end(&poor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn two_groups_on_the_same_tables_take_turns_and_double_nothing() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(&stack, 1_000, &[]).await?;
    let one = stack.start("one")?;
    stack.owned_by(&["one"]).await?;
    stack.moves_by(1_000).await?;
    // whoever starts from now on has another group, and in it every partition to itself
    let other_group = "update clickstream_schema set plain_group_of = cluster";
    stack.client.batch_execute(other_group).await?;
    let other = stack.start("other")?;
    stack
        .eventually(
            "a partition of the first belongs to the second",
            "select exists (select from clickstream_checkpoints where owner = 'other')",
        )
        .await?;
    tokio::time::sleep(fault_time(Duration::from_secs(4))).await;
    stack.moves_by(1_000).await?;
    // a claim ends the session of the one before, or the checkpoint refuses its flush
    let lost = |process: &Process| {
        let log = process.log();
        log.matches("claimed again").count() + log.matches("fenced").count()
    };
    let times = lost(&one) + lost(&other);
    assert!(times > 0, "{}\n{}", one.log_tail(), other.log_tail());
    let sent = load.finish().await?;
    stack.drained().await?;
    eprintln!("lost {times} times");
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&one, &other]).await
}
