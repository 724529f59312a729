//! A log without its beginning: below the first anchor only sums are known, and what was not
//! compared is told.

use chrono::{TimeDelta, Utc};
use clickstream_processor::audit::{AuditReport, Kind};
use tokio::sync::OnceCell;

use crate::{
    clicks::clicks,
    pipeline::{Pipeline, assert_clean, assert_differs},
};

/// Records of each of the two partitions below the anchor that the log still reaches, and in all.
const BELOW: u64 = 900;
const RECORDS: u64 = 1_100;

/// Anchors at 0 and 900, and a log that begins at 850.
async fn filled(late_events: &str, target: &str) -> anyhow::Result<Pipeline> {
    let pipeline = Pipeline::new(2, late_events, target).await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(2, 0..BELOW, from)).await?;
    pipeline.drain().await?;
    pipeline.send(clicks(2, BELOW..RECORDS, from)).await?;
    pipeline.drain().await?;
    for partition in 0..2 {
        pipeline
            .kafka
            .delete_records(&pipeline.topic, partition, 850)
            .await?;
    }
    Ok(pipeline)
}

async fn cut() -> anyhow::Result<&'static Pipeline> {
    static CUT: OnceCell<Pipeline> = OnceCell::const_new();
    CUT.get_or_try_init(|| async {
        let mut pipeline = filled("{ policy: Divert }", "").await?;
        assert_clean(&pipeline.audit().await?);
        pipeline.disconnect().await?;
        Ok(pipeline)
    })
    .await
}

/// The report after `sql` has changed one row.
async fn after(sql: &str) -> anyhow::Result<AuditReport> {
    let copy = cut().await?.copy().await?;
    copy.tamper(sql).await?;
    copy.audit().await
}

#[tokio::test]
async fn a_dead_letter_that_is_deleted_below_the_first_anchor_is_missed() -> anyhow::Result<()> {
    let report =
        after("delete from clickstream_dead_letters where partition = 0 and source_offset = 109")
            .await?;
    assert_differs(&report, Kind::MissingDeadLetter, "below offset 900");
    assert_eq!(report.differences_total, 1, "{report}");
    let report = after(
        "insert into clickstream_dead_letters (topic, partition, source_offset, reason, detail, payload, received_at)
         select topic, partition, 110, reason, detail, payload, received_at from clickstream_dead_letters
         where partition = 0 and source_offset = 109",
    )
    .await?;
    assert_differs(&report, Kind::StrayDeadLetter, "below offset 900");
    Ok(())
}

#[tokio::test]
async fn a_late_row_that_is_deleted_below_the_first_anchor_is_missed() -> anyhow::Result<()> {
    let report =
        after("delete from clickstream_late_events where partition = 0 and source_offset = 615")
            .await?;
    assert_differs(&report, Kind::MissingLateEvent, "below offset 900");
    assert_eq!(report.differences_total, 1, "{report}");
    Ok(())
}

#[tokio::test]
async fn late_rows_among_the_events_are_counted_where_the_policy_stores_them() -> anyhow::Result<()>
{
    let pipeline = filled("{ policy: Store }", "").await?;
    assert_clean(&pipeline.audit().await?);
    pipeline
        .tamper("delete from clickstream_events where is_late and source_partition = 1 and source_offset = 615")
        .await?;
    let report = pipeline.audit().await?;
    assert_differs(&report, Kind::MissingLateEvent, "below offset 900");
    assert_eq!(report.differences_total, 1, "{report}");
    Ok(())
}

#[tokio::test]
async fn ledgers_are_counted_from_where_their_retention_cannot_have_come() -> anyhow::Result<()> {
    let pipeline = filled(
        "{ policy: Divert }",
        "retention: { deadLetters: 48h, lateEvents: 48h }",
    )
    .await?;
    assert_clean(&pipeline.audit().await?);
    for (table, offset, kind) in [
        ("clickstream_dead_letters", 109, Kind::MissingDeadLetter),
        ("clickstream_late_events", 615, Kind::MissingLateEvent),
    ] {
        pipeline
            .tamper(&format!(
                "delete from {table} where partition = 0 and source_offset = {offset}"
            ))
            .await?;
        assert_differs(&pipeline.audit().await?, kind, "below offset 900");
    }
    // had all this been stored three days ago, retention would have been what took them
    pipeline
        .client
        .execute(
            "update clickstream_anchors set created_at = created_at - interval '3 days'",
            &[],
        )
        .await?;
    assert_clean(&pipeline.audit().await?);
    Ok(())
}

#[tokio::test]
async fn users_and_visits_of_another_window_are_found_where_only_rows_are_left()
-> anyhow::Result<()> {
    for column in ["visitors_bits", "sessions_bits"] {
        let report = after(&format!(
            "update clickstream_traffic_parts as parts set {column} = others.{column}
             from clickstream_traffic_parts as others
             where parts.partition = 1 and parts.window_start = (select min(window_start) from clickstream_traffic_parts)
               and others.partition = 1 and others.window_start = parts.window_end"
        ))
        .await?;
        assert_differs(&report, Kind::SketchDiffers, column);
        assert_eq!(report.differences_total, 1, "{report}");
    }
    Ok(())
}

#[tokio::test]
async fn rows_of_an_earlier_version_are_counted_where_only_rows_are_left() -> anyhow::Result<()> {
    let report = after(
        "update clickstream_traffic_parts set sketch_format = 1, visitors_bits = null, visitors = 4711
         where partition = 1 and window_start = (select min(window_start) from clickstream_traffic_parts)",
    )
    .await?;
    assert_clean(&report);
    assert_eq!(report.windows_of_older_form, 1, "{report}");
    Ok(())
}

#[tokio::test]
async fn what_retention_took_from_the_log_is_told_as_a_share_and_is_no_fault() -> anyhow::Result<()>
{
    let copy = cut().await?.copy().await?;
    let (code, text) = copy.audit_command("table").await?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("400 of 2200 records"), "{text}");
    let (_, text) = copy.audit_command("json").await?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(report["outcome"], "clean");
    assert_eq!(report["records_counted"], 2_200);
    assert_eq!(report["partitions"][1]["records_compared"], 200);
    assert_eq!(report["partitions"][1]["records_counted"], 1_100);
    assert_eq!(
        report["partitions"][1]["windows_compared"],
        report["partitions"][1]["windows_stored"]
    );
    assert!(report["partitions"][1]["windows_stored"].as_i64() > Some(50));
    Ok(())
}

#[tokio::test]
async fn without_an_anchor_nothing_is_proven() -> anyhow::Result<()> {
    // of one partition, and of both
    for condition in ["partition = 1", "true"] {
        let copy = cut().await?.copy().await?;
        copy.client
            .execute(
                &format!("delete from clickstream_anchors where {condition}"),
                &[],
            )
            .await?;
        let (code, text) = copy.audit_command("table").await?;
        assert_eq!(code, Some(4), "{text}");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("audit not proven: "), "{text}");
        assert!(text.contains("[1]: no anchor"), "{text}");
        let (code, text) = copy.audit_command("json").await?;
        assert_eq!(code, Some(4), "{text}");
        let report: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!(report["outcome"], "not_proven");
        assert_eq!(report["clean"], false);
        assert_eq!(report["differences_total"], 0);
        assert_eq!(report["partitions"][1]["records_compared"], 0);
        assert!(!report["not_proven"].as_array().unwrap().is_empty());
        // a difference is more than a doubt
        copy.tamper("update clickstream_events set url = '/other' where source_partition = 1 and source_offset = 100")
            .await?;
        let (code, text) = copy.audit_command("json").await?;
        assert_eq!(code, Some(3), "{text}");
    }
    Ok(())
}

/// Every record was read after a claim, which wrote an anchor at or below it. So where the log has
/// records below the first anchor that is left, and nothing is left below the log's start either,
/// anchors were lost.
#[tokio::test]
async fn a_lost_anchor_leaves_a_part_of_the_log_unproven() -> anyhow::Result<()> {
    let copy = cut().await?.copy().await?;
    copy.tamper("delete from clickstream_anchors where partition = 0 and next_offset = 0")
        .await?;
    let (code, text) = copy.audit_command("table").await?;
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("[0]: offsets 850 to 900"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_log_that_holds_nothing_of_a_partition_proves_nothing_of_it() -> anyhow::Result<()> {
    let pipeline = filled("{ policy: Divert }", "").await?;
    pipeline
        .kafka
        .delete_records(&pipeline.topic, 0, i64::try_from(RECORDS)?)
        .await?;
    let (code, text) = pipeline.audit_command("table").await?;
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("[0]: "), "{text}");
    Ok(())
}
