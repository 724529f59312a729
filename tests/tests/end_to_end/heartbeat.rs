//! Heartbeats: freshness is known while no traffic comes, and nothing else is changed by them.

use std::{fs, time::Duration};

use anyhow::ensure;

use crate::{
    metrics::{Series, each, sum},
    records::{clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::end,
};

/// `spec.heartbeat.interval` of these tests.
const INTERVAL: Duration = Duration::from_secs(1);

async fn beating() -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 2,
        management: "Managed",
        spec: "  heartbeat: { enabled: true, interval: 1s }\n  watermark: { idleTimeout: 3s }\n"
            .to_owned(),
        ..StackOptions::default()
    })
    .await
}

impl Stack {
    /// The ends of both logs, added up.
    async fn ends(&self) -> anyhow::Result<i64> {
        let (_, first) = self.kafka.offsets(&self.topic, 0).await?;
        let (_, second) = self.kafka.offsets(&self.topic, 1).await?;
        Ok(first + second)
    }

    /// Waits until so many records more are in the logs.
    async fn grows_by(&self, records: i64) -> anyhow::Result<()> {
        let wanted = self.ends().await? + records;
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.ends().await? < wanted {
            ensure!(
                std::time::Instant::now() < deadline,
                "the logs did not grow"
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn heartbeats_tell_freshness_in_silence_and_change_nothing_else() -> anyhow::Result<()> {
    let stack = beating().await?;
    let watched = stack.start_watched("one")?;
    let at = now();
    let mut records: Vec<_> = clicks(0..40, at).iter().map(|click| click.on(0)).collect();
    records.extend(clicks(40..80, at).iter().map(|click| click.on(1)));
    stack.place(records).await?;
    stack.drained().await?;
    let clock =
        "select extract(epoch from sum(clock_t - 'epoch'))::bigint from clickstream_checkpoints";
    let before = stack.count(clock).await?;

    // silence from here on: heartbeats come and are committed, each within far less than the second
    // between two ticks
    let fresh = |series: &Series| {
        let ages = each(series, "clickstream_heartbeat_age_seconds");
        ages.len() == 2
            && ages.iter().all(|age| *age < 3.0)
            && sum(series, "clickstream_heartbeat_latency_seconds_count", "") >= 10.0
    };
    let series = watched.until("fresh in silence", fresh).await?;
    assert!(sum(&series, "clickstream_heartbeats_total", "acknowledged") >= 10.0);
    assert_eq!(sum(&series, "clickstream_heartbeats_total", "failed"), 0.0);
    assert!(sum(&series, "clickstream_records_total", "skipped") >= 10.0);
    let quick = sum(
        &series,
        "clickstream_heartbeat_latency_seconds_bucket",
        "le=\"0.5\"",
    );
    assert!(
        quick >= 5.0,
        "{quick} of the heartbeats took less than 0.5 s"
    );

    // a partition that beats is silent all the same: its windows become final
    stack
        .eventually(
            "the last window is final",
            "select coalesce(final_until > (select max(clock_t) from clickstream_checkpoints), false) from clickstream_finality",
        )
        .await?;
    assert_eq!(stack.total("consumed").await?, 80);
    assert_eq!(stack.total("accepted").await?, 80);
    assert!(stack.total("skipped").await? >= 10);
    assert_eq!(stack.count(clock).await?, before, "the event clock moved");

    // a frozen processor sends none
    watched.process.stop_signal()?;
    let frozen = stack.ends().await?;
    tokio::time::sleep(INTERVAL * 3).await;
    // one that was on its way may still have come
    let later = stack.ends().await?;
    assert!(later - frozen <= 2, "{frozen} became {later}");
    watched.process.continue_signal()?;
    stack.grows_by(4).await?;
    watched.until("fresh again", fresh).await?;

    end(&watched.process).await?;
    // and none after its end
    let ended = stack.ends().await?;
    tokio::time::sleep(INTERVAL * 2).await;
    assert_eq!(stack.ends().await?, ended);
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_to_a_topic_of_others() -> anyhow::Result<()> {
    let stack = beating().await?;
    let text = fs::read_to_string(&stack.document)?;
    fs::write(
        &stack.document,
        text.replace("management: Managed", "management: External"),
    )?;
    let (code, output) = stack.command(&["run"]).await?;
    assert_ne!(code, 0);
    assert!(output.contains("spec.heartbeat.enabled"), "{output}");
    assert_eq!(stack.ends().await?, 0);
    Ok(())
}
