//! The stack of compose.yaml for real: the commands of docs/quickstart.md as they stand there, and
//! what must be true in between.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

mod adminer;
mod engine;
mod images;
mod kafka;
mod quickstart;
mod stack;

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use clickstream_testbed::browser::Browser;
use serde_json::Value;

use crate::stack::Stack;

const ROWS_ARRIVE: &str = "select coalesce(sum(hits), 0) > 100 from clickstream_traffic_minute";

#[tokio::test]
async fn the_quickstart_with_compose_does_what_it_says_and_leaves_nothing() -> anyhow::Result<()> {
    if !engine::is_at_hand().await? {
        return Ok(());
    }
    let stack = Stack::prepare().await?;
    let commands = quickstart::commands()?;
    let (up, commands) = commands
        .split_first()
        .context("the quickstart has commands")?;
    ensure!(up == "docker compose up --detach --wait", "{up}");
    let end = commands
        .iter()
        .position(|command| command.starts_with("docker compose down"))
        .context("the quickstart says how to stop")?;
    let (commands, downs) = commands.split_at(end);

    traces_go_where_the_shell_says(&stack).await?;
    stack.sh(up).await?;
    stack.eventually("rows arrive", ROWS_ARRIVE).await?;
    two_processors_share_the_partitions(&stack).await?;
    the_dashboards_role_reads_and_nothing_else(&stack).await?;
    everything_listens_on_loopback_only(&stack).await?;
    prometheus_sees_every_program(&stack).await?;
    let browser = Browser::start().await?;
    adminer::signs_in_through_a_browser(&stack, &browser).await?;
    the_console_opens_to_its_token_only(&stack, &browser).await?;
    drop(browser);
    kafka::takes_an_event_from_this_machine(&stack).await?;

    for command in commands {
        stack.sh(command).await?;
    }
    it_survives_a_restart(&stack).await?;

    for command in downs {
        stack.sh(command).await?;
    }
    stack.sh("scripts/stop.sh").await?;
    nothing_is_left(&stack).await
}

async fn traces_go_where_the_shell_says(stack: &Stack) -> anyhow::Result<()> {
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for (shell, expected) in [
        (format!("unset {endpoint};"), None),
        (
            format!("export {endpoint}=http://collector:4318;"),
            Some("http://collector:4318"),
        ),
    ] {
        let told = stack
            .sh(&format!("{shell} docker compose config --format json"))
            .await?;
        let config: Value = serde_json::from_str(&told)?;
        for service in ["processor", "producer"] {
            let found = &config["services"][service]["environment"][endpoint];
            ensure!(found.as_str() == expected, "{service}: {found}");
        }
    }
    Ok(())
}

/// Each processor owns some of the partitions.
async fn two_processors_share_the_partitions(stack: &Stack) -> anyhow::Result<()> {
    stack
        .eventually(
            "two processors share four partitions",
            "select count(*) = 4 and count(distinct owner) = 2 from clickstream_checkpoints",
        )
        .await
}

async fn the_dashboards_role_reads_and_nothing_else(stack: &Stack) -> anyhow::Result<()> {
    let dashboard = stack.database("dashboard").await?;
    for statement in [
        "delete from clickstream_events",
        "set default_transaction_read_only = off; delete from clickstream_events",
        "create table mine (id int)",
    ] {
        let refused = dashboard.batch_execute(statement).await;
        ensure!(refused.is_err(), "the role dashboard may: {statement}");
    }
    Ok(())
}

async fn everything_listens_on_loopback_only(stack: &Stack) -> anyhow::Result<()> {
    let told = stack.sh("docker compose ps --format json").await?;
    let mut published = 0;
    for container in told.lines() {
        let container: Value = serde_json::from_str(container)?;
        for port in container["Publishers"].as_array().into_iter().flatten() {
            if port["PublishedPort"] != 0 {
                ensure!(
                    port["URL"] == "127.0.0.1",
                    "{port} of {}",
                    container["Name"]
                );
                published += 1;
            }
        }
    }
    ensure!(published >= 4, "only {published} ports are published");
    Ok(())
}

async fn prometheus_sees_every_program(stack: &Stack) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    let expected = BTreeMap::from([("processor", 2), ("producer", 1), ("prometheus", 1)]);
    loop {
        let targets = stack.ask_prometheus("/api/v1/targets?state=active").await?;
        let targets = targets["activeTargets"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut healthy = BTreeMap::new();
        for target in targets.iter().filter(|target| target["health"] == "up") {
            let job = target["labels"]["job"].as_str().unwrap_or_default();
            *healthy.entry(job).or_insert(0) += 1;
        }
        if healthy == expected {
            break;
        }
        ensure!(begun.elapsed() < stack::PATIENCE, "targets: {targets:?}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let rules = stack.ask_prometheus("/api/v1/rules").await?;
    let alerts = rules["groups"][0]["rules"].as_array().map_or(0, Vec::len);
    ensure!(alerts > 0, "no rule is loaded: {rules}");
    let query = "/api/v1/query?query=sum+by+(namespace,pipeline,target)(clickstream_sink_up)";
    let sinks = stack.ask_prometheus(query).await?;
    let series = &sinks["result"][0];
    ensure!(
        series["metric"]
            == serde_json::json!({"namespace": "local", "pipeline": "clicks", "target": "analytics"})
            && series["value"][1] == "2",
        "{sinks}"
    );
    Ok(())
}

async fn the_console_opens_to_its_token_only(
    stack: &Stack,
    browser: &Browser,
) -> anyhow::Result<()> {
    ensure!(
        stack::get(stack.console, "/api/minute?start=0")
            .await
            .is_err(),
        "the console answers without a token"
    );
    let page = browser.page().await?;
    let port = stack.console;
    page.goto(&format!(
        "http://127.0.0.1:{port}/?token=clickstream-console"
    ))
    .await?;
    // the token is exchanged for a cookie, and the page shows what the stack's database holds
    let shown = "location.search === '' && document.querySelectorAll('#tiles dd').length > 0";
    page.wait_for(shown, stack::PATIENCE).await?;
    Ok(())
}

/// All at once, with nobody waiting for anybody.
async fn it_survives_a_restart(stack: &Stack) -> anyhow::Result<()> {
    stack.sh("docker compose restart").await?;
    let told = stack.sh("scripts/run.sh").await?;
    for port in [stack.adminer, stack.prometheus, stack.console, stack.kafka] {
        ensure!(told.contains(&format!("127.0.0.1:{port}")), "{told}");
    }
    let total = "select coalesce(sum(accepted), 0)::bigint from clickstream_checkpoints";
    let before: i64 = {
        let database = stack.database("dashboard").await?;
        database.query_one(total, &[]).await?.get(0)
    };
    let more = format!("select ({total}) > {before}");
    stack
        .eventually("rows go on after a restart", &more)
        .await?;
    let audit = stack
        .sh("docker compose exec processor /clickstream-processor audit")
        .await?;
    ensure!(audit.contains("audit clean"), "{audit}");
    let one_shots = stack
        .sh("docker compose ps --all --format json migrate topics")
        .await?;
    for container in one_shots.lines() {
        let container: Value = serde_json::from_str(container)?;
        ensure!(
            container["State"] == "exited" && container["ExitCode"] == 0,
            "{container}"
        );
    }
    Ok(())
}

async fn nothing_is_left(stack: &Stack) -> anyhow::Result<()> {
    let filter = format!("label=com.docker.compose.project={}", stack.project);
    for kind in ["container", "volume", "network"] {
        let all: &[&str] = if kind == "container" { &["--all"] } else { &[] };
        let mut list = engine::docker();
        list.args([kind, "ls", "--quiet", "--filter", &filter])
            .args(all);
        let left = engine::output(&mut list).await?;
        ensure!(left.trim().is_empty(), "a {kind} is left: {left}");
    }
    Ok(())
}
