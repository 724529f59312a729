//! A topic filled before anything is measured.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{TimeDelta, Utc};
use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions, IdForm};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::stand::Stand;
use crate::log::Log;

/// How much event time a backlog covers: what piles up in an outage of an hour.
const COVERED: Duration = Duration::from_secs(3_600);

/// Of so many records one is sampled: the producer's default.
const ONE_IN: u64 = 10_000;

/// A filled topic.
pub struct Backlog {
    /// The log.
    pub log: Log,
    /// Number of records; offsets add up to it.
    pub records: i64,
}

/// What the records are like.
#[derive(Clone, Copy, Debug)]
pub struct Contents {
    /// Number of records.
    pub records: u64,
    /// Form of the ids.
    pub ids: IdForm,
    /// The 2 % that are sent again.
    pub resends: Resends,
}

/// Where resends go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resends {
    /// To the same partition: the sender keys by user.
    SamePartition,
    /// Under another user's key, so mostly to another partition.
    Elsewhere,
    /// Nothing is sent again.
    None,
}

/// What only some benchmarks want otherwise.
struct Style {
    /// Whether one record in ten thousand has the header of a sampled span.
    sampled: bool,
    /// The event time from the first record to the last.
    covered: Duration,
    /// The part of the events that comes late.
    late: f64,
    /// What becomes of a payload before it is sent.
    form: fn(Vec<u8>) -> Vec<u8>,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            sampled: false,
            covered: COVERED,
            late: 0.0,
            form: |payload| payload,
        }
    }
}

impl Backlog {
    /// Fills a new topic: about 250 bytes a record, 2 % duplicates, 1 % malformed, an hour of event
    /// time up to now.
    ///
    /// # Errors
    /// Kafka refuses.
    pub async fn fill(stand: &Stand, contents: Contents) -> anyhow::Result<Self> {
        Self::filled(stand, contents, Style::default()).await
    }

    /// The same over another stretch of event time, in which this part of the events comes late.
    ///
    /// # Errors
    /// Kafka refuses.
    pub async fn fill_over(
        stand: &Stand,
        contents: Contents,
        covered: Duration,
        late: f64,
    ) -> anyhow::Result<Self> {
        let style = Style {
            covered,
            late,
            ..Style::default()
        };
        Self::filled(stand, contents, style).await
    }

    /// The same, with every payload in another form.
    ///
    /// # Errors
    /// Kafka refuses.
    pub async fn fill_as(
        stand: &Stand,
        contents: Contents,
        form: fn(Vec<u8>) -> Vec<u8>,
    ) -> anyhow::Result<Self> {
        let style = Style {
            form,
            ..Style::default()
        };
        Self::filled(stand, contents, style).await
    }

    /// The same, with the header of a sampled span on one record in ten thousand.
    ///
    /// # Errors
    /// Kafka refuses.
    pub async fn fill_sampled(stand: &Stand, contents: Contents) -> anyhow::Result<Self> {
        let style = Style {
            sampled: true,
            ..Style::default()
        };
        Self::filled(stand, contents, style).await
    }

    async fn filled(stand: &Stand, contents: Contents, style: Style) -> anyhow::Result<Self> {
        let log = stand.topic().await?;
        let Contents { records, ids, .. } = contents;
        eprintln!("filling a topic with {records} records, ids {ids:?}");
        let writer = log.clone();
        tokio::task::spawn_blocking(move || write(&writer, contents, style)).await??;
        let end: i64 = log.ends().await?.values().sum();
        anyhow::ensure!(
            end == i64::try_from(records)?,
            "{end} of {records} records are in the topic"
        );
        Ok(Self { log, records: end })
    }
}

fn write(log: &Log, contents: Contents, style: Style) -> anyhow::Result<()> {
    let mut options = GeneratorOptions {
        rate: (contents.records / style.covered.as_secs().max(1)).max(1),
        late: style.late,
        ids: contents.ids,
        cross_partition_duplicates: f64::from(u8::from(contents.resends == Resends::Elsewhere)),
        ..GeneratorOptions::default()
    };
    if contents.resends == Resends::None {
        options.duplicates = 0.0;
    }
    let begin = Utc::now() - TimeDelta::from_std(style.covered)?;
    let generator = Generator::new(options, EventTime::from_micros(begin.timestamp_micros()))?;
    let mut config = log.config().clone();
    config
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("partitioner", "murmur2_random");
    let producer: BaseProducer = config.create()?;
    for (number, record) in (1_u64..).zip(generator.take(usize::try_from(contents.records)?)) {
        let payload = (style.form)(record.payload);
        let mut next = BaseRecord::to(log.topic())
            .key(&record.key)
            .payload(&payload);
        if style.sampled && number % ONE_IN == 0 {
            let parent = format!("00-{number:032x}-{number:016x}-01");
            let header = Header {
                key: "traceparent",
                value: Some(&parent),
            };
            next = next.headers(OwnedHeaders::new().insert(header));
        }
        while let Err((error, refused)) = producer.send(next) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error).context("cannot produce");
            }
            producer.poll(Duration::from_millis(10));
            next = refused;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(())
}
