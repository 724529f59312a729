//! What an operator holds of pipelines that are gone: nothing.

use std::{
    fs,
    time::{Duration, Instant},
};

use clickstream_testbed::{Process, unique_name};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::stage::{Migrations, Stage};

/// Pipelines that come and go; `CLICKSTREAM_LEAK_PIPELINES=200` for the figure at scale.
const PIPELINES: usize = 50;
/// Threads that wait for work end after ten seconds without any, connections to the API server
/// after ninety.
const RELEASED: Duration = Duration::from_secs(150);

/// Threads and sockets of a process.
fn held(process: &Process) -> anyhow::Result<(usize, usize)> {
    let process = format!("/proc/{}", process.pid());
    let threads = fs::read_dir(format!("{process}/task"))?.count();
    let sockets = fs::read_dir(format!("{process}/fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    Ok((threads, sockets))
}

#[tokio::test]
async fn pipelines_that_are_gone_leave_no_thread_and_no_connection() -> anyhow::Result<()> {
    let pipelines = match std::env::var("CLICKSTREAM_LEAK_PIPELINES") {
        Ok(number) => number.parse()?,
        Err(_) => PIPELINES,
    };
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let servers = stage.kafka.bootstrap_servers();
    let pipeline = |number: usize| {
        let mut pipeline =
            stage.pipeline(&format!("shop-{number}"), &unique_name("clicks"), json!({}));
        // each has a client of its own, as with a user of its own
        pipeline["spec"]["kafka"]["bootstrapServers"] =
            json!(vec![&*servers; number + 1].join(","));
        pipeline
    };
    // one that stays
    stage.apply(&pipeline(0)).await?;
    stage
        .condition("shop-0", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = held(&operator)?;
    for number in 1..=pipelines {
        stage.apply(&pipeline(number)).await?;
    }
    for number in 1..=pipelines {
        stage
            .condition(&format!("shop-{number}"), "Ready", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    let meanwhile = held(&operator)?;
    // of many accounts 32 stay open, with a socket or two each
    let open = pipelines.min(25);
    anyhow::ensure!(
        meanwhile.1 < before.1 + 2 * pipelines || pipelines < 50,
        "all stay open: {before:?}, then {meanwhile:?}"
    );
    anyhow::ensure!(
        meanwhile.0 > before.0 + 2 * open && meanwhile.1 > before.1 + open,
        "nothing that could be left: {before:?}, then {meanwhile:?}"
    );
    for number in 1..=pipelines {
        // without a finalizer: the operator hears of it when it is over
        let all = stage.all::<clickstream_operator::crd::ClickstreamPipeline>();
        all.delete(&format!("shop-{number}"), &DeleteParams::default())
            .await?;
        stage.sweep(&format!("shop-{number}")).await?;
    }
    let begun = Instant::now();
    let after = loop {
        let now = held(&operator)?;
        if now.0 <= before.0 && now.1 <= before.1 {
            break now;
        }
        anyhow::ensure!(
            begun.elapsed() < RELEASED,
            "(threads, sockets) were {before:?}, {meanwhile:?} with {pipelines} more pipelines, and are {now:?} without them"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    eprintln!(
        "(threads, sockets): {before:?}, with {pipelines} pipelines {meanwhile:?}, {after:?} {:?} after they were deleted",
        begun.elapsed()
    );
    let left = stage
        .all::<clickstream_operator::crd::ClickstreamPipeline>()
        .list(&ListParams::default())
        .await?;
    assert_eq!(left.items.len(), 1);
    Ok(())
}
