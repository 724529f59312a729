//! The testbed's servers: they work, survive what tests do to them, and leave nothing behind.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clickstream_testbed::{
    Kafka, KafkaOptions, Postgres, PostgresOptions, PostgresVersion, shared, unique_name,
};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
    message::Timestamp,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};

const ANSWER: Duration = Duration::from_secs(30);

fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap_servers());
    config
}

/// Sends one record and waits for the broker's answer.
async fn produce(kafka: &Kafka, topic: &str, partition: i32, payload: &str) -> anyhow::Result<()> {
    let (config, topic, payload) = (client(kafka), topic.to_owned(), payload.to_owned());
    tokio::task::spawn_blocking(move || {
        let (answered, answer) = std::sync::mpsc::sync_channel(1);
        let context = Answered(answered);
        let producer: BaseProducer<Answered> = config.create_with_context(context)?;
        let record = BaseRecord::<(), _>::to(&topic)
            .partition(partition)
            .payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(ANSWER)?;
        Ok(answer.try_recv().context("no delivery report")??)
    })
    .await?
}

struct Answered(std::sync::mpsc::SyncSender<KafkaResult<()>>);

impl ClientContext for Answered {}

impl ProducerContext for Answered {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0
            .send(
                result
                    .as_ref()
                    .map(|_| ())
                    .map_err(|(error, _)| error.clone()),
            )
            .ok();
    }
}

/// Payload and timestamp of the record at `offset`.
fn read(
    kafka: &Kafka,
    topic: &str,
    partition: i32,
    offset: i64,
) -> anyhow::Result<(String, Timestamp)> {
    let consumer: BaseConsumer = client(kafka)
        .set("group.id", unique_name("group"))
        .create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    consumer.assign(&list)?;
    let deadline = Instant::now() + ANSWER;
    loop {
        // a broker that is away is reported as an error, and the client goes on with the others
        match consumer.poll(ANSWER).context("no record in time")? {
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => {}
            Ok(message) => {
                let payload = String::from_utf8_lossy(message.payload().unwrap_or_default());
                return Ok((payload.into_owned(), message.timestamp()));
            }
        }
    }
}

#[tokio::test]
async fn a_record_comes_back_with_the_brokers_own_timestamp() -> anyhow::Result<()> {
    let kafka = shared::kafka().await?;
    let topic = unique_name("records");
    kafka.create_topic(&topic, 2, &[]).await?;
    produce(kafka, &topic, 1, "hello").await?;
    let (payload, timestamp) = read(kafka, &topic, 1, 0)?;
    assert_eq!(payload, "hello");
    assert!(
        matches!(timestamp, Timestamp::LogAppendTime(_)),
        "{timestamp:?}"
    );
    assert_eq!(kafka.offsets(&topic, 1).await?, (0, 1));
    Ok(())
}

#[tokio::test]
async fn a_topic_keeps_the_timestamp_type_it_is_given() -> anyhow::Result<()> {
    let kafka = shared::kafka().await?;
    let topic = unique_name("create_time");
    kafka
        .create_topic(&topic, 1, &[("message.timestamp.type", "CreateTime")])
        .await?;
    produce(kafka, &topic, 0, "hello").await?;
    let (_, timestamp) = read(kafka, &topic, 0, 0)?;
    assert!(
        matches!(timestamp, Timestamp::CreateTime(_)),
        "{timestamp:?}"
    );
    Ok(())
}

#[tokio::test]
async fn topics_grow_lose_records_and_go() -> anyhow::Result<()> {
    let kafka = shared::kafka().await?;
    let topic = unique_name("grows");
    kafka.create_topic(&topic, 1, &[]).await?;
    kafka.create_partitions(&topic, 3).await?;
    for payload in ["a", "b", "c"] {
        produce(kafka, &topic, 2, payload).await?;
    }
    kafka.delete_records(&topic, 2, 2).await?;
    assert_eq!(kafka.offsets(&topic, 2).await?, (2, 3));
    kafka.delete_topic(&topic).await?;
    assert!(
        kafka.delete_topic(&topic).await.is_err(),
        "a deleted topic cannot be deleted again"
    );
    Ok(())
}

#[tokio::test]
async fn a_killed_broker_comes_back_with_its_records() -> anyhow::Result<()> {
    let kafka = Kafka::start(KafkaOptions::default()).await?;
    kafka.create_topic("kept", 1, &[]).await?;
    produce(&kafka, "kept", 0, "before").await?;
    kafka.broker(0).kill()?;
    kafka.broker(0).restart().await?;
    produce(&kafka, "kept", 0, "after").await?;
    assert_eq!(read(&kafka, "kept", 0, 0)?.0, "before");
    assert_eq!(read(&kafka, "kept", 0, 1)?.0, "after");
    Ok(())
}

#[tokio::test]
async fn three_brokers_serve_every_partition_when_one_is_killed() -> anyhow::Result<()> {
    let kafka = Kafka::start(KafkaOptions {
        brokers: 3,
        heap_mb: 256,
        ..KafkaOptions::default()
    })
    .await?;
    kafka.create_topic("replicated", 3, &[]).await?;
    kafka.broker(0).kill()?;
    for partition in 0..3 {
        produce(&kafka, "replicated", partition, "despite it").await?;
        assert_eq!(read(&kafka, "replicated", partition, 0)?.0, "despite it");
    }
    kafka.broker(0).restart().await?;
    kafka.wait_ready().await
}

async fn survives_immediate_restarts_and_kills(version: PostgresVersion) -> anyhow::Result<()> {
    let postgres = Postgres::start(PostgresOptions {
        version,
        ..PostgresOptions::default()
    })
    .await?;
    postgres.create_database("kept").await?;
    let client = postgres.connect("kept").await?;
    client
        .batch_execute("create table facts (fact text); insert into facts values ('committed')")
        .await?;
    client
        .batch_execute("begin; insert into facts values ('never committed')")
        .await?;
    postgres.restart_immediate().await?;
    assert!(
        client.batch_execute("commit").await.is_err(),
        "the connection must be gone"
    );
    postgres.kill()?;
    assert!(
        postgres.connect("kept").await.is_err(),
        "a killed server must not answer"
    );
    postgres.start_again().await?;
    let rows = postgres
        .connect("kept")
        .await?
        .query("select fact from facts", &[])
        .await?;
    assert_eq!(
        rows.iter()
            .map(|row| row.get::<_, String>(0))
            .collect::<Vec<_>>(),
        ["committed"]
    );
    Ok(())
}

#[tokio::test]
async fn postgresql_15_keeps_what_was_committed() -> anyhow::Result<()> {
    survives_immediate_restarts_and_kills(PostgresVersion::V15).await
}

#[tokio::test]
async fn postgresql_18_keeps_what_was_committed() -> anyhow::Result<()> {
    survives_immediate_restarts_and_kills(PostgresVersion::V18).await
}

#[tokio::test]
async fn a_frozen_postgresql_answers_after_it_goes_on() -> anyhow::Result<()> {
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let client = postgres.connect("postgres").await?;
    postgres.stop_signal()?;
    let mut answer = Box::pin(client.batch_execute("select 1"));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut answer)
            .await
            .is_err(),
        "a frozen server must not answer"
    );
    postgres.continue_signal()?;
    tokio::time::timeout(ANSWER, answer).await??;
    Ok(())
}

#[tokio::test]
async fn databases_of_the_shared_server_are_reached_by_their_address() -> anyhow::Result<()> {
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let name = unique_name("own");
    postgres.create_database(&name).await?;
    let (client, connection) =
        tokio_postgres::connect(&postgres.url(&name), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let version: String = client.query_one("show server_version", &[]).await?.get(0);
    assert!(version.starts_with("18"), "{version}");
    Ok(())
}
