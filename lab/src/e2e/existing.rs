//! A topic that exists already, with events of Segment in it: the example of eight lines reads it.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::faults;
use super::plugin::Plugin;
use crate::kind::cluster::Cluster;
use crate::kind::pipeline::Pipeline;
use crate::kind::stack::kubectl;
use crate::program;
use clickstream_tools::workspace_root;
use xtask::steps::Steps;

const EXAMPLE: &str = "manifests/examples/segment.yaml";

/// Where the example's tables are, beside those of the quickstart.
const SCHEMA: &str = "segment";

const EVENTS: i64 = 1_000;

/// Fills a topic, applies the example, asks for properties, and audits.
///
/// # Errors
/// An event is missing, or something does not answer.
pub async fn read(cluster: &Cluster, plugin: &Plugin, steps: &Steps) -> anyhow::Result<()> {
    let document = document()?;
    let pipeline = Pipeline::new(cluster, &document)?;
    let step = steps.begin("topic");
    let filled = fill(cluster, pipeline.topic());
    step.during(filled, |()| format!("{EVENTS} events of Segment"))
        .await?;
    pipeline.bring_up(&document, steps).await?;
    let step = steps.begin("properties");
    let since = Instant::now();
    let asked = async {
        while pipeline.counts().await?.consumed < EVENTS {
            pipeline.patience(since, "events are missing").await?;
        }
        let prices = "select to_jsonb(sum((properties -> 'properties' ->> 'price')::int))
            from segment.clickstream_events where properties #>> '{context,page,title}' = 'One'";
        let sum = pipeline.query(prices).await?;
        ensure!(sum == json!(EVENTS), "the prices add up to {sum}");
        Ok(())
    };
    step.during(asked, |()| "as they were sent".to_owned())
        .await?;
    pipeline.ready(steps).await?;
    faults::audited(&pipeline, plugin, steps).await?;
    pipeline.delete().await
}

/// The example with the quickstart's servers, whose PostgreSQL speaks no TLS.
fn document() -> anyhow::Result<Value> {
    let path = workspace_root().join(EXAMPLE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut document: Value = serde_yaml::from_str(&text)?;
    document["metadata"]["name"] = json!("segment");
    document["spec"]["kafka"]["bootstrapServers"] = json!("kafka:9092");
    document["spec"]["targets"][0]["schema"] = json!(SCHEMA);
    document["spec"]["targets"][0]["connection"]["sslMode"] = json!("Disable");
    Ok(document)
}

/// Makes the topic and fills it, by Kafka's own tools in Kafka's own pod.
async fn fill(cluster: &Cluster, topic: &str) -> anyhow::Result<()> {
    let pod = ["exec", "--stdin", "statefulset/kafka", "--container=kafka"];
    let server = ["--bootstrap-server", "localhost:9092", "--topic", topic];
    let create = ["--", "/opt/kafka/bin/kafka-topics.sh", "--create"];
    kubectl(cluster, &[&pod[..], &create, &server].concat()).await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let begin = now.as_secs().cast_signed() - EVENTS;
    let event = |number: i64| {
        let event = json!({
            "type": "page",
            "messageId": format!("ajs-next-{number}"),
            "anonymousId": format!("anonymous-{}", number % 10),
            "timestamp": begin + number,
            "context": { "page": { "url": "https://shop.example/", "title": "One" } },
            "properties": { "price": 1 },
        });
        format!("{event}\n")
    };
    let lines: String = (0..EVENTS).map(event).collect();
    let produce = ["--", "/opt/kafka/bin/kafka-console-producer.sh"];
    let mut tool = cluster.kubectl();
    tool.args([&pod[..], &produce, &server].concat());
    program::fed(&mut tool, &lines).await.map(|_| ())
}
