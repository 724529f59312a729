//! The operator's probes on a real API server, with rights that are missing.

use std::time::Instant;

use anyhow::ensure;
use clickstream_testbed::{Process, free_port, unique_name};
use serde_json::json;

use crate::{
    metrics::answer,
    rights::Rights,
    stage::{LOOK, Migrations, PATIENCE, Stage},
};

/// Waits until `/readyz` answers so.
async fn says(port: u16, operator: &Process, code: u16, words: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let (answered, text) = answer(port, "/readyz").await?;
        if answered == code && text.contains(words) {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "never {code} {words:?}\n{answered}: {text}\n{}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn an_operator_that_may_not_watch_one_of_its_namespaces_is_not_ready_and_works_in_the_others()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let forbidden = unique_name("forbidden").replace('_', "-");
    stage.api.create_namespace(&forbidden).await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let operator = stage.operator_with(&["--admin-listen", &listen, "--namespaces", &forbidden])?;
    let pipeline = stage.pipeline("web", &unique_name("clicks"), json!({}));
    stage.apply(&pipeline).await?;
    stage.condition("web", "Ready", "True", "").await?;
    let pods = format!("pods in namespace {forbidden}: the ServiceAccount may not list and watch");
    says(port, &operator, 503, &pods).await?;
    let (livez, text) = answer(port, "/livez").await?;
    ensure!(livez == 200, "a restart cures nothing: {livez}: {text}");

    // the Role comes later, as when the namespace is added to the chart's values
    stage.rights.grant(&forbidden).await?;
    says(port, &operator, 200, "").await
}

#[tokio::test]
async fn an_operator_that_waits_its_turn_is_ready_only_if_it_could_take_over() -> anyhow::Result<()>
{
    let stage = Stage::new(Migrations::Succeed).await?;
    let lease = ["--lease-namespace", stage.namespace.as_str()];
    let first = stage.operator_with(&lease)?;
    let pipeline = stage.pipeline("web", &unique_name("clicks"), json!({}));
    stage.apply(&pipeline).await?;
    let ready = stage.condition("web", "Ready", "True", "").await;
    ready.map_err(|error| error.context(first.log_tail()))?;

    // as after an upgrade that left a Role of the release before
    let lacking = Rights::of_nobody(stage.api, &stage.client).await?;
    lacking.grant_without(&stage.namespace, "jobs").await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let options = [&lease[..], &["--admin-listen", &listen]].concat();
    let second = stage.operator_by(&lacking.kubeconfig, &options)?;
    let jobs = format!(
        "jobs in namespace {}: the ServiceAccount may not",
        stage.namespace
    );
    says(port, &second, 503, &jobs).await?;
    lacking.grant(&stage.namespace).await?;
    says(port, &second, 200, "").await
}
