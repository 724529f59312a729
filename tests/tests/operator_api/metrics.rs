//! What the operator's `/metrics` tells of pipelines, for as long as they are there.

use std::time::Instant;

use anyhow::ensure;
use clickstream_telemetry::client::{GetError, HttpClient};
use clickstream_testbed::{Process, free_port, loopback, unique_name};
use serde_json::json;

use crate::stage::{LOOK, Migrations, PATIENCE, Stage};

/// More than any page of the operator has.
const LARGEST: usize = 16 << 20;

/// The metrics, as soon as the operator answers.
pub async fn page(port: u16) -> anyhow::Result<String> {
    let (code, text) = answer(port, "/metrics").await?;
    ensure!(code == 200, "/metrics answers {code}");
    Ok(text)
}

/// The operator's answer to a path of its admin server, code and body, as soon as it answers.
pub async fn answer(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let begun = Instant::now();
    let url = format!("http://{}{path}", loopback::at(port)).parse()?;
    let client = HttpClient::new();
    let answer = loop {
        match client.ask(&url).await {
            Err(GetError::Connect(_)) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
            }
            answer => break answer?,
        }
    };
    let code = answer.status().as_u16();
    let body = answer.body(LARGEST).await?;
    Ok((code, String::from_utf8(body.to_vec())?))
}

/// Waits until the page is as wanted.
async fn until(
    port: u16,
    operator: &Process,
    what: &str,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        let text = page(port).await?;
        if wanted(&text) {
            return Ok(text);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "never: {what}\n{text}\n{}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_pipelines_state_is_told_while_it_is_there_and_no_longer() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let port = free_port()?;
    let operator = stage.operator_with(&["--admin-listen", &format!("127.0.0.1:{port}")])?;
    let place = format!("namespace=\"{}\",pipeline=\"shop\"", stage.namespace);
    let condition = |kind: &str, status: &str, value: u8| {
        format!(
            "clickstream_pipeline_condition{{{place},status=\"{status}\",type=\"{kind}\"}} {value}\n"
        )
    };
    let suspended = format!("clickstream_pipeline_suspended_since_timestamp_seconds{{{place}}} ");
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    let ready = until(port, &operator, "ready", |text| {
        text.contains(&condition("Ready", "true", 1))
    })
    .await?;
    for line in [
        condition("Ready", "false", 0),
        condition("DataLossDetected", "true", 0),
        format!("clickstream_pipeline_reconcile_failures{{{place}}} 0\n"),
        format!("clickstream_pipeline_processors_wanted{{{place},target=\"default\"}} 2\n"),
        format!("clickstream_pipeline_processors_ready{{{place},target=\"default\"}} 2\n"),
        "controller_runtime_max_concurrent_reconciles{controller=\"clickstreampipeline\"} 32\n"
            .to_owned(),
        "leader_election_master_status{name=\"clickstreampipeline\"} 1\n".to_owned(),
        "workqueue_depth{name=\"clickstreampipeline\"} ".to_owned(),
        "workqueue_unfinished_work_seconds{name=\"clickstreampipeline\"} ".to_owned(),
        "rest_client_requests_total{code=\"200\",host=\"127.0.0.1:".to_owned(),
    ] {
        assert!(ready.contains(&line), "{line} is not in\n{ready}");
    }
    assert!(!ready.contains(&suspended));

    stage
        .apply(&stage.pipeline("shop", &topic, json!({ "suspend": true })))
        .await?;
    until(port, &operator, "suspended, and since when", |text| {
        text.contains(&condition("Suspended", "true", 1)) && text.contains(&suspended)
    })
    .await?;

    stage.delete("shop").await?;
    until(port, &operator, "nothing is told of it any more", |text| {
        !text.contains(&place)
    })
    .await?;
    Ok(())
}
