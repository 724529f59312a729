//! Readers that do not exist: named until they do, and then granted what they may read.

use std::time::{Duration, Instant};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::unique_name;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::stage::{LOOK, Migrations, PATIENCE, Stage, condition};

fn missing(pipeline: &ClickstreamPipeline) -> Value {
    json!(pipeline.status)["targets"][0]["missingReaders"].clone()
}

fn without(role: &str) -> Migrations {
    Migrations::Report(json!({
        "schemaVersion": 11, "topics": [],
        "missingReaders": [{ "role": role, "sql": format!("grant select to {role}") }],
    }))
}

async fn jobs(stage: &Stage) -> anyhow::Result<Vec<Job>> {
    Ok(stage.all::<Job>().list(&ListParams::default()).await?.items)
}

/// Lets every Job have ended this long ago, and so the operator think that it is time.
async fn age(stage: &Stage) -> anyhow::Result<()> {
    for job in jobs(stage).await? {
        let mut status = json!(job.status);
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
        }
        let patch = json!({ "status": { "conditions": status["conditions"] } });
        stage
            .all::<Job>()
            .patch_status(
                &job.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_reader_stays_named_until_a_migration_has_found_it() -> anyhow::Result<()> {
    let mut stage = Stage::new(without("ghost")).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let wanted = |lag: u32| {
        let target =
            json!([{ "connection": { "secret": { "name": "postgres" } }, "readers": ["ghost"] }]);
        let changes = json!({ "targets": target, "processor": { "lagTarget": lag } });
        stage.pipeline("shop", &topic, changes)
    };
    let [first, second] = [wanted(1), wanted(2)];
    stage.apply(&first).await?;
    stage
        .condition("shop", "DatabaseReady", "True", "ReadersMissing")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.condition("shop", "Ready", "True", "").await?;
    // later looks find it as it was
    stage.apply(&second).await?;
    let still = stage.condition("shop", "Ready", "True", "").await?;
    let (_, reason, message) = condition(&still, "DatabaseReady").unwrap_or_default();
    assert_eq!(reason, "ReadersMissing");
    assert!(message.contains("ghost"), "{message}");
    assert_eq!(missing(&still), json!(["ghost"]));
    assert_eq!(
        jobs(&stage).await?.len(),
        1,
        "it looks again, and not at once"
    );

    // another look finds nothing new, and those of long ago go
    for looks in 2..=5 {
        age(&stage).await?;
        let begun = Instant::now();
        loop {
            let numbers: Vec<u32> = jobs(&stage)
                .await?
                .iter()
                .filter_map(|job| {
                    job.labels()
                        .get("clickstream.dev/migration-attempt")?
                        .parse()
                        .ok()
                })
                .collect();
            if numbers.iter().max() == Some(&(looks - 1)) && numbers.len() <= 3 {
                break;
            }
            anyhow::ensure!(
                begun.elapsed() < PATIENCE,
                "{numbers:?}: {}",
                operator.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stage
        .condition("shop", "DatabaseReady", "True", "ReadersMissing")
        .await?;

    // it was created
    stage.play(Migrations::Succeed);
    age(&stage).await?;
    let found = stage
        .condition("shop", "DatabaseReady", "True", "Migrated")
        .await?;
    assert_eq!(missing(&found), Value::Null);
    Ok(())
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_told_and_no_topic_is_judged_by_it() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Report(json!("the end of a longer one"))).await?;
    let operator = stage.operator()?;
    // the pipeline's own topic, as its schema knows
    let topic = unique_name("clicks");
    stage.kafka.create_topic(&topic, 3, &[]).await?;
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    let said = stage
        .condition("shop", "DatabaseReady", "False", "MigrationFailed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let (_, _, message) = condition(&said, "DatabaseReady").unwrap_or_default();
    assert!(message.contains("report cannot be read"), "{message}");
    stage
        .condition("shop", "TopicsReady", "False", "WaitingForDatabase")
        .await?;
    // another attempt tells
    stage.play(Migrations::Report(json!({
        "schemaVersion": 11, "missingReaders": [],
        "topics": [{ "name": topic, "id": null, "created": true }],
    })));
    stage.condition("shop", "Ready", "True", "").await?;
    Ok(())
}
