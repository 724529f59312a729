//! What a target can have been through: other policies, changed rules, a log that was cut,
//! retention, a live processor.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use clickstream_processor::audit::Kind;

use crate::{
    clicks::{Click, click_at, clicks},
    pipeline::{Pipeline, assert_clean, assert_differs},
};

#[tokio::test]
async fn late_events_that_are_stored_or_dropped_are_accounted_for() -> anyhow::Result<()> {
    for policy in ["Store", "Drop"] {
        let pipeline = Pipeline::new(2, &format!("{{ policy: {policy} }}"), "").await?;
        pipeline
            .send(clicks(2, 0..900, Utc::now() - TimeDelta::hours(2)))
            .await?;
        pipeline.drain().await?;
        let report = pipeline.audit().await?;
        assert_clean(&report);
        assert!(
            report.partitions.iter().all(|partition| partition.late > 0),
            "{report}"
        );
        if policy == "Store" {
            pipeline.tamper("update clickstream_events set is_late = false where source_partition = 0 and source_offset = 615").await?;
            assert_differs(
                &pipeline.audit().await?,
                Kind::LatenessDiffers,
                "not marked so",
            );
        }
    }
    Ok(())
}

/// A window can get late hits long after it was summed up, and each policy in its time counts them
/// or not.
#[tokio::test]
async fn late_events_that_are_merged_are_counted_in_their_window() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(2, "{ policy: Merge }", "").await?;
    let from = Utc::now() - TimeDelta::hours(12);
    // more than one slice of the log, so that windows are summed up on the way
    pipeline.send(clicks(2, 0..5_000, from)).await?;
    pipeline.drain().await?;
    pipeline.set_late_events("{ policy: Store }");
    pipeline.send(clicks(2, 5_000..5_500, from)).await?;
    pipeline.drain().await?;
    pipeline.set_late_events("{ policy: Merge }");
    pipeline.send(clicks(2, 5_500..6_000, from)).await?;
    pipeline.drain().await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert!(
        report.partitions.iter().all(|partition| partition.late > 0),
        "the time of Store: {report}"
    );
    let merged: i64 = pipeline
        .client
        .query_one(
            "select sum(merged)::bigint from clickstream_checkpoints",
            &[],
        )
        .await?
        .get(0);
    assert!(merged > 200, "{merged}");
    // the same from the rows alone
    for partition in 0..2 {
        pipeline
            .kafka
            .delete_records(&pipeline.topic, partition, 5_200)
            .await?;
    }
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert_eq!(report.partitions[0].from_offset, 5_500, "{report}");
    pipeline
        .tamper("delete from clickstream_events where source_partition = 0 and source_offset = 4955 and is_late")
        .await?;
    let report = pipeline.audit().await?;
    assert_differs(&report, Kind::MissingLateEvent, "below offset 5500");
    assert_differs(&report, Kind::TrafficHitsDiffer, "hits: stored");
    Ok(())
}

#[tokio::test]
async fn a_day_that_is_being_dropped_makes_an_audit_wait_for_its_end() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(1, "{}", "").await?;
    let from = Utc::now() - TimeDelta::days(3);
    pipeline.send(clicks(1, 0..100, from)).await?;
    pipeline.drain().await?;
    let day = from.date_naive();
    for (step, done) in [("detach_day", false), ("drop_detached", true)] {
        let sql = format!("select clickstream_{step}($1)");
        pipeline.client.query_one(&sql, &[&day]).await?;
        let audited = pipeline.audit().await;
        if done {
            let report = audited?;
            assert!(report.differences.is_empty(), "{report}");
        } else {
            let error = audited.unwrap_err().to_string();
            assert!(error.contains("is dropping"), "{error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn records_are_judged_by_the_rules_of_their_time() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(2, "{ policy: Divert }", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(2, 0..700, from)).await?;
    pipeline.drain().await?;
    pipeline.set_late_events("{ allowedLateness: 1h, policy: Store }");
    pipeline.send(clicks(2, 700..1_000, from)).await?;
    pipeline.drain().await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    // half an hour was late before and is not any more
    let late: i64 = report
        .partitions
        .iter()
        .map(|partition| partition.late)
        .sum();
    assert!((1..=10).contains(&late), "{report}");
    pipeline
        .tamper("update clickstream_anchors set spec = spec || '{\"allowed_lateness_micros\": 600000000}' where partition = 1 and next_offset = 700")
        .await?;
    assert_differs(&pipeline.audit().await?, Kind::LatenessDiffers, "[1]@7");
    Ok(())
}

#[tokio::test]
async fn an_anchor_on_the_way_must_hold_the_state_of_the_log() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(2, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(2, 0..300, from)).await?;
    pipeline.drain().await?;
    pipeline.send(clicks(2, 300..600, from)).await?;
    pipeline.drain().await?;
    assert_clean(&pipeline.audit().await?);
    pipeline.tamper("update clickstream_anchors set accepted = accepted + 1 where partition = 1 and next_offset = 300").await?;
    assert_differs(
        &pipeline.audit().await?,
        Kind::CounterDiffers,
        "[1]@300: anchor: accepted",
    );
    Ok(())
}

#[tokio::test]
async fn a_log_without_its_beginning_is_compared_from_the_first_anchor_on() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(2, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(2, 0..700, from)).await?;
    pipeline.drain().await?;
    pipeline.send(clicks(2, 700..1_000, from)).await?;
    pipeline.drain().await?;
    for partition in 0..2 {
        pipeline
            .kafka
            .delete_records(&pipeline.topic, partition, 650)
            .await?;
    }
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert!(
        report
            .partitions
            .iter()
            .all(|p| (p.from_offset, p.to_offset) == (700, 1_000)),
        "{report}"
    );
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("compared with the stored rows")),
        "{report}"
    );

    // below the anchor only sums are known, and each of them notices
    pipeline.tamper("update clickstream_events set url = '/other' where source_partition = 0 and source_offset = 100").await?;
    let report = pipeline.audit().await?;
    assert_differs(&report, Kind::HitsDiffer, "page /other: stored 0, rows 1");
    pipeline
        .tamper("delete from clickstream_events where source_partition = 0 and source_offset = 100")
        .await?;
    let report = pipeline.audit().await?;
    assert_differs(&report, Kind::CounterDiffers, "0 have expired");
    assert_differs(&report, Kind::TrafficHitsDiffer, "hits: stored");
    Ok(())
}

#[tokio::test]
async fn a_gap_in_the_log_is_passed_over_and_told() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(1, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(1, 0..300, from)).await?;
    pipeline.drain().await?;
    pipeline.send(clicks(1, 300..600, from)).await?;
    pipeline
        .kafka
        .delete_records(&pipeline.topic, 0, 400)
        .await?;
    pipeline.drain().await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert_eq!(report.partitions[0].from_offset, 400, "{report}");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("dropped offsets 300 to 400")),
        "{report}"
    );
    Ok(())
}

#[tokio::test]
async fn a_dropped_day_is_left_out_and_counted() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(2, "{}", "").await?;
    // the first day is over before the second begins, and both are past
    let midnight = Utc::now()
        .date_naive()
        .and_hms_opt(0, 0, 0)
        .unwrap()
        .and_utc()
        - TimeDelta::days(3);
    pipeline
        .send(clicks(2, 0..400, midnight - TimeDelta::minutes(20)))
        .await?;
    pipeline.drain().await?;
    assert_clean(&pipeline.audit().await?);
    let day = (midnight - TimeDelta::days(1)).date_naive();
    let dropped: i64 = pipeline
        .client
        .query_one("select clickstream_drop_day($1)", &[&day])
        .await?
        .get(0);
    assert!(dropped > 0);
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.starts_with(&format!("{dropped} events"))),
        "{report}"
    );
    let expired = "update clickstream_checkpoints set expired = expired - 1 where partition = 0";
    pipeline.tamper(expired).await?;
    assert_differs(
        &pipeline.audit().await?,
        Kind::CounterDiffers,
        "have expired",
    );
    Ok(())
}

#[tokio::test]
async fn a_live_pipeline_is_clean_at_every_moment() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(2, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(20);
    let processor = pipeline.start()?;
    pipeline.send(clicks(2, 0..1_000, from)).await?;
    pipeline.wait_drained().await?;
    let done = AtomicBool::new(false);
    let feed = async {
        let mut sent = 10;
        while !done.load(Ordering::Relaxed) {
            let numbers = sent * 100..(sent + 1) * 100;
            // slower after a while, so that event time does not come near to now
            pipeline.send(clicks(2, numbers, from)).await?;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(if sent < 160 { 50 } else { 1_000 })).await;
        }
        anyhow::Ok(2 * 100 * sent)
    };
    let audits = async {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let report = pipeline.audit().await?;
            assert_clean(&report);
            seen.push(report.records);
        }
        // the same with aggregates that are read over seconds, while hits come to windows that are
        // read and to others
        let slow = [
            ("FAILPOINTS", "audit_slice=sleep(30)"),
            ("CLICKSTREAM_AUDIT_SLICE_ROWS", "100"),
        ];
        for _ in 0..2 {
            let (code, text) = pipeline.audit_command_with("table", &slow).await?;
            assert_eq!(code, Some(0), "{text}");
        }
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(seen)
    };
    let (sent, seen) = tokio::join!(feed, audits);
    let (sent, seen) = (sent?, seen?);
    assert!(
        seen.first() < seen.last(),
        "the pipeline stood still: {seen:?}"
    );
    pipeline.wait_drained().await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert_eq!(report.records, i64::try_from(sent)?);
    processor.terminate()?;
    processor.wait(Duration::from_secs(30)).await?;
    Ok(())
}

#[tokio::test]
async fn events_of_many_days_are_found_together() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(1, "{}", "").await?;
    let days = (1..=14).rev().map(|day| Click {
        partition: 0,
        value: Some(click_at(Utc::now() - TimeDelta::days(day))),
    });
    pipeline.send(days.collect()).await?;
    pipeline.drain().await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert_eq!((report.rows, report.partitions[0].accepted), (14, 14));
    pipeline
        .tamper("delete from clickstream_events where source_offset = 9")
        .await?;
    assert_differs(&pipeline.audit().await?, Kind::MissingRow, "[0]@9");
    Ok(())
}
