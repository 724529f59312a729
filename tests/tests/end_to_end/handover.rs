//! Partitions that move from process to process in good order.

use std::time::Duration;

use anyhow::Context as _;
use clickstream_testbed::Process;

use crate::{
    load::{Load, fault_time},
    stack::{Stack, StackOptions},
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
