//! Events of a day that retention has dropped, sent again and accepted again: which of the two was
//! counted when is not known any more, and no fault.

use chrono::{TimeDelta, Utc};

use crate::{
    clicks::{Click, clicks},
    pipeline::{Pipeline, assert_clean},
};

/// The same records for partitions that `to` names, after their day was dropped.
async fn resent(to: fn(i32) -> i32) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(2, "{ allowedLateness: 1h }", "").await?;
    let midnight = Utc::now()
        .date_naive()
        .and_hms_opt(0, 0, 0)
        .unwrap()
        .and_utc()
        - TimeDelta::days(3);
    let first = clicks(2, 0..280, midnight - TimeDelta::minutes(20));
    pipeline.send(first.clone()).await?;
    pipeline.drain().await?;
    let day = (midnight - TimeDelta::days(1)).date_naive();
    let dropped: i64 = pipeline
        .client
        .query_one("select clickstream_drop_day($1)", &[&day])
        .await?
        .get(0);
    assert!(dropped > 0);
    let again = first.into_iter().map(|click| Click {
        partition: to(click.partition),
        ..click
    });
    pipeline.send(again.collect()).await?;
    pipeline.drain().await?;
    let stored: i64 = pipeline
        .client
        .query_one("select count(*) from clickstream_events", &[])
        .await?
        .get(0);
    assert_eq!(stored, dropped, "accepted again");
    // of a day that is kept
    let later = clicks(2, 0..100, Utc::now() - TimeDelta::hours(2));
    pipeline.send(later).await?;
    pipeline.drain().await?;
    // the upkeep of the processors, which had no retention so far, has not come yet
    pipeline.set_target("retention: { events: 48h }");
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert!(
        report.partitions.iter().all(|p| p.undecided > 0),
        "{report}"
    );
    // they came in order and so got a partition anew; others stay with the outliers
    let table = format!("clickstream_events_{}", day.format("%Y%m%d"));
    pipeline
        .client
        .batch_execute(&format!(
            "alter table clickstream_events detach partition {table};
             insert into clickstream_events_default select * from {table};
             drop table {table}"
        ))
        .await?;
    assert_clean(&pipeline.audit().await?);
    Ok(())
}

#[tokio::test]
async fn events_of_a_dropped_day_that_are_accepted_again_are_no_difference() -> anyhow::Result<()> {
    resent(|partition| partition).await
}

#[tokio::test]
async fn nor_are_those_that_come_by_another_partition() -> anyhow::Result<()> {
    resent(|partition| partition ^ 1).await
}
