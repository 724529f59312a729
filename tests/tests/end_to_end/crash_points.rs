//! Processors that die at each named point of a flush, several times each.

use std::{os::unix::process::ExitStatusExt as _, time::Instant};

use anyhow::ensure;
use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions};

use crate::{
    progress::SHORT_SESSION,
    stack::{PATIENCE, Stack, StackOptions},
    watch::logged,
};

type Records = Vec<(String, Option<Vec<u8>>)>;

/// Records of each burst; a flush of some of them goes through COPY.
const BURST: usize = 3_000;
/// Records of a burst that the next burst sends again.
const RESENT: usize = 100;
/// How often the point is passed before the process dies there, one run each.
const PASSES: [u32; 3] = [0, 1, 5];
const SIGABRT: i32 = 6;

/// Fresh events, a few of them late, malformed or sent twice.
fn burst(seed: u64) -> anyhow::Result<Records> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_micros();
    let options = GeneratorOptions {
        seed,
        late: 0.01,
        duplicates: 0.05,
        cross_partition_duplicates: 0.5,
        ..GeneratorOptions::default()
    };
    let records = Generator::new(options, EventTime::from_micros(i64::try_from(now)?))?;
    Ok(records
        .take(BURST)
        .map(|record| (record.key, Some(record.payload)))
        .collect())
}

async fn a_crash_loses_and_doubles_nothing(point: &str) -> anyhow::Result<()> {
    // fewer partitions: those of a second claim are distrusted for 10,000 rows each, and COPY is
    // one of the points
    let stack = Stack::new(StackOptions {
        partitions: 2,
        ..StackOptions::default()
    })
    .await?;
    let (mut sent, mut seed) = (0, 0);
    let mut resent = Records::new();
    for passes in PASSES {
        let action = match passes {
            0 => format!("{point}=return"),
            _ => format!("{point}={passes}*off->return"),
        };
        let processor = stack.start_with(
            &format!("{point}-{passes}"),
            &[("FAILPOINTS", &action), SHORT_SESSION],
        )?;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = processor.exited()? {
                break status;
            }
            ensure!(
                Instant::now() < deadline,
                "never came to {point}: {}",
                processor.log_tail()
            );
            let fresh = burst(seed)?;
            let again = fresh[..RESENT].to_vec();
            resent.extend(fresh);
            sent += stack.send(std::mem::replace(&mut resent, again)).await?;
            seed += 1;
        };
        assert_eq!(status.signal(), Some(SIGABRT), "{}", processor.log_tail());
        assert!(
            processor
                .log()
                .contains(&format!("crash point {point} reached")),
            "{}",
            processor.log_tail()
        );
        stack.no_transaction_is_left_open().await?;
    }
    let survivor = stack.start_with("survivor", &[SHORT_SESSION])?;
    // where everything was committed before the crash, it could be told to end before it listens
    logged(&survivor, "processor starts").await?;
    stack.drained().await?;
    assert_eq!(stack.consumed().await?, i64::try_from(sent)?);
    stack.ends_clean(&[&survivor]).await
}

#[tokio::test]
async fn a_crash_after_begin_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("after_begin").await
}

#[tokio::test]
async fn a_crash_after_copy_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("after_copy").await
}

#[tokio::test]
async fn a_crash_after_the_upsert_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("after_upsert").await
}

#[tokio::test]
async fn a_crash_after_the_advance_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("after_advance").await
}

#[tokio::test]
async fn a_crash_while_the_commit_is_on_its_way_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("commit_sent").await
}

#[tokio::test]
async fn a_crash_after_the_commit_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("commit_acknowledged").await
}

#[tokio::test]
async fn a_crash_before_the_groups_offsets_loses_and_doubles_nothing() -> anyhow::Result<()> {
    a_crash_loses_and_doubles_nothing("before_group_commit").await
}
