//! The audit under the roles that docs/operations.md names.

use anyhow::Context as _;
use chrono::{TimeDelta, Utc};
use clickstream_testbed::unique_name;
use tokio_postgres::error::SqlState;

use crate::{
    clicks::{Click, click_at, clicks},
    pipeline::{Pipeline, assert_clean},
};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

/// The block of SQL of the section *An auditor's role*, for another role and database than those of
/// the page.
fn grants(role: &str, database: &str) -> anyhow::Result<String> {
    let section = OPERATIONS
        .split_once("### An auditor's role")
        .context("docs/operations.md has no section on the auditor's role")?
        .1;
    let (_, block) = section.split_once("```sql\n").context("no SQL in it")?;
    let (sql, _) = block.split_once("```").context("a block without an end")?;
    Ok(sql
        .replace("auditor", role)
        .replace("database app", &format!("database {database}")))
}

#[tokio::test]
async fn an_auditor_needs_no_right_but_those_of_the_documentation() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(2, "{}", "").await?;
    let from = Utc::now() - TimeDelta::hours(2);
    pipeline.send(clicks(2, 0..700, from)).await?;
    pipeline.drain().await?;

    let role = unique_name("auditor");
    let sql = grants(&role, &pipeline.database)?;
    pipeline
        .client
        .batch_execute(&sql)
        .await
        .context("the page's SQL")?;
    // a day that comes after the grants
    let day = Click {
        partition: 0,
        value: Some(click_at(Utc::now() - TimeDelta::days(3))),
    };
    pipeline.send(vec![day]).await?;
    pipeline.drain().await?;

    pipeline.set_user(&role);
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert_eq!(report.records, 1_401, "{report}");
    assert_eq!(report.notes, Vec::<String>::new());
    // it was granted before there was a view to compare
    pipeline
        .client
        .batch_execute(&format!(
            "revoke select on clickstream_traffic_minute from {role}"
        ))
        .await?;
    let report = pipeline.audit().await?;
    assert_clean(&report);
    assert!(
        report.notes[0].contains("the role may not read it"),
        "{report}"
    );
    // and it can change nothing
    pipeline
        .client
        .batch_execute(&format!("set role {role}"))
        .await?;
    for table in ["clickstream_events", "clickstream_checkpoints"] {
        let refused = pipeline
            .client
            .execute(&format!("delete from {table}"), &[])
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    }
    Ok(())
}
