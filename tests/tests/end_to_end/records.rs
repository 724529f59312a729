//! Records made by hand: which event, at which time, on which partition.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use uuid::Uuid;

use crate::stack::{PATIENCE, Stack};

/// One record: the partition and the value, `None` for a tombstone.
pub type Placed = (i32, Option<Vec<u8>>);

/// An event as a client would send it.
#[derive(Clone, Debug)]
pub struct Click {
    pub id: Uuid,
    pub user: String,
    pub at: EventTime,
    pub url: String,
}

impl Click {
    /// A click whose every field follows from `number`, dated `at`.
    pub fn new(number: u64, at: EventTime) -> Self {
        Self {
            id: Uuid::from_u128(0x018e_2f00_0000_7000_8000_0000_0000_0000 + u128::from(number)),
            user: format!("user-{}", number % 97),
            at,
            url: format!("https://shop.example/item/{}", number % 31),
        }
    }

    /// The same id at another time.
    pub fn dated(self, at: EventTime) -> Self {
        Self { at, ..self }
    }

    /// Its JSON.
    pub fn json(&self) -> Vec<u8> {
        format!(
            r#"{{"event_id":"{}","user_id":"{}","event_ts":{},"url":"{}"}}"#,
            self.id,
            self.user,
            self.at.micros() / 1_000,
            self.url
        )
        .into_bytes()
    }

    /// Its JSON as a record of this partition.
    pub fn on(&self, partition: i32) -> Placed {
        (partition, Some(self.json()))
    }
}

/// Clicks with these numbers, all dated `at`.
pub fn clicks(numbers: std::ops::Range<u64>, at: EventTime) -> Vec<Click> {
    numbers.map(|number| Click::new(number, at)).collect()
}

/// The present.
pub fn now() -> EventTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("the clock of a machine that runs tests is past 1970");
    EventTime::from_micros(since.as_millis() as i64 * 1_000)
}

/// A time that lies this far before `time`.
pub fn before(time: EventTime, by: Duration) -> EventTime {
    EventTime::from_micros(time.micros() - by.as_micros() as i64)
}

/// A time that lies this far after `time`.
pub fn after(time: EventTime, by: Duration) -> EventTime {
    EventTime::from_micros(time.micros() + by.as_micros() as i64)
}

impl Stack {
    /// Sends records to the partitions that they name, in this order, and waits until all are
    /// acknowledged.
    pub async fn place(&self, records: Vec<Placed>) -> anyhow::Result<usize> {
        self.place_in(&self.topic, records).await
    }

    /// The same with this timestamp on each record, as a client can set it where the broker does
    /// not.
    pub async fn place_stamped(&self, records: Vec<Placed>, millis: i64) -> anyhow::Result<usize> {
        self.send_to(&self.topic, records, "none", Some(millis))
            .await
    }

    /// The same in batches that are compressed like this.
    pub async fn place_compressed(
        &self,
        records: Vec<Placed>,
        codec: &'static str,
    ) -> anyhow::Result<usize> {
        self.send_to(&self.topic, records, codec, None).await
    }

    /// The same in another topic than the stack's own.
    pub async fn place_in(&self, topic: &str, records: Vec<Placed>) -> anyhow::Result<usize> {
        self.send_to(topic, records, "none", None).await
    }

    async fn send_to(
        &self,
        topic: &str,
        records: Vec<Placed>,
        codec: &'static str,
        millis: Option<i64>,
    ) -> anyhow::Result<usize> {
        let (servers, topic) = (self.kafka.bootstrap_servers(), topic.to_owned());
        tokio::task::spawn_blocking(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", servers)
                .set("enable.idempotence", "true")
                .set("linger.ms", if codec == "none" { "0" } else { "20" })
                .set("compression.type", codec)
                .create()?;
            for (partition, value) in &records {
                let mut record = BaseRecord::<(), [u8]>::to(&topic).partition(*partition);
                if let Some(value) = value {
                    record = record.payload(value);
                }
                if let Some(millis) = millis {
                    record = record.timestamp(millis);
                }
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer
                .flush(PATIENCE)
                .context("records were not acknowledged")?;
            Ok(records.len())
        })
        .await?
    }

    /// Sends `count` generated records whose times begin at `base`.
    pub async fn produce_from(
        &self,
        options: GeneratorOptions,
        base: EventTime,
        count: usize,
    ) -> anyhow::Result<usize> {
        let records = Generator::new(options, base)?.take(count);
        self.send(records.map(|r| (r.key, Some(r.payload))).collect())
            .await
    }

    /// One total of all checkpoints.
    pub async fn total(&self, counter: &str) -> anyhow::Result<i64> {
        self.count(&format!(
            "select coalesce(sum({counter}), 0) from clickstream_checkpoints"
        ))
        .await
    }
}
