//! Windows whose pages are bounded: which pages have rows of their own follows from the log, and
//! every other list is named.

use chrono::{TimeDelta, Utc};
use clickstream_processor::audit::{AuditReport, Kind, Outcome};
use clickstream_testbed::unique_name;
use tokio::sync::OnceCell;

use crate::{
    clicks::clicks,
    pipeline::{Pipeline, assert_clean, assert_differs},
};

/// Late events come to windows that are full; of the 17 pages three have rows of their own.
const RULES: &str = "{ policy: Merge }\n  events: { page: { maxPerWindow: 3 } }";
const RECORDS: u64 = 900;
/// One window with a full list in one piece.
const ONE: &str = "where ctid = (select ctid from clickstream_admitted_pages
    where partition = 1 and octet_length(url_hashes) = 48 order by window_start, source_offset limit 1)";

async fn filled() -> anyhow::Result<&'static Pipeline> {
    static FILLED: OnceCell<Pipeline> = OnceCell::const_new();
    FILLED
        .get_or_try_init(|| async {
            let mut pipeline = Pipeline::new(2, RULES, "").await?;
            let from = Utc::now() - TimeDelta::hours(2);
            // by more than one claim
            for numbers in [0..331, 331..332, 332..RECORDS] {
                pipeline.send(clicks(2, numbers, from)).await?;
                pipeline.drain().await?;
            }
            assert_clean(&pipeline.audit().await?);
            pipeline.disconnect().await?;
            Ok(pipeline)
        })
        .await
}

/// The same with a log that begins behind an anchor.
async fn cut() -> anyhow::Result<&'static Pipeline> {
    static CUT: OnceCell<Pipeline> = OnceCell::const_new();
    CUT.get_or_try_init(|| async {
        let mut pipeline = Pipeline::new(2, RULES, "").await?;
        let from = Utc::now() - TimeDelta::hours(2);
        for numbers in [0..502, 502..RECORDS] {
            pipeline.send(clicks(2, numbers, from)).await?;
            pipeline.drain().await?;
        }
        for partition in 0..2 {
            pipeline
                .kafka
                .delete_records(&pipeline.topic, partition, 450)
                .await?;
        }
        assert_clean(&pipeline.audit().await?);
        pipeline.disconnect().await?;
        Ok(pipeline)
    })
    .await
}

async fn after(pipeline: &Pipeline, sql: &str) -> anyhow::Result<AuditReport> {
    let copy = pipeline.copy().await?;
    copy.tamper(sql).await?;
    copy.audit().await
}

async fn count(pipeline: &Pipeline, sql: &str) -> anyhow::Result<i64> {
    Ok(pipeline.client.query_one(sql, &[]).await?.get(0))
}

#[tokio::test]
async fn no_more_pages_than_the_bound_have_rows_and_no_hit_is_lost() -> anyhow::Result<()> {
    let copy = filled().await?.copy().await?;
    assert_clean(&copy.audit().await?);
    let most = "select max(pages) from (select count(*) as pages from clickstream_agg_minute group by window_start) as windows";
    // three of each partition, which may be the same, and those of all others
    let most = count(&copy, most).await?;
    assert!((4..=7).contains(&most), "{most}");
    let hits = "select sum(hits)::bigint from clickstream_agg_minute";
    let accepted = "select sum(accepted)::bigint from clickstream_checkpoints";
    assert_eq!(count(&copy, hits).await?, count(&copy, accepted).await?);
    let others = "select sum(hits)::bigint from clickstream_agg_minute where url = '(other)' and event_name = '' and site is null";
    let listed = "select count(*) from clickstream_events as events
        join clickstream_topics as topics on topic_id = source_topic_id
        where not exists (
            select from clickstream_admitted_pages as pages
            where pages.topic = topics.topic and pages.partition = source_partition
              and window_start = date_trunc('minute', event_ts)
              and position(substr(sha256(convert_to(page, 'UTF8')), 1, 16) in url_hashes) % 16 = 1)";
    assert!(count(&copy, others).await? > 100);
    assert_eq!(count(&copy, others).await?, count(&copy, listed).await?);
    Ok(())
}

#[tokio::test]
async fn another_list_of_pages_than_that_of_the_log_is_named() -> anyhow::Result<()> {
    for (change, words) in [
        ("delete from clickstream_admitted_pages", "not admitted"),
        (
            "update clickstream_admitted_pages set url_hashes = substr(url_hashes, 17, 16) || substr(url_hashes, 1, 16) || substr(url_hashes, 33)",
            "is the 1st of the window, but listed as the 2nd",
        ),
        (
            "update clickstream_admitted_pages set url_hashes = url_hashes || sha256('x')",
            "5 pages are admitted, but 3 by the log",
        ),
        (
            "update clickstream_admitted_pages set url_hashes = substr(url_hashes, 1, 32)",
            "is the 3rd of at most 3, but not admitted",
        ),
        (
            "update clickstream_admitted_pages set url_hashes = url_hashes || substr(url_hashes, 1, 16)",
            "names one twice",
        ),
        (
            "update clickstream_admitted_pages set source_offset = source_offset + 100",
            "its flush is said to begin at",
        ),
        (
            "update clickstream_admitted_pages set source_offset = 100000",
            "at or above the partition's checkpoint",
        ),
    ] {
        let report = after(filled().await?, &format!("{change} {ONE}")).await?;
        assert_differs(&report, Kind::AdmittedPagesDiffer, words);
    }
    Ok(())
}

#[tokio::test]
async fn a_hit_of_other_pages_that_is_given_to_a_page_is_named() -> anyhow::Result<()> {
    for pipeline in [filled().await?, cut().await?] {
        let report = after(
            pipeline,
            "update clickstream_agg_lanes set url = '/page/x', event_name = 'page_view',
                url_hash = substr(sha256('/page/x'), 1, 16)
             where url = '(other)' and window_start = (select min(window_start) from clickstream_agg_lanes where url = '(other)')",
        )
        .await?;
        assert_differs(&report, Kind::HitsDiffer, "/page/x");
        assert_differs(&report, Kind::HitsDiffer, "(other)");
    }
    Ok(())
}

#[tokio::test]
async fn where_the_log_has_no_beginning_the_list_is_compared_with_rows() -> anyhow::Result<()> {
    for (change, words) in [
        (
            "delete from clickstream_admitted_pages",
            "hits of pages that are not admitted, below the bound",
        ),
        (
            "update clickstream_admitted_pages set url_hashes = url_hashes || sha256('x')",
            "5 pages are admitted, 3 by rows",
        ),
    ] {
        let report = after(cut().await?, &format!("{change} {ONE}")).await?;
        assert_differs(&report, Kind::AdmittedPagesDiffer, words);
    }
    // behind the anchor the log decides, as ever
    let behind = "where ctid = (select ctid from clickstream_admitted_pages
        where partition = 1 and source_offset >= 502 order by window_start, source_offset limit 1)";
    let report = after(
        cut().await?,
        &format!("delete from clickstream_admitted_pages {behind}"),
    )
    .await?;
    assert_differs(&report, Kind::AdmittedPagesDiffer, "not admitted");
    Ok(())
}

#[tokio::test]
async fn where_no_anchor_tells_the_bound_any_more_nothing_is_proven() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(1, "{ policy: Merge }\n  events: { page: {} }", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(1, 0..307, from)).await?;
    pipeline.drain().await?;
    // in the middle of a window
    pipeline.set_late_events(RULES);
    for numbers in [307..502, 502..RECORDS] {
        pipeline.send(clicks(1, numbers, from)).await?;
        pipeline.drain().await?;
    }
    assert_clean(&pipeline.audit().await?);
    pipeline
        .kafka
        .delete_records(&pipeline.topic, 0, 450)
        .await?;
    assert_clean(&pipeline.audit().await?);
    pipeline
        .client
        .execute(
            "delete from clickstream_anchors where next_offset < 400",
            &[],
        )
        .await?;
    let report = pipeline.audit().await?;
    assert_eq!(report.outcome, Outcome::NotProven, "{report}");
    // and windows that late events came to
    let words = "windows: no anchor tells any more by which maxPerWindow";
    assert!(report.to_string().contains(words), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_role_without_the_list_audits_what_was_never_bounded_and_nothing_else()
-> anyhow::Result<()> {
    for (rules, is_bounded) in [("{ policy: Merge }", false), (RULES, true)] {
        let mut pipeline = Pipeline::new(1, rules, "").await?;
        let from = Utc::now() - TimeDelta::hours(2);
        pipeline.send(clicks(1, 0..60, from)).await?;
        pipeline.drain().await?;
        let role = unique_name("auditor");
        pipeline
            .client
            .batch_execute(&format!(
                "create role {role} login; grant usage on schema clickstream to {role};
                 grant select on all tables in schema clickstream to {role};
                 revoke select on clickstream_admitted_pages from {role}"
            ))
            .await?;
        pipeline.set_user(&role);
        match (pipeline.audit().await, is_bounded) {
            (Ok(report), false) => assert_clean(&report),
            (Err(error), true) => {
                let said = format!("{error:#}");
                assert!(said.contains("grant it select"), "{said}");
            }
            (audited, _) => panic!("bounded: {is_bounded}, {audited:?}"),
        }
    }
    Ok(())
}
