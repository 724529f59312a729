//! What the log holds and the target has not read: a backlog, which is told, and partitions without
//! a checkpoint, of which nothing is proven.

use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::{
    clicks::{Click, click_at, clicks},
    pipeline::{Pipeline, assert_clean},
};

const PROVEN: &str = "everything follows from the log";

/// So many events of their own for one partition.
async fn send(pipeline: &Pipeline, partition: i32, count: usize) -> anyhow::Result<()> {
    let click = |_| Click {
        partition,
        value: Some(click_at(Utc::now() - TimeDelta::minutes(1))),
    };
    pipeline.send((0..count).map(click).collect()).await
}

async fn json(pipeline: &Pipeline) -> anyhow::Result<(Option<i32>, Value)> {
    let (code, text) = pipeline.audit_command("json").await?;
    Ok((code, serde_json::from_str(&text)?))
}

#[tokio::test]
async fn records_behind_the_offsets_that_were_reached_are_told_and_no_fault() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new(2, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(2, 0..100, from)).await?;
    pipeline.drain().await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    let text = report.to_string();
    assert!(text.lines().next().unwrap().ends_with(PROVEN), "{text}");

    send(&pipeline, 1, 40).await?;
    let (code, text) = pipeline.audit_command("table").await?;
    assert_eq!(code, Some(0), "{text}");
    let words = "everything up to the offsets that were reached follows from the log; 40 records behind them are not read yet";
    assert!(text.lines().next().unwrap().ends_with(words), "{text}");
    let (code, report) = json(&pipeline).await?;
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["partitions"][0]["unread"], 0, "{report}");
    assert_eq!(report["partitions"][1]["unread"], 40, "{report}");

    // what Kafka has dropped unread will not be read any more
    pipeline
        .kafka
        .delete_records(&pipeline.topic, 1, 130)
        .await?;
    let (_, report) = json(&pipeline).await?;
    assert_eq!(report["partitions"][1]["unread"], 10, "{report}");
    Ok(())
}

#[tokio::test]
async fn a_partition_with_records_and_without_a_checkpoint_is_not_proven() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(1, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(1, 0..100, from)).await?;
    pipeline.drain().await?;
    pipeline.kafka.create_partitions(&pipeline.topic, 3).await?;
    // nothing was missed as long as there is nothing
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert_eq!(report.partitions.len(), 1, "{report}");

    send(&pipeline, 1, 30).await?;
    let (code, text) = pipeline.audit_command("table").await?;
    assert_eq!(code, Some(4), "{text}");
    let listed = format!("not proven: {}[1]: 30 records", pipeline.topic);
    assert!(text.contains(&listed), "{text}");
    assert!(!text.contains(&format!("{}[2]", pipeline.topic)), "{text}");
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("audit not proven: "), "{text}");
    assert!(first.ends_with("; 30 records are not read yet"), "{text}");
    let (code, report) = json(&pipeline).await?;
    assert_eq!(code, Some(4), "{report}");
    assert_eq!(report["outcome"], "not_proven", "{report}");
    let partition = &report["partitions"][1];
    assert_eq!(partition["partition"], 1, "{report}");
    assert_eq!(partition["checkpoint"], false, "{report}");
    assert_eq!(partition["unread"], 30, "{report}");
    assert_eq!(report["partitions"][0]["unread"], 0, "{report}");
    assert_eq!(report["partitions"][0]["checkpoint"], true, "{report}");

    // all that is proven is proven as soon as a processor has come
    pipeline.drain().await?;
    assert_clean(&pipeline.audit().await?);
    Ok(())
}

#[tokio::test]
async fn a_target_that_has_read_nothing_of_a_log_is_not_proven() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(2, "{}", "").await?;
    let (code, text) = pipeline.audit_command("table").await?;
    assert_eq!(code, Some(0), "{text}");
    send(&pipeline, 0, 20).await?;
    let (code, text) = pipeline.audit_command("table").await?;
    assert_eq!(code, Some(4), "{text}");
    Ok(())
}
