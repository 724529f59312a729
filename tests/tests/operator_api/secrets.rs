//! When Secrets are read: seldom at rest, within seconds while something waits for one, and at once
//! when somebody asks for it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{Process, free_port, unique_name};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    metrics::answer,
    pods::deployment,
    processor::{Processor, running},
    stage::{LOOK, Migrations, PATIENCE, Stage},
};

/// Longer than any test.
const SELDOM: &str = "86400";

/// The sum of the operator's series whose lines begin so and hold this part.
async fn sum(port: u16, name: &str, part: &str) -> anyhow::Result<f64> {
    let (_, text) = answer(port, "/metrics").await?;
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(part));
    Ok(lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

async fn reconciles(port: u16) -> anyhow::Result<f64> {
    sum(port, "controller_runtime_reconcile_total", "").await
}

/// Wakes the operator, and waits until it has looked at the pipeline.
async fn look(
    port: u16,
    processor: &Processor<'_>,
    says: Value,
    operator: &Process,
) -> anyhow::Result<()> {
    let before = reconciles(port).await?;
    processor.says(says).await?;
    let begun = Instant::now();
    while reconciles(port).await? <= before {
        ensure!(
            begun.elapsed() < PATIENCE,
            "not looked at: {}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What the pods of a Deployment are made from, Secrets included.
fn made_from(deployment: &Deployment) -> Value {
    json!(deployment)["spec"]["template"]["metadata"]["annotations"].clone()
}

async fn rolls(stage: &Stage, before: &Deployment, operator: &Process) -> anyhow::Result<()> {
    let begun = Instant::now();
    while made_from(&deployment(stage, "shop").await?) == made_from(before) {
        ensure!(
            begun.elapsed() < PATIENCE,
            "the pods stay: {}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

#[tokio::test]
async fn secrets_of_a_healthy_pipeline_are_left_alone_until_somebody_asks() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let operator =
        stage.operator_with(&["--admin-listen", &listen, "--secrets-interval", SELDOM])?;
    let topic = unique_name("clicks");
    let one = json!({ "processor": { "replicas": 1 } });
    stage.apply(&stage.pipeline("shop", &topic, one)).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let says = || running(&topic, &[0, 1, 2]);
    let processor = Processor::start(&stage, "shop", "p-0", says()).await?;
    look(port, &processor, says(), &operator).await?;
    let before = deployment(&stage, "shop").await?;
    stage.postgres_secret("rotated").await?;
    let requests = sum(port, "rest_client_requests_total", "method=\"GET\"").await?;
    for _ in 0..20 {
        look(port, &processor, says(), &operator).await?;
    }
    let requests = sum(port, "rest_client_requests_total", "method=\"GET\"").await? - requests;
    // what the cluster knows is asked for twice a minute
    assert!(requests < 10.0, "{requests} requests for 20 looks");
    assert_eq!(
        made_from(&deployment(&stage, "shop").await?),
        made_from(&before)
    );

    let asked = json!({ "metadata": { "annotations": { "clickstream.dev/reconcile-at": "now" } } });
    stage
        .all::<ClickstreamPipeline>()
        .patch("shop", &PatchParams::default(), &Patch::Merge(&asked))
        .await?;
    rolls(&stage, &before, &operator).await
}

#[tokio::test]
async fn a_rotated_secret_rolls_the_pods_within_the_interval() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&["--secrets-interval", "2"])?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let before = deployment(&stage, "shop").await?;
    let begun = Instant::now();
    stage.postgres_secret("rotated").await?;
    rolls(&stage, &before, &operator).await?;
    // a look at a pipeline at rest comes after 30 s
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_password_that_was_corrected_is_tried_within_seconds_however_long_it_was_wrong()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Fail("password authentication failed")).await?;
    let operator = stage.operator_with(&["--secrets-interval", SELDOM])?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "DatabaseReady", "False", "MigrationFailed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.play(Migrations::Succeed);
    let begun = Instant::now();
    stage.postgres_secret("right").await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    // and one that was not there
    let changes = json!({ "targets": [{ "connection": { "secret": { "name": "other" } } }] });
    stage
        .apply(&stage.pipeline("late", &unique_name("clicks"), changes))
        .await?;
    stage
        .condition("late", "DatabaseReady", "False", "SecretMissing")
        .await?;
    let begun = Instant::now();
    let entries = [("host", "127.0.0.1"), ("dbname", "a"), ("username", "u")];
    stage.create_secret("other", &entries).await?;
    stage
        .condition("late", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}
