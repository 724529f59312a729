//! Each alert about a pipeline, provoked for real: the rules of the chart with shorter times, the
//! real processor, and what goes wrong.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::ensure;
use clickstream_testbed::{PostgresVersion, Process, Proxy, shared};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{
    records::{Placed, after, before, clicks, now},
    rules::rules,
    scene::{Scene, while_that_goes_on},
    stack::{PATIENCE, Stack, StackOptions},
};

/// Every alert that a test below provokes, with times and bounds that fit a test; what it asks for
/// stays the chart's.
const SHORTER: [(&str, &str, &str); 27] = [
    ("DataLossDetected", "window", "10s"),
    ("DeadLetterRateHigh", "for", "0s"),
    ("DeadLetterRateHigh", "window", "8s"),
    ("DocumentNotFollowed", "for", "0s"),
    ("FutureTimestampSpike", "for", "0s"),
    ("FutureTimestampSpike", "window", "8s"),
    ("HangingTransaction", "for", "0s"),
    ("HangingTransaction", "seconds", "5"),
    ("HeartbeatMissing", "for", "0s"),
    ("HeartbeatMissing", "seconds", "5"),
    ("LagGrowing", "for", "0s"),
    ("LagGrowing", "seconds", "3"),
    ("LagGrowing", "window", "8s"),
    ("PartitionSkew", "for", "0s"),
    ("PartitionSkew", "ratio", "2.5"),
    ("PartitionSkew", "rate", "5"),
    ("PartitionSkew", "window", "8s"),
    ("RebalanceStorm", "for", "0s"),
    ("RebalanceStorm", "rebalances", "3"),
    ("RebalanceStorm", "window", "20s"),
    ("RetentionHeadroomLow", "for", "0s"),
    ("RetentionHeadroomLow", "seconds", "600"),
    ("SinkUnavailable", "for", "1s"),
    ("WatermarkStuck", "for", "0s"),
    ("WatermarkStuck", "records", "5"),
    ("WatermarkStuck", "window", "8s"),
    ("ConservationBroken", "for", "0s"),
];
/// No bad and no late records: those that a test sends are the only ones.
const CLEAN: [&str; 4] = ["--malformed", "0", "--late", "0"];

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_postgresql_shows_as_lag_silence_and_an_unavailable_sink() -> anyhow::Result<()>
{
    let server = shared::postgres(PostgresVersion::V18).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
    let proxy = Proxy::start(address).await?;
    let options = StackOptions {
        postgres_port: Some(proxy.addr().port()),
        ..StackOptions::default()
    };
    let scene = Scene::new(options, &rules(&SHORTER)?).await?;
    let _processor = scene.processor("processor-0")?;
    let _producer = scene.producer(50, &CLEAN).await?;
    scene
        .stack
        .eventually(
            "events are stored",
            "select count(*) > 50 from clickstream_events",
        )
        .await?;

    proxy.refuse().await?;
    proxy.cut();
    scene.fires("SinkUnavailable").await?;
    scene.fires("LagGrowing").await?;
    scene.fires("HeartbeatMissing").await?;
    proxy.accept().await?;
    for alert in ["SinkUnavailable", "LagGrowing", "HeartbeatMissing"] {
        scene.resolves(alert).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_senders_do_wrong_shows_as_rejects_future_dates_skew_and_a_stuck_watermark()
-> anyhow::Result<()> {
    let scene = Scene::new(StackOptions::default(), &rules(&SHORTER)?).await?;
    let _processor = scene.processor("processor-0")?;
    let producer = scene.producer(100, &CLEAN).await?;
    scene
        .stack
        .eventually(
            "events are stored",
            "select count(*) > 500 from clickstream_events",
        )
        .await?;
    scene.scraped().await?;

    let nonsense = (0..300).map(|number| (format!("key-{number}"), Some(b"no event".to_vec())));
    scene.stack.send(nonsense.collect()).await?;
    scene.fires("DeadLetterRateHigh").await?;
    let tomorrow = after(now(), Duration::from_secs(86_400));
    let ahead = clicks(1_000_000..1_000_300, tomorrow);
    scene
        .stack
        .place(ahead.iter().map(|click| click.on(1)).collect())
        .await?;
    scene.fires("FutureTimestampSpike").await?;
    scene.resolves("FutureTimestampSpike").await?;
    scene.resolves("DeadLetterRateHigh").await?;

    // one partition only, and nothing newer than what was read
    end(&producer).await?;
    let old = before(now(), Duration::from_secs(60));
    let mut first = 2_000_000;
    let trickle = async {
        loop {
            let batch: Vec<Placed> = clicks(first..first + 20, old)
                .iter()
                .map(|click| click.on(0))
                .collect();
            scene.stack.place(batch).await?;
            first += 20;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let both = async {
        scene.fires("WatermarkStuck").await?;
        scene.fires("PartitionSkew").await
    };
    while_that_goes_on(trickle, both).await?;
    let _producer = scene.producer(100, &CLEAN).await?;
    scene.resolves("WatermarkStuck").await?;
    scene.resolves("PartitionSkew").await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_show_as_a_storm() -> anyhow::Result<()> {
    let scene = Scene::new(StackOptions::default(), &rules(&SHORTER)?).await?;
    let _stays = scene.processor("processor-0")?;
    let _producer = scene.producer(20, &CLEAN).await?;
    let visitors = async {
        loop {
            let visitor = scene.processor("processor-1")?;
            let has_come = "select count(distinct owner) = 2 from clickstream_checkpoints";
            scene.stack.eventually("a second owner", has_come).await?;
            end(&visitor).await?;
            let has_gone = "select count(distinct owner) = 1 from clickstream_checkpoints";
            scene.stack.eventually("one owner", has_gone).await?;
        }
    };
    while_that_goes_on(visitors, scene.fires("RebalanceStorm")).await?;
    scene.resolves("RebalanceStorm").await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_kafka_drops_show_before_and_after() -> anyhow::Result<()> {
    let scene = Scene::new(StackOptions::default(), &rules(&SHORTER)?).await?;
    let (stack, topic) = (&scene.stack, scene.stack.topic.as_str());
    let placed = |numbers: std::ops::Range<u64>| -> Vec<Placed> {
        let all = clicks(numbers, now());
        all.iter().map(|click| click.on(0)).collect()
    };
    // processors ask for the settings of topics when they start, and every few minutes
    stack
        .kafka
        .alter_topic(topic, &[("retention.ms", "300000")])
        .await?;
    let processor = scene.processor("processor-0")?;
    stack.place(placed(0..100)).await?;
    stack
        .eventually(
            "events are stored",
            "select count(*) = 100 from clickstream_events",
        )
        .await?;
    scene.fires("RetentionHeadroomLow").await?;
    stack
        .kafka
        .alter_topic(topic, &[("retention.ms", "604800000")])
        .await?;
    end(&processor).await?;
    let processor = scene.processor("processor-1")?;
    scene.resolves("RetentionHeadroomLow").await?;

    end(&processor).await?;
    stack.place(placed(100..200)).await?;
    let (_, end_of_log) = stack.kafka.offsets(topic, 0).await?;
    stack
        .kafka
        .delete_records(topic, 0, end_of_log - 50)
        .await?;
    let processor = scene.processor("processor-2")?;
    scene.fires("DataLossDetected").await?;
    scene.resolves("DataLossDetected").await?;

    // the table refuses a wrong account by itself: only somebody with the owner's rights can make
    // one
    end(&processor).await?;
    let identity = "clickstream_checkpoints_conserved";
    stack
        .client
        .batch_execute(&format!(
            "alter table clickstream_checkpoints drop constraint {identity};
             update clickstream_checkpoints set consumed = consumed + 2 where partition = 0"
        ))
        .await?;
    let processor = scene.processor("processor-3")?;
    scene.fires("ConservationBroken").await?;
    end(&processor).await?;
    stack
        .client
        .batch_execute(&format!(
            "update clickstream_checkpoints set consumed = consumed - 2 where partition = 0;
             alter table clickstream_checkpoints add constraint {identity} check (consumed = accepted + duplicate + rejected + late)"
        ))
        .await?;
    let _processor = scene.processor("processor-4")?;
    scene.resolves("ConservationBroken").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_its_producer_does_not_end_shows_until_it_is_ended() -> anyhow::Result<()>
{
    let scene = Scene::new(StackOptions::default(), &rules(&SHORTER)?).await?;
    // how soon a partition that does not move is looked into: half a minute otherwise
    let _processor =
        scene.processor_with("processor-0", &[("CLICKSTREAM_TEST_STUCK_MS", "1000")])?;
    let _producer = scene.producer(50, &CLEAN).await?;
    let stack = &scene.stack;
    stack
        .eventually(
            "events are stored",
            "select count(*) > 50 from clickstream_events",
        )
        .await?;
    let open = begin_transaction(stack).await?;
    scene.fires("HangingTransaction").await?;
    let other = scene
        .prometheus
        .query("clickstream_open_transaction_seconds{partition!=\"0\"} > 0")
        .await?;
    ensure!(other.is_empty(), "others wait as well: {other:?}");

    tokio::task::spawn_blocking(move || open.commit_transaction(PATIENCE)).await??;
    scene.resolves("HangingTransaction").await?;
    stack
        .eventually(
            "what waited is stored",
            "select count(*) = 10 from clickstream_events where event_id::text like '%-00000900000_'",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_followed_shows_until_it_can() -> anyhow::Result<()> {
    let scene = Scene::new(StackOptions::default(), &rules(&SHORTER)?).await?;
    let _processor = scene.processor("processor-0")?;
    scene.scraped().await?;
    let document = &scene.stack.document;
    let before = fs::read_to_string(document)?;
    fs::write(
        document,
        format!("{before}  watermark: {{ delay: 100h }}\n"),
    )?;
    scene.fires("DocumentNotFollowed").await?;
    fs::write(document, format!("{before}  watermark: {{ delay: 1s }}\n"))?;
    scene.resolves("DocumentNotFollowed").await?;
    let followed = scene
        .prometheus
        .query("clickstream_rules_changes_total == 1")
        .await?;
    ensure!(followed.len() == 1, "the change was followed: {followed:?}");
    Ok(())
}

/// Writes ten events to partition 0 in a transaction, and leaves it open for as long as the
/// producer lives.
async fn begin_transaction(stack: &Stack) -> anyhow::Result<BaseProducer> {
    let (servers, topic) = (stack.kafka.bootstrap_servers(), stack.topic.clone());
    tokio::task::spawn_blocking(move || -> anyhow::Result<BaseProducer> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("transactional.id", &topic)
            // Kafka must not end it before the test does
            .set("transaction.timeout.ms", "600000")
            .create()?;
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        for click in clicks(0x0900_0000..0x0900_000a, now()) {
            let json = click.json();
            let record = BaseRecord::<(), [u8]>::to(&topic)
                .partition(0)
                .payload(&json);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(PATIENCE)?;
        Ok(producer)
    })
    .await?
}

/// Asks for an orderly end and expects it to succeed.
async fn end(process: &Process) -> anyhow::Result<()> {
    process.terminate()?;
    let status = process.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", process.log_tail());
    Ok(())
}
