//! Distinct users and visits, tampered with: as sets of bits, in rows of earlier versions, and as
//! the view shows them.

use clickstream_processor::audit::Kind;

use crate::{
    pipeline::{Pipeline, assert_clean, assert_differs},
    tampering::{after, filled},
};

/// A row of the first window.
const ONE: &str = "parts.partition = 1 and parts.window_start = (select min(window_start) from clickstream_traffic_parts)";

#[tokio::test]
async fn users_and_visits_that_are_not_those_of_the_records_are_found() -> anyhow::Result<()> {
    for column in ["visitors_bits", "sessions_bits"] {
        for change in [
            // of the next window
            format!("others.{column}"),
            // one too many, one too few, none at all, and nothing
            format!("set_bit(parts.{column}, 24575, 1)"),
            format!("set_bit(parts.{column}, position(B'1' in parts.{column}) - 1, 0)"),
            "0::bit(24576)".to_owned(),
            "null".to_owned(),
        ] {
            let report = after(&format!(
                "update clickstream_traffic_parts as parts set {column} = {change} from clickstream_traffic_parts as others
                 where {ONE} and others.partition = 1 and others.window_start = parts.window_end"
            ))
            .await?;
            assert_differs(
                &report,
                Kind::SketchDiffers,
                &format!("{column}: not that of"),
            );
            assert_eq!(report.differences_total, 1, "{report}");
        }
    }
    for form in [0, 3] {
        let report = after(&format!(
            "update clickstream_traffic_parts as parts set sketch_format = {form} where {ONE}"
        ))
        .await?;
        let words = format!("sketch_format {form} instead of 2");
        assert_differs(&report, Kind::SketchDiffers, &words);
    }
    Ok(())
}

/// Whatever a processor of an earlier version wrote as the number of users follows from nothing
/// that is stored. Everything else of its rows, and of its windows' other rows, does.
#[tokio::test]
async fn rows_of_an_earlier_version_are_compared_but_for_their_users_and_visits_and_the_report_says_so()
-> anyhow::Result<()> {
    let older = |more: &str| {
        format!(
            "update clickstream_traffic_parts as parts set sketch_format = 1 {more} where {ONE}"
        )
    };
    let copy = filled().await?.copy().await?;
    copy.tamper(&older(
        ", visitors = 4711, visitors_bits = null, sessions_bits = ~sessions_bits",
    ))
    .await?;
    let (code, text) = copy.audit_command("table").await?;
    assert_eq!(code, Some(0), "{text}");
    let windows = copy
        .client
        .query_one(
            "select count(distinct window_start) from clickstream_traffic_parts",
            &[],
        )
        .await?
        .get::<_, i64>(0);
    let note = format!(
        "note: visitors and sessions of 1 of {windows} windows are of an older form and were not compared"
    );
    assert!(text.contains(&note), "{text}");
    let first = text.lines().next().unwrap();
    assert!(
        first.contains(
            "windows, visitors and sessions of 1 of them left out: everything else follows"
        ),
        "{text}"
    );
    let (_, text) = copy.audit_command("json").await?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    assert_eq!(report["windows_of_older_form"], 1);
    assert_eq!(report["outcome"], "clean");

    copy.tamper(
        "update clickstream_traffic_parts set visitors_bits = set_bit(visitors_bits, 24575, 1)
         where partition = 0 and window_start = (select min(window_start) from clickstream_traffic_parts)",
    )
    .await?;
    assert_differs(&copy.audit().await?, Kind::SketchDiffers, "[0] window");
    let report = after(&older(", hits = hits + 1")).await?;
    assert_differs(&report, Kind::TrafficHitsDiffer, "hits: stored");
    Ok(())
}

/// Puts another view in the place of the one that shows users and visits over all partitions.
async fn shown_as(columns: &str, condition: &str) -> anyhow::Result<Pipeline> {
    let copy = filled().await?.copy().await?;
    copy.client
        .batch_execute(&format!(
            "alter view clickstream_traffic_minute rename to honest;
             create view clickstream_traffic_minute as
                 select window_start, window_end, hits, {columns}, urls, final from honest where {condition}"
        ))
        .await?;
    Ok(copy)
}

#[tokio::test]
async fn the_view_shows_the_union_of_all_partitions_or_is_found_out() -> anyhow::Result<()> {
    let first = "window_start = (select min(window_start) from clickstream_traffic_parts)";
    let honest = "visitors, sessions, visitors_bits, sessions_bits, revised";
    assert_clean(&shown_as(honest, "true").await?.audit().await?);
    for (columns, condition, words) in [
        (
            format!(
                "visitors + ({first})::int as visitors, sessions, visitors_bits, sessions_bits, revised"
            ),
            "true".to_owned(),
            "visitors: the view shows",
        ),
        (
            "visitors, sessions + 1 as sessions, visitors_bits, sessions_bits, revised".to_owned(),
            "true".to_owned(),
            "sessions: the view shows",
        ),
        (
            "visitors, sessions, set_bit(visitors_bits, 24575, 1) as visitors_bits, sessions_bits, revised"
                .to_owned(),
            "true".to_owned(),
            "visitors_bits of the view",
        ),
        (honest.to_owned(), format!("not {first}"), "does not show"),
    ] {
        let report = shown_as(&columns, &condition).await?.audit().await?;
        assert_differs(&report, Kind::EstimateDiffers, words);
    }
    let more = "visitors, sessions, visitors_bits, sessions_bits, revised + 1 as revised";
    let report = shown_as(more, "true").await?.audit().await?;
    assert_differs(
        &report,
        Kind::RevisedDiffers,
        "the view shows 1, all partitions have 0",
    );
    Ok(())
}
