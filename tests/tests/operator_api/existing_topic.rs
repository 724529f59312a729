//! A topic that exists already, read with the example of eight lines. What the operator makes of
//! the resource runs here: the migration of its Job, a processor of its Deployment.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{
    PostgresVersion, Process, build_binary, free_port, kubelet, loopback, shared, unique_name,
};
use k8s_openapi::api::batch::v1::Job;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::{Value, json};

use crate::{
    pods::{deployment, run_behind_a_pod},
    programs::Program,
    stage::{LOOK, Migrations, PATIENCE, Stage},
};

/// The resource, in the folder of the checkout.
const EXAMPLE: &str = "../manifests/examples/segment.yaml";

const EVENTS: u64 = 60;

/// What somebody's site has sent to Segment: calls of three kinds, the last without a page.
fn event(number: u64, at: u64) -> Value {
    let (plan, page) = (number % 4, number % 3);
    let mut event = json!({
        "type": if number.is_multiple_of(2) { "page" } else { "track" },
        "messageId": format!("ajs-next-{number}"),
        "anonymousId": format!("anonymous-{}", number % 10),
        "originalTimestamp": at + number,
        "context": {
            "ip": "192.0.2.7",
            "page": { "url": format!("https://shop.example/{page}"), "title": format!("Page {page}") },
        },
        "properties": { "plan": format!("plan-{plan}"), "price": 2.5 },
    });
    if number == EVENTS {
        event["type"] = json!("identify");
        event["context"]["page"] = Value::Null;
    }
    event
}

/// Fills the topic before anybody reads it; two records are sent twice.
async fn fill(servers: String, topic: String) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let at = u64::try_from(now.as_millis())? - 60_000;
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .create()?;
        for number in (0..=EVENTS).chain([3, 4]) {
            let value = event(number, at).to_string();
            let key = (number % 10).to_string();
            let record = BaseRecord::to(&topic).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(PATIENCE)?)
    })
    .await?
}

/// The example with the servers of this test in it.
fn example(stage: &Stage, topic: &str) -> anyhow::Result<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    let text = fs::read_to_string(path)?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    ensure!(lines == 8, "the example has {lines} lines");
    let mut resource: Value = serde_yaml::from_str(&text)?;
    resource["metadata"]["namespace"] = json!(stage.namespace);
    resource["spec"]["kafka"]["bootstrapServers"] = json!(stage.kafka.bootstrap_servers());
    resource["spec"]["topics"][0]["name"] = json!(topic);
    Ok(resource)
}

#[tokio::test]
async fn an_existing_topic_is_read_with_eight_lines() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    stage.stop_playing();
    let operator = stage.operator()?;
    let topic = unique_name("segment");
    stage.kafka.create_topic(&topic, 3, &[]).await?;
    fill(stage.kafka.bootstrap_servers(), topic.clone()).await?;

    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let database = unique_name("existing");
    postgres.create_database(&database).await?;
    let role = unique_name("web");
    let client = postgres.connect(&database).await?;
    client
        .batch_execute(&format!(
            "create role {role} login; grant create on database {database} to {role}"
        ))
        .await?;
    let port = postgres.port().to_string();
    let entries = [
        ("host", postgres.host()),
        ("port", port.as_str()),
        ("dbname", database.as_str()),
        ("username", role.as_str()),
        ("password", "p"),
    ];
    stage.create_secret("postgres", &entries).await?;
    stage.apply(&example(&stage, &topic)?).await?;

    let binary = tokio::task::spawn_blocking(|| build_binary("clickstream-processor")).await??;
    let job = stage
        .children::<Job>("web", 1)
        .await
        .map_err(|error| error.context(operator.log_tail()))?
        .remove(0);
    let template = &job.spec.as_ref().context("no spec")?.template;
    let migration = Program::of(&stage, template, &binary, "")
        .await?
        .done()
        .await?;
    kubelet::end_job(&stage.client, &job, 0, &migration.message()?).await?;
    stage.play(Migrations::Succeed);

    let admin = free_port()?;
    let listen = format!("{}:{admin}", loopback::of_pods());
    let of = deployment(&stage, "web").await?;
    let template = of.spec.context("no spec")?.template;
    let program = Program::of(&stage, &template, &binary, &listen).await?;
    let processor = Process::spawn(&program.command, "processor")?;
    run_behind_a_pod(&stage, "web", "web-0", admin).await?;

    let records = i64::try_from(EVENTS)? + 3;
    let seen = "select coalesce(sum(consumed), 0)::bigint from clickstream.clickstream_checkpoints";
    let begun = Instant::now();
    while client.query_one(seen, &[]).await?.get::<_, i64>(0) < records {
        ensure!(begun.elapsed() < PATIENCE, "{}", processor.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    // what the resource says of itself comes from the processor
    stage
        .pipeline_when("web", "Ready with all records", |web| {
            let targets = json!(web.status)["targets"].clone();
            targets[0]["accepted"] == json!(EVENTS)
                && targets[0]["duplicate"] == json!(2)
                && targets[0]["rejected"] == json!(1)
                && targets[0]["lag"] == json!(0)
        })
        .await
        .map_err(|error| error.context(operator.log_tail()))?;

    let expected = "select
        (select count(*) = 60 and count(distinct user_id) = 10 and bool_and(host(ip) = '192.0.2.7')
            from clickstream.clickstream_events) and
        (select sum(hits) = 60 and count(distinct url) = 3
            from clickstream.clickstream_agg_minute) and
        (select sum((properties -> 'properties' ->> 'price')::numeric) = 37.5
            from clickstream.clickstream_events
            where properties @> '{\"properties\": {\"plan\": \"plan-3\"}}') and
        (select bool_and(properties #>> '{context,page,title}' = 'Page ' || right(url, 1))
            from clickstream.clickstream_events) and
        (select count(*) = 1 and bool_and(detail like 'url: nothing at /context/page/url %')
            from clickstream.clickstream_dead_letters)";
    ensure!(client.query_one(expected, &[]).await?.get::<_, bool>(0));

    processor.terminate()?;
    let status = processor.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", processor.log_tail());
    let mut audit = template;
    let pod = audit.spec.as_mut().context("no spec")?;
    pod.containers[0].args = Some(vec!["audit".to_owned()]);
    Program::of(&stage, &audit, &binary, "")
        .await?
        .done()
        .await?;
    Ok(())
}
