//! Heartbeats: records without a value that a processor sends to the partitions it holds, so that
//! the way from produce to commit is measured also while no traffic comes.
//!
//! A header carries the sender's time. Whoever reads the partition counts the record as skipped
//! and, once it is committed, knows how long that took. It moves no clock, and a silent partition
//! stays silent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use clickstream_pipeline::event::EventTime;
use prometheus::IntCounter;
use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult},
    message::{DeliveryResult, Header, Headers, OwnedHeaders},
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{metrics::HeartbeatMetrics, shared::Shared, sink::Topics};

/// The header that makes a record without a value a heartbeat: the sender's time, in microseconds
/// since 1970, in decimal.
pub const HEADER: &str = "clickstream-heartbeat";
/// How far the sender's time may lie from Kafka's: the clocks differ by less, and a heartbeat that
/// the brokers have not taken within [`DELIVERY`] is given up. Anything else was not sent by a
/// processor.
const PLAUSIBLE: Duration = Duration::from_secs(60);
/// How long the brokers may take.
const DELIVERY: Duration = Duration::from_secs(30);

/// When a record without a value was sent, if it is a heartbeat. Anybody who may write the topic
/// may send such a record: what is not plausible is not believed.
pub fn sent_at(headers: &impl Headers, received_at: EventTime) -> Option<EventTime> {
    let value = headers
        .iter()
        .find(|header| header.key == HEADER)
        .and_then(|header| header.value)?;
    let digits = str::from_utf8(value).ok()?;
    if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let sent: i64 = digits.parse().ok()?;
    let apart = u128::from(sent.abs_diff(received_at.micros()));
    (apart <= PLAUSIBLE.as_micros()).then(|| EventTime::from_micros(sent))
}

/// Sends heartbeats.
pub struct Heart {
    producer: ThreadedProducer<Deliveries>,
    interval: Duration,
    shared: Arc<Shared>,
    topics: Topics,
    failed: IntCounter,
}

impl Heart {
    /// A client of its own with the settings of `connection`.
    ///
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn new(
        connection: &ClientConfig,
        interval: Duration,
        shared: Arc<Shared>,
        topics: Topics,
        metrics: &HeartbeatMetrics,
    ) -> KafkaResult<Self> {
        let mut config = connection.clone();
        for (key, value) in [
            ("acks", "all"),
            ("linger.ms", "0"),
            ("message.timeout.ms", &DELIVERY.as_millis().to_string()),
            ("allow.auto.create.topics", "false"),
            // one for each partition at a time; the default would be 1 GiB
            ("queue.buffering.max.messages", "20000"),
            ("queue.buffering.max.kbytes", "16384"),
            ("socket.keepalive.enable", "true"),
        ] {
            config.set(key, value);
        }
        let producer = config.create_with_context(Deliveries {
            acknowledged: metrics.acknowledged.clone(),
            failed: metrics.failed.clone(),
            complained: AtomicBool::new(false),
        })?;
        Ok(Self {
            producer,
            interval,
            shared,
            topics,
            failed: metrics.failed.clone(),
        })
    }

    /// Sends one to each partition that is claimed, every interval, until `stop`.
    pub async fn beat(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        // a process that was held up does not make up for what it has missed
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        info!(
            interval_ms = self.interval.as_millis(),
            "heartbeats are sent"
        );
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.once(),
            }
        }
        // a client that is dropped waits for its broker threads
        tokio::task::spawn_blocking(move || drop(self.producer))
            .await
            .ok();
    }

    fn once(&self) {
        let claimed: Vec<_> = self
            .shared
            .with(|state| state.engine.assigned().map(|(tp, _)| tp).collect());
        for tp in claimed {
            let Some(topic) = self.topics.get(&tp.topic) else {
                continue;
            };
            let now = Utc::now().timestamp_micros().to_string();
            let headers = OwnedHeaders::new().insert(Header {
                key: HEADER,
                value: Some(&now),
            });
            let record = BaseRecord::<(), ()>::to(topic)
                .partition(tp.partition)
                .headers(headers);
            if let Err((error, _)) = self.producer.send(record) {
                self.failed.inc();
                debug!(topic, partition = tp.partition, %error, "heartbeat not sent");
            }
        }
    }
}

/// Counts what became of them.
struct Deliveries {
    acknowledged: IntCounter,
    failed: IntCounter,
    /// The last one failed, and it was said.
    complained: AtomicBool,
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        // the consumer of this process says the same, and louder
        debug!(facility, line, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.inc();
                self.complained.store(false, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failed.inc();
                if !self.complained.swap(true, Ordering::Relaxed) {
                    warn!(%error, "the brokers do not take heartbeats: the processor needs the right to write the topics");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    /// 2026-01-01, in µs.
    const RECEIVED: i64 = 1_767_225_600_000_000;

    fn read(key: &str, value: &[u8]) -> Option<i64> {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "traceparent",
                value: Some("x"),
            })
            .insert(Header {
                key,
                value: Some(value),
            });
        sent_at(&headers, EventTime::from_micros(RECEIVED)).map(EventTime::micros)
    }

    #[test]
    fn the_senders_time_is_read_from_the_header() {
        let sent = RECEIVED - 2_000;
        assert_eq!(read(HEADER, sent.to_string().as_bytes()), Some(sent));
    }

    #[test]
    fn what_no_processor_sends_is_no_heartbeat() {
        let minute = 60_000_000;
        let far = [RECEIVED - minute - 1, RECEIVED + minute + 1, 0]
            .map(|sent| sent.to_string().into_bytes());
        let odd = [
            "",
            "-1",
            "+1767225600000000",
            "99999999999999999999",
            "1e15",
        ];
        let odd = odd.map(|text| text.as_bytes().to_vec());
        for value in far.into_iter().chain(odd).chain([vec![0xff; 16]]) {
            assert_eq!(read(HEADER, &value), None, "{value:?}");
        }
        assert_eq!(read("heartbeat", RECEIVED.to_string().as_bytes()), None);
    }
}
