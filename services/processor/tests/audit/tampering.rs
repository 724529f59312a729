//! One tampering each, on a copy of a database that a processor has filled.

use chrono::{TimeDelta, Utc};
use clickstream_processor::{
    audit::{AuditReport, Kind},
    sink::columns::{Column, Table},
};
use tokio::sync::OnceCell;

use crate::{
    clicks::clicks,
    pipeline::{Pipeline, assert_clean, assert_differs},
};

/// Records in each of the two partitions.
const RECORDS: u64 = 1_500;

/// A pipeline to copy, drained and clean.
pub async fn filled() -> anyhow::Result<&'static Pipeline> {
    static FILLED: OnceCell<Pipeline> = OnceCell::const_new();
    FILLED
        .get_or_try_init(|| async {
            let mut pipeline = Pipeline::new(2, "{ policy: Divert }", "").await?;
            let from = Utc::now() - TimeDelta::hours(2);
            pipeline.send(clicks(2, 0..RECORDS, from)).await?;
            pipeline.drain().await?;
            assert_clean(&pipeline.audit().await?);
            pipeline.disconnect().await?;
            Ok(pipeline)
        })
        .await
}

/// The report after `sql` has changed one row.
pub async fn after(sql: &str) -> anyhow::Result<AuditReport> {
    let copy = filled().await?.copy().await?;
    copy.tamper(sql).await?;
    copy.audit().await
}

#[tokio::test]
async fn what_a_processor_wrote_is_clean_and_every_verdict_is_in_it() -> anyhow::Result<()> {
    let copy = filled().await?.copy().await?;
    let report = copy.audit().await?;
    assert_clean(&report);
    assert_eq!(report.partitions.len(), 2);
    for partition in &report.partitions {
        let verdicts = [
            partition.accepted,
            partition.duplicate,
            partition.rejected,
            partition.late,
            partition.skipped,
        ];
        assert!(verdicts.iter().all(|&count| count > 0), "{report}");
        assert_eq!(partition.to_offset, i64::try_from(RECORDS)?);
        assert_eq!(
            partition.consumed + partition.skipped,
            i64::try_from(RECORDS)?
        );
    }
    let refused: i64 = copy
        .client
        .query_one(
            "select count(*) from clickstream_dead_letters where reason = 'refused_by_database'",
            &[],
        )
        .await?
        .get(0);
    assert!(refused > 0);
    Ok(())
}

#[tokio::test]
async fn the_command_exits_with_0_when_clean_and_with_3_when_not() -> anyhow::Result<()> {
    let copy = filled().await?.copy().await?;
    let (code, text) = copy.audit_command("table").await?;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.lines()
            .next()
            .unwrap()
            .starts_with("audit clean: 3000 records"),
        "{text}"
    );
    copy.tamper(
        "delete from clickstream_events where source_partition = 0 and source_offset = 100",
    )
    .await?;
    let (code, text) = copy.audit_command("json").await?;
    assert_eq!(code, Some(3), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(report["clean"], false);
    assert_eq!(report["differences"][0]["kind"], "missing_row");
    assert_eq!(report["differences"][0]["offset"], 100);
    Ok(())
}

#[tokio::test]
async fn a_deleted_event_is_missed() -> anyhow::Result<()> {
    let report =
        after("delete from clickstream_events where source_partition = 0 and source_offset = 100")
            .await?;
    assert_differs(&report, Kind::MissingRow, "[0]@100");
    Ok(())
}

#[tokio::test]
async fn an_extra_row_is_found_whatever_record_it_names() -> anyhow::Result<()> {
    let insert = |offset: i64| {
        format!(
            "insert into clickstream_events (event_id, user_id, event_ts, event_date, url, received_at, source_topic_id, source_partition, source_offset)
             select gen_random_uuid(), user_id, event_ts, event_date, url, received_at, source_topic_id, source_partition, {offset}
             from clickstream_events where source_partition = 0 and source_offset = 100"
        )
    };
    // an event, a duplicate, a tombstone
    for offset in [100, 105, 113] {
        let report = after(&insert(offset)).await?;
        assert_differs(&report, Kind::StrayRow, &format!("[0]@{offset}"));
    }
    let report = after(&insert(1_000_000)).await?;
    assert_differs(&report, Kind::RowAheadOfCheckpoint, "1 rows");
    Ok(())
}

#[tokio::test]
async fn a_row_of_an_unknown_partition_is_found() -> anyhow::Result<()> {
    let report = after("update clickstream_events set source_partition = 7 where source_partition = 0 and source_offset = 100").await?;
    assert_differs(&report, Kind::UnknownPartition, "partition 7");
    Ok(())
}

#[tokio::test]
async fn a_duplicate_that_stands_for_the_first_is_found() -> anyhow::Result<()> {
    // record 105 repeats record 103
    let report = after("update clickstream_events set source_offset = 105 where source_partition = 0 and source_offset = 103").await?;
    assert_differs(&report, Kind::DuplicateOfLater, "[0]@103");
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_marked_late_is_found() -> anyhow::Result<()> {
    let report = after("update clickstream_events set is_late = true where source_partition = 0 and source_offset = 100").await?;
    assert_differs(&report, Kind::LatenessDiffers, "[0]@100");
    Ok(())
}

#[tokio::test]
async fn changed_hits_are_named_with_window_and_page() -> anyhow::Result<()> {
    let report = after(
        "update clickstream_agg_lanes set hits = hits + 1 where (window_start, url_hash, lane) =
         (select window_start, url_hash, lane from clickstream_agg_lanes where url like '/page/3?%' order by window_start limit 1)",
    )
    .await?;
    assert_differs(&report, Kind::HitsDiffer, "page /page/3?");
    assert_eq!(report.differences_total, 1, "{report}");
    Ok(())
}

#[tokio::test]
async fn changed_bot_hits_are_named_with_window_and_page() -> anyhow::Result<()> {
    let report = after(
        "update clickstream_agg_lanes set bot_hits = 1 where (window_start, url_hash, lane) =
         (select window_start, url_hash, lane from clickstream_agg_lanes where url like '/page/3?%' order by window_start limit 1)",
    )
    .await?;
    assert_differs(&report, Kind::HitsDiffer, "bot_hits 1, rows 0");
    assert_eq!(report.differences_total, 1, "{report}");
    Ok(())
}

#[tokio::test]
async fn hits_under_another_page_are_found_although_the_sum_is_right() -> anyhow::Result<()> {
    let report = after(
        "update clickstream_agg_lanes set url = '/nowhere', url_hash = substr(sha256('/nowhere'), 1, 16) where (window_start, url_hash, lane) =
         (select window_start, url_hash, lane from clickstream_agg_lanes where url like '/page/3?%' order by window_start limit 1)",
    )
    .await?;
    assert_differs(&report, Kind::HitsDiffer, "page /nowhere");
    assert_differs(&report, Kind::HitsDiffer, "page /page/3?");
    Ok(())
}

#[tokio::test]
async fn a_page_under_the_hash_of_another_is_found() -> anyhow::Result<()> {
    let report = after(
        "update clickstream_agg_lanes set url = '/nowhere' where (window_start, url_hash, lane) =
         (select window_start, url_hash, lane from clickstream_agg_lanes order by window_start limit 1)",
    )
    .await?;
    assert_differs(&report, Kind::AggregateMalformed, "/nowhere");
    Ok(())
}

#[tokio::test]
async fn traffic_of_a_partition_is_compared_with_its_records() -> anyhow::Result<()> {
    let one = "where partition = 1 and window_start = (select min(window_start) from clickstream_traffic_parts)";
    for (change, kind, words) in [
        ("hits = hits - 1", Kind::TrafficHitsDiffer, "hits: stored"),
        (
            "bot_hits = 1",
            Kind::TrafficHitsDiffer,
            "bot_hits: stored 1, recomputed 0",
        ),
        (
            "window_end = window_end + interval '1 minute'",
            Kind::AggregateMalformed,
            "no window of the schema",
        ),
    ] {
        let report = after(&format!(
            "update clickstream_traffic_parts set {change} {one}"
        ))
        .await?;
        assert_differs(&report, kind, words);
    }
    let report = after(&format!("delete from clickstream_traffic_parts {one}")).await?;
    assert_differs(&report, Kind::TrafficHitsDiffer, "stored 0");
    Ok(())
}

#[tokio::test]
async fn dead_letters_are_compared_with_what_the_decoder_says() -> anyhow::Result<()> {
    let one = "where partition = 0 and source_offset = 109";
    let report = after(&format!("delete from clickstream_dead_letters {one}")).await?;
    assert_differs(&report, Kind::MissingDeadLetter, "[0]@109");
    for (change, words) in [
        ("reason = 'empty'", "reason empty instead of invalid_json"),
        ("detail = 'wrong'", "detail"),
        ("payload = 'wrong'", "payload"),
        ("received_at = now()", "received_at"),
    ] {
        let report = after(&format!(
            "update clickstream_dead_letters set {change} {one}"
        ))
        .await?;
        assert_differs(&report, Kind::DeadLetterDiffers, words);
        assert_eq!(report.differences_total, 1, "{report}");
    }
    let insert = "insert into clickstream_dead_letters (topic, partition, source_offset, reason, detail, payload, received_at)
        select topic, partition, 110, reason, detail, payload, received_at from clickstream_dead_letters";
    let report = after(&format!("{insert} {one}")).await?;
    assert_differs(&report, Kind::StrayDeadLetter, "[0]@110");
    let report = after(&format!(
        "insert into clickstream_dead_letters (topic, partition, source_offset, source_index, reason, detail, payload, received_at)
         select topic, partition, source_offset, 1, reason, detail, payload, received_at from clickstream_dead_letters {one}"
    ))
    .await?;
    assert_differs(&report, Kind::StrayDeadLetter, "[0]@109");
    Ok(())
}

#[tokio::test]
async fn a_refused_event_without_its_dead_letter_is_missed() -> anyhow::Result<()> {
    let report = after(
        "delete from clickstream_dead_letters where (partition, source_offset) =
         (select partition, source_offset from clickstream_dead_letters where reason = 'refused_by_database' order by 1, 2 limit 1)",
    )
    .await?;
    assert_differs(&report, Kind::MissingRow, "[0]@17");
    Ok(())
}

#[tokio::test]
async fn the_late_ledger_is_compared_with_the_rules() -> anyhow::Result<()> {
    let one = "where partition = 0 and source_offset = 615";
    let report = after(&format!("delete from clickstream_late_events {one}")).await?;
    assert_differs(&report, Kind::MissingLateEvent, "[0]@615");
    let report = after(&format!(
        "update clickstream_late_events set url = '/other' {one}"
    ))
    .await?;
    assert_differs(&report, Kind::LateEventDiffers, "url not as in the log");
    let report = after(&format!(
        "update clickstream_late_events set source_offset = 616 {one}"
    ))
    .await?;
    assert_differs(&report, Kind::StrayLateEvent, "[0]@616");
    let columns: Vec<_> = Table::Late
        .columns()
        .map(|column| match column.name() {
            "source_index" => "1",
            "event_id" => "gen_random_uuid()",
            name => name,
        })
        .collect();
    let names: Vec<_> = Table::Late.columns().map(Column::name).collect();
    let report = after(&format!(
        "insert into clickstream_late_events ({}) select {} from clickstream_late_events {one}",
        names.join(", "),
        columns.join(", ")
    ))
    .await?;
    assert_differs(&report, Kind::StrayLateEvent, "[0]@615");
    Ok(())
}

#[tokio::test]
async fn counters_must_add_up_and_be_those_of_the_log() -> anyhow::Result<()> {
    for (change, words) in [
        ("consumed = consumed + 1, late = late + 1", "late: stored"),
        (
            "accepted = accepted + 1, duplicate = duplicate - 1",
            "accepted: stored",
        ),
        (
            "rejected = rejected - 1, duplicate = duplicate + 1",
            "rejected: stored",
        ),
        ("skipped = skipped + 1", "skipped: stored"),
        ("expired = expired + 1", "1 have expired"),
        ("revised = accepted + 1", "revised"),
    ] {
        let report = after(&format!(
            "update clickstream_checkpoints set {change} where partition = 1"
        ))
        .await?;
        assert_differs(&report, Kind::CounterDiffers, words);
        assert_eq!(report.partitions[0].differences, 0, "{report}");
    }
    Ok(())
}

#[tokio::test]
async fn event_time_must_be_that_of_the_log() -> anyhow::Result<()> {
    for change in [
        "clock_t = clock_t + interval '1 microsecond'",
        "clock_times[31] = clock_times[31] + interval '1 microsecond'",
        "clock_times = clock_times[2:]",
    ] {
        let report = after(&format!(
            "update clickstream_checkpoints set {change} where partition = 0"
        ))
        .await?;
        assert_differs(&report, Kind::ClockDiffers, "[0]@1500");
        assert_eq!(report.differences_total, 1, "{report}");
    }
    Ok(())
}

#[tokio::test]
async fn a_position_that_skips_records_is_found() -> anyhow::Result<()> {
    let report = after(
        "update clickstream_checkpoints set next_offset = next_offset - 3 where partition = 0",
    )
    .await?;
    assert_differs(
        &report,
        Kind::RowAheadOfCheckpoint,
        "at or above the checkpoint",
    );
    let report = after(
        "update clickstream_checkpoints set next_offset = next_offset + 3 where partition = 0",
    )
    .await?;
    assert_differs(&report, Kind::LogEndsEarly, "[0]@1500");
    Ok(())
}

#[tokio::test]
async fn a_gap_where_the_log_has_records_is_found() -> anyhow::Result<()> {
    let insert = "insert into clickstream_gaps (topic, partition, first_offset, next_offset) select topic, 0, 40, 50 from clickstream_topics";
    let report = after(insert).await?;
    assert_differs(&report, Kind::GapContradicted, "[0]@40");
    Ok(())
}

#[tokio::test]
async fn finality_beyond_every_event_time_is_found() -> anyhow::Result<()> {
    let report =
        after("update clickstream_finality set final_until = now() + interval '1 day'").await?;
    assert_differs(&report, Kind::FinalTooFar, "final until");
    Ok(())
}

#[tokio::test]
async fn another_kafka_cluster_is_refused() -> anyhow::Result<()> {
    let copy = filled().await?.copy().await?;
    copy.tamper("update clickstream_topics set kafka_cluster = 'another'")
        .await?;
    let error = copy.audit().await.unwrap_err();
    assert!(
        error.to_string().contains("filled from another"),
        "{error:#}"
    );
    Ok(())
}
