//! The consumer's settings, each with its reason, and what the brokers say about the topics.

use std::time::Duration;

use anyhow::{Context, bail};
use clickstream_pipeline::spec::{ClickstreamPipeline, Secrets};
use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    metadata::MetadataTopic,
    types::RDKafkaErrorCode,
};

use super::identity;
use crate::{
    failpoints::tuned,
    sink::{Described, KnownTopic},
};

/// A member that is not heard from for this long loses its partitions.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a member asks the group whether partitions move. Partitions that move wait for the
/// last member to ask.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// Records fetched ahead, in KiB over all partitions.
const FETCH_QUEUES_KIB: i64 = 16_384;
/// What one answer to a fetch may hold, in KiB. It comes on top of the queues, which are looked at
/// before a fetch only.
const FETCH_KIB: i64 = 16_384;
/// What it may hold of one partition, in KiB over all partitions.
const FETCHED_KIB: i64 = 32_768;
/// How long a broker that the cluster still counts in, and that does not answer, is waited for
/// where followers are read from. Well below the time after which a partition counts as stuck: its
/// leader answers all the while, so that the process would be ended for it.
const PATIENCE_WITH_FOLLOWERS: Duration = Duration::from_secs(15);
/// How long the first answer of a broker may take.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// The session time-out of the group, which tests shorten.
pub fn session_timeout() -> Duration {
    tuned("CLICKSTREAM_TEST_SESSION_TIMEOUT_MS", SESSION_TIMEOUT)
}

/// How often the group is told that this member is there, and asked whether partitions move.
pub fn heartbeat_interval() -> Duration {
    HEARTBEAT.min(session_timeout() / 10)
}

/// How to connect, and as whom.
#[derive(Clone)]
pub struct ConsumerSettings {
    config: ClientConfig,
    /// How to reach the brokers, for other clients of this process.
    pub connection: ClientConfig,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Consumer group, once it is known; see [`ConsumerSettings::join`].
    pub group: String,
}

impl ConsumerSettings {
    /// Settings for a pipeline.
    ///
    /// # Errors
    /// A secret that is missing or cannot be read.
    pub fn new(
        pipeline: &ClickstreamPipeline,
        owner: &str,
        secrets: &dyn Secrets,
    ) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        for (key, value) in pipeline.spec.kafka.client_properties(secrets)? {
            config.set(key, value);
        }
        config.set("client.id", owner);
        let connection = config.clone();
        let settings: &[(&str, &str)] = &[
            // replaced by the target's before anything is read: a client that only asks joins none
            ("group.id", "clickstream"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            (
                "session.timeout.ms",
                &session_timeout().as_millis().to_string(),
            ),
            (
                "heartbeat.interval.ms",
                &heartbeat_interval().as_millis().to_string(),
            ),
            ("max.poll.interval.ms", "300000"),
            // the position comes from PostgreSQL; the group's offset is a hint for lag tools,
            // written after the commit
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // a position outside the log is an event that a person must hear of, never a silent
            // jump
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            ("socket.keepalive.enable", "true"),
            ("topic.metadata.refresh.interval.ms", "10000"),
            // answers at once when something is there; otherwise the broker waits this long for the
            // first byte
            ("fetch.wait.max.ms", "100"),
            ("fetch.min.bytes", "1"),
            // the default of a second makes catching up a saw-tooth
            ("fetch.queue.backoff.ms", "5"),
            // brokers that answer and leaders of partitions, for `clickstream_kafka_up` and to know
            // a stale end of a log
            ("statistics.interval.ms", "5000"),
            // the only place where librdkafka tells that a topic has got another id
            ("debug", identity::DEBUG_CONTEXT),
        ];
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.set_log_level(RDKafkaLogLevel::Debug);
        let topics = pipeline
            .spec
            .topics
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        Ok(Self {
            config,
            connection,
            topics,
            group: String::new(),
        })
    }

    /// Names the consumer group that the processors of the target are in.
    pub fn join(&mut self, group: String) {
        self.config.set("group.id", &group);
        self.group = group;
    }

    /// Names the rack that this process is in: brokers that select replicas by it then name one to
    /// fetch from. librdkafka goes back to the leader when that one is gone, does not answer, or
    /// calls a position outside of its log.
    pub fn stand_in(&mut self, rack: &str) {
        self.config.set("client.rack", rack).set(
            "socket.timeout.ms",
            PATIENCE_WITH_FOLLOWERS.as_millis().to_string(),
        );
    }

    /// Bounds what is fetched ahead, which librdkafka counts per partition, over all partitions:
    /// the records of a few round trips each, whatever the number of partitions that this process
    /// is given. A batch that is larger than its partition's share is fetched all the same, when it
    /// is that partition's turn to be the first in an answer.
    pub fn fit_queues(&mut self, topics: &[KnownTopic]) {
        let partitions: i64 = topics.iter().map(|topic| i64::from(topic.partitions)).sum();
        let (queue, fetched) = shares(partitions);
        for (key, value) in [
            ("queued.max.messages.kbytes", queue),
            ("fetch.max.bytes", FETCH_KIB * 1_024),
            ("fetch.message.max.bytes", fetched * 1_024),
        ] {
            self.config.set(key, value.to_string());
        }
    }

    /// The settings as librdkafka takes them.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }
}

/// What each of so many partitions may have in its queue, and in an answer to a fetch, in KiB.
fn shares(partitions: i64) -> (i64, i64) {
    let partitions = partitions.max(1);
    (
        (FETCH_QUEUES_KIB / partitions).clamp(16, 4_096),
        (FETCHED_KIB / partitions).clamp(64, 1_024),
    )
}

/// Asks the brokers for the cluster's id and for the topics.
///
/// # Errors
/// No broker answers, or one does not let this client look at a topic.
pub fn describe(settings: &ConsumerSettings) -> anyhow::Result<Described> {
    let servers = settings.config.get("bootstrap.servers").unwrap_or_default();
    let consumer: BaseConsumer = settings
        .config
        .create()
        .context("spec.kafka: librdkafka refuses these settings")?;
    let unreachable = || {
        format!(
            "no Kafka broker answered at {servers} within {} s: check spec.kafka.bootstrapServers, tls and sasl",
            FIRST_ANSWER.as_secs()
        )
    };
    let (mut topics, mut missing) = (Vec::new(), Vec::new());
    for name in &settings.topics {
        let metadata = consumer
            .fetch_metadata(Some(name), FIRST_ANSWER)
            .with_context(unreachable)?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        if let Some(error) = topic
            .and_then(MetadataTopic::error)
            .map(RDKafkaErrorCode::from)
            && error != RDKafkaErrorCode::UnknownTopicOrPartition
        {
            bail!("topic {name} cannot be looked at on {servers}: {error}");
        }
        let Some(topic) = topic.filter(|topic| !topic.partitions().is_empty()) else {
            missing.push(name.clone());
            continue;
        };
        let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        let id = clickstream_kafka::topic_id(consumer.client(), name, FIRST_ANSWER);
        topics.push(KnownTopic {
            name: name.clone(),
            partitions,
            id,
        });
    }
    Ok(Described {
        servers: servers.to_owned(),
        cluster: consumer.client().fetch_cluster_id(FIRST_ANSWER),
        topics,
        missing,
    })
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn what_is_fetched_ahead_has_a_bound_over_all_partitions() {
        assert_eq!(shares(0), (4_096, 1_024));
        assert_eq!(shares(4), (4_096, 1_024));
        assert_eq!(shares(32), (512, 1_024));
        for partitions in [64, 500, 1_000] {
            let (queue, fetched) = shares(partitions);
            assert!(queue * partitions <= 16 * 1_024, "{partitions}: {queue}");
            assert!(
                fetched * partitions <= 64 * 1_024,
                "{partitions}: {fetched}"
            );
        }
    }
}
