//! The way into Kafka: idempotent, acknowledged by all in-sync replicas, with a queue bounded in
//! bytes.

mod deliveries;
mod spans;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clickstream_telemetry::tracing as traces;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};
use tracing::Span;

use self::deliveries::Deliveries;
use crate::metrics::Metrics;
use crate::record::Record;
use crate::stop::Stop;

/// How often the topic is asked for while nothing answers, and how long one question may take.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// Settings whose values must never be shown.
const SECRET_SETTINGS: [&str; 4] = [
    "sasl.password",
    "ssl.key.pem",
    "ssl.certificate.pem",
    "ssl.ca.pem",
];

/// A topic made a moment ago may not be known to every broker: an absent one is asked for this many
/// times.
const ABSENT_ANSWERS: u32 = 4;

/// Where and how to send.
#[derive(Clone)]
pub struct SenderOptions {
    /// Properties of librdkafka that say how to reach the brokers. They hold secrets.
    pub properties: Vec<(String, String)>,
    /// The topic.
    pub topic: String,
    /// How long a record is retried before it counts as failed.
    pub delivery_timeout: Duration,
    /// How long to look for the brokers and the topic at the start.
    pub connect_timeout: Duration,
    /// Bound of the queue in bytes of keys and values.
    pub queue_bytes: u64,
}

/// Why nothing can be sent. In every case nothing has been sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// librdkafka refuses the configuration.
    #[error("the Kafka settings are refused: {0}")]
    Configuration(String),
    /// The brokers refuse the credentials.
    #[error("the Kafka brokers at {servers} refuse the credentials: {detail}")]
    Credentials {
        /// The bootstrap servers.
        servers: String,
        /// What the broker says.
        detail: String,
    },
    /// No broker answers.
    #[error("no Kafka broker answers at {servers} within {within:?}: {detail}")]
    Unreachable {
        /// The bootstrap servers.
        servers: String,
        /// How long was tried.
        within: Duration,
        /// The last thing that went wrong.
        detail: String,
    },
    /// The topic does not exist, or this user may not know of it.
    #[error(
        "topic `{topic}` does not exist at {servers}, or is hidden from this user; create it, or name another with --topic"
    )]
    NoTopic {
        /// The topic.
        topic: String,
        /// The bootstrap servers.
        servers: String,
    },
    /// The user may not write to the topic.
    #[error("this user may not use topic `{topic}`: grant it Write and Describe")]
    Forbidden {
        /// The topic.
        topic: String,
    },
    /// The end was asked for before the brokers answered.
    #[error("stopped before any Kafka broker answered")]
    Stopped,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The queue is full: wait and try again.
    #[error("the queue is full")]
    QueueFull,
    /// This record cannot be sent, now or later.
    #[error("the record cannot be sent: {0}")]
    Record(KafkaError),
}

/// An open connection that takes records.
pub struct Sender {
    producer: ThreadedProducer<Deliveries>,
    topic: String,
    begun: Instant,
    /// The span of a record that the full queue did not take, for when it is handed over again.
    refused: Cell<Option<Span>>,
}

impl Sender {
    /// Connects and makes sure that the topic is there.
    ///
    /// # Errors
    /// [`ConnectError`] says what to change. Nothing has been sent then.
    pub fn connect(
        options: &SenderOptions,
        metrics: &Metrics,
        stop: &Stop,
    ) -> Result<Self, ConnectError> {
        let begun = Instant::now();
        let deliveries = Deliveries::new(metrics.clone(), begun);
        let producer: ThreadedProducer<Deliveries> = configuration(options)
            .create_with_context(deliveries)
            .map_err(|error| ConnectError::Configuration(refused_settings(&error)))?;
        let sender = Self {
            producer,
            topic: options.topic.clone(),
            begun,
            refused: Cell::new(None),
        };
        sender.probe(options, stop)?;
        sender.context().connected();
        Ok(sender)
    }

    /// Hands a record to the queue. One that the full queue has refused comes again before any
    /// other.
    ///
    /// # Errors
    /// [`Refused::QueueFull`] is a matter of time, [`Refused::Record`] is not.
    pub fn send(&self, record: &Record) -> Result<(), Refused> {
        let begun = usize::try_from(self.begun.elapsed().as_micros()).unwrap_or(usize::MAX >> 1);
        let span = match traces::is_on() {
            true => self
                .refused
                .take()
                .or_else(|| spans::begin(&self.topic, record)),
            false => None,
        };
        let headers = span.as_ref().and_then(spans::headers);
        let opaque = match span {
            Some(span) => self.context().spans.keep(span, begun),
            None => begun,
        };
        let mut base = BaseRecord::with_opaque_to(&self.topic, opaque)
            .key(&record.key)
            .payload(&record.payload);
        if let Some(headers) = headers {
            base = base.headers(headers);
        }
        self.producer.send(base).map_err(|(error, _)| {
            let (_, span) = self.context().spans.take(opaque);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                self.refused.set(span);
                return Refused::QueueFull;
            }
            if let Some(span) = span {
                traces::fail(&span, &error);
            }
            Refused::Record(error)
        })
    }

    /// Whether the client has met an error after which it can never send again.
    #[must_use]
    pub fn fatal_error(&self) -> Option<String> {
        self.producer
            .client()
            .fatal_error()
            .map(|(code, text)| format!("{code}: {text}"))
    }

    /// Why the last record that failed did so.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.context().last_failure()
    }

    /// Gives up everything that is still queued; each such record counts as failed.
    pub fn give_up(&self) {
        self.producer
            .purge(PurgeConfig::default().queue().inflight());
        // purged records report through the polling thread like any others
        if self.producer.flush(Duration::from_secs(1)).is_err() {
            tracing::warn!("records given up did not all report");
        }
    }

    fn probe(&self, options: &SenderOptions, stop: &Stop) -> Result<(), ConnectError> {
        let servers = || {
            let found = options
                .properties
                .iter()
                .find(|(name, _)| name == "bootstrap.servers");
            found.map_or_else(String::new, |(_, servers)| servers.clone())
        };
        let deadline = self.begun + options.connect_timeout;
        let mut absent = 0;
        loop {
            let detail = match self
                .producer
                .client()
                .fetch_metadata(Some(&self.topic), PROBE_INTERVAL)
            {
                Ok(metadata) => match topic_error(&metadata, &self.topic) {
                    None => return Ok(()),
                    Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                        return Err(ConnectError::Forbidden {
                            topic: self.topic.clone(),
                        });
                    }
                    Some(
                        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                    ) => {
                        absent += 1;
                        if absent == ABSENT_ANSWERS {
                            return Err(ConnectError::NoTopic {
                                topic: self.topic.clone(),
                                servers: servers(),
                            });
                        }
                        "the topic is not known".to_owned()
                    }
                    Some(code) => code.to_string(),
                },
                Err(error) => error.to_string(),
            };
            if let Some(detail) = self.context().refused_credentials() {
                return Err(ConnectError::Credentials {
                    servers: servers(),
                    detail,
                });
            }
            if Instant::now() >= deadline {
                let detail = self.context().last_trouble().unwrap_or(detail);
                let within = options.connect_timeout;
                return Err(ConnectError::Unreachable {
                    servers: servers(),
                    within,
                    detail,
                });
            }
            if !stop.wait(PROBE_INTERVAL / 2) {
                return Err(ConnectError::Stopped);
            }
        }
    }

    fn context(&self) -> &Arc<Deliveries> {
        self.producer.client().context()
    }
}

/// What librdkafka has against its settings, without the value of a setting: it may be a password
/// or a key.
fn refused_settings(error: &KafkaError) -> String {
    let detail = match error {
        KafkaError::ClientConfig(_, _, name, _) if SECRET_SETTINGS.contains(&name.as_str()) => {
            format!("{name} has the wrong form")
        }
        KafkaError::ClientConfig(_, detail, _, _) => detail.clone(),
        other => other.to_string(),
    };
    let needs_tls = ["OpenSSL", "No provider for SASL mechanism"]
        .iter()
        .any(|sign| detail.contains(sign));
    let hint = if needs_tls && !cfg!(feature = "tls") {
        "; this build has neither TLS nor SCRAM: use the release image, or build with --features tls"
    } else {
        ""
    };
    format!("{detail}{hint}")
}

fn topic_error(metadata: &Metadata, topic: &str) -> Option<RDKafkaErrorCode> {
    match metadata.topics().iter().find(|found| found.name() == topic) {
        None => Some(RDKafkaErrorCode::UnknownTopicOrPartition),
        Some(found) => found.error().map(Into::into),
    }
}

fn configuration(options: &SenderOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &options.properties {
        config.set(name, value);
    }
    let kibibytes = (options.queue_bytes / 1_024).clamp(1, 2_097_151);
    config
        .set("client.id", "clickstream-producer")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        // the hash of Java's clients, so that a user's events meet on one partition whoever sends
        // them
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", kibibytes.to_string())
        // 0: the bound in bytes is the only one
        .set("queue.buffering.max.messages", "0")
        .set("message.timeout.ms", options.delivery_timeout.as_millis().clamp(1, i32::MAX as u128).to_string())
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true");
    config
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};
    use rdkafka::types::RDKafkaConfRes;

    use super::refused_settings;

    #[test]
    fn a_refused_setting_never_shows_a_secret() {
        for name in super::SECRET_SETTINGS {
            let error = KafkaError::ClientConfig(
                RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
                "Invalid value \"hunter2\"".to_owned(),
                name.to_owned(),
                "hunter2".to_owned(),
            );
            let shown = refused_settings(&error);
            assert!(
                shown.contains(name) && !shown.contains("hunter2"),
                "{shown}"
            );
        }
    }

    #[test]
    fn other_errors_keep_their_text() {
        let error = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        assert_eq!(refused_settings(&error), error.to_string());
    }
}
