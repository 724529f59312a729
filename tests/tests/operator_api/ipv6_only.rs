//! The operator where no IPv4 address exists at all: its API server, its brokers, and the
//! processors that it asks.

use anyhow::ensure;
use clickstream_testbed::{free_port, loopback, tools::kubernetes::Assets, unique_name};
use serde_json::json;

use crate::{
    metrics::answer,
    processor::{Processor, running},
    stage::{Migrations, Stage},
};

#[tokio::test]
async fn the_operator_needs_no_ipv4() -> anyhow::Result<()> {
    // servers that have to be built are built where there is a network
    tokio::task::spawn_blocking(Assets::find).await??;
    if loopback::again_without_ipv4("ipv6_only::the_operator_needs_no_ipv4").await? {
        return Ok(());
    }
    ensure!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
    let stage = Stage::new(Migrations::Succeed).await?;
    ensure!(stage.kafka.bootstrap_servers().starts_with("[::1]:"));
    // as its pod listens
    let port = free_port()?;
    let operator = stage.operator_with(&["--admin-listen", &format!("[::]:{port}")])?;
    let topic = unique_name("clicks");
    let pipeline = stage.pipeline("shop", &topic, json!({}));
    stage.apply(&pipeline).await?;
    let status = running(&topic, &[0, 1, 2]);
    let _processor = Processor::start(&stage, "shop", "shop-1", status).await?;
    let told = stage.pipeline_when("shop", "told by its processor", |pipeline| {
        let status = pipeline.status.as_ref();
        let target = status.and_then(|status| status.targets.first());
        target.is_some_and(|target| target.consumed == Some(21))
    });
    let told = told
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let topics = told.status.map(|status| status.topics);
    ensure!(
        topics.iter().flatten().any(|known| known.id.is_some()),
        "{topics:?}"
    );
    stage.condition("shop", "TopicsReady", "True", "").await?;
    for path in ["/livez", "/readyz", "/metrics"] {
        let (code, text) = answer(port, path).await?;
        ensure!(code == 200, "{path}: {code}: {text}");
    }
    Ok(())
}
