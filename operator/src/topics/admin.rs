//! The Kafka admin API: what a topic is, and the requests of a plan. librdkafka blocks, so each call runs on a thread of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clickstream_kafka::{ConfigError, DescribeError};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::plan::{Step, TopicFacts};

/// How long the brokers may take for one answer: longer than an election of a leader, shorter than a person's patience.
const ANSWER: Duration = Duration::from_secs(5);

/// Why the brokers' answer is not what was asked for. Never holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No broker answers, or it refuses the connection.
    #[error("kafka does not answer: {0}")]
    Unreachable(String),
    /// The brokers refuse a request.
    #[error("kafka refuses to {what} topic {topic}: {why}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Of which topic.
        topic: String,
        /// In the broker's words.
        why: String,
    },
    /// The settings themselves cannot be used.
    #[error("the settings of the connection to kafka are refused: {0}")]
    Settings(KafkaError),
}

/// One connection for administration.
pub struct TopicAdmin {
    client: AdminClient<DefaultClientContext>,
    /// The last trouble with a broker that librdkafka told of, until one answers.
    trouble: Mutex<Option<String>>,
}

impl TopicAdmin {
    /// A client with these properties of librdkafka; it connects in the background.
    ///
    /// # Errors
    /// [`AdminError::Settings`].
    pub fn new(properties: &[(String, String)]) -> Result<Self, AdminError> {
        let mut config = ClientConfig::new();
        for (key, value) in properties {
            config.set(key, value);
        }
        config.set("client.id", "clickstream-operator");
        config.set("socket.keepalive.enable", "true");
        // a broker that is away is asked again every few seconds, not ten times a second
        config.set("reconnect.backoff.max.ms", "5000");
        let client = config.create().map_err(AdminError::Settings)?;
        Ok(Self {
            client,
            trouble: Mutex::default(),
        })
    }

    /// What librdkafka said last says more than that its patience is over: which broker, and what is wrong with it. It says so
    /// once for trouble that stays the same, so that is kept until a broker answers.
    fn unreachable(&self, error: &dyn std::error::Error) -> AdminError {
        let mut trouble = self.trouble.lock();
        clickstream_kafka::hear(self.client.inner(), |facility, line| {
            tracing::debug!(facility, line, "librdkafka");
            if facility == "FAIL" {
                *trouble = Some(without_noise(line).to_owned());
            }
        });
        AdminError::Unreachable(trouble.clone().unwrap_or_else(|| error.to_string()))
    }

    /// A broker answered: earlier trouble is over, and what was said of it meanwhile.
    fn answered(&self) {
        clickstream_kafka::hear(self.client.inner(), |facility, line| {
            tracing::debug!(facility, line, "librdkafka");
        });
        *self.trouble.lock() = None;
    }

    /// What the brokers say about a topic; `None`: there is none of this name.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn describe(self: &Arc<Self>, topic: &str) -> Result<Option<TopicFacts>, AdminError> {
        let admin = Arc::clone(self);
        let name = topic.to_owned();
        let found = tokio::task::spawn_blocking(move || admin.shape(&name))
            .await
            .expect("asking for metadata does not panic and is not cancelled")?;
        self.answered();
        let Some(mut facts) = found else {
            return Ok(None);
        };
        facts.config = self.config(topic).await?;
        Ok(Some(facts))
    }

    fn shape(&self, topic: &str) -> Result<Option<TopicFacts>, AdminError> {
        let described = clickstream_kafka::describe_topic(self.client.inner(), topic, ANSWER)
            .map_err(|error| match error {
                DescribeError::Silent(_) => self.unreachable(&error),
                DescribeError::Refused(why) => AdminError::Refused {
                    what: "describe",
                    topic: topic.to_owned(),
                    why,
                },
                DescribeError::ZeroByte(_) => AdminError::Refused {
                    what: "describe",
                    topic: topic.to_owned(),
                    why: error.to_string(),
                },
            })?;
        Ok(described.map(|found| TopicFacts {
            id: found.id,
            partitions: u32::try_from(found.partitions).unwrap_or(u32::MAX),
            replication_factor: u16::try_from(found.replication_factor).unwrap_or(u16::MAX),
            config: BTreeMap::new(),
        }))
    }

    /// The settings in force; empty where this user may not read them.
    async fn config(&self, topic: &str) -> Result<BTreeMap<String, String>, AdminError> {
        let answers = self
            .client
            .describe_configs([&ResourceSpecifier::Topic(topic)], &options())
            .await
            .map_err(|error| self.unreachable(&error))?;
        let mut config = BTreeMap::new();
        for answer in answers {
            match answer {
                Ok(resource) => config.extend(
                    resource
                        .entries
                        .into_iter()
                        .filter_map(|entry| Some((entry.name, entry.value?))),
                ),
                Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {}
                Err(code) => {
                    return Err(AdminError::Refused {
                        what: "read the settings of",
                        topic: topic.to_owned(),
                        why: code.to_string(),
                    });
                }
            }
        }
        Ok(config)
    }

    /// Does one step of a plan. Making a topic that is there, or partitions that are there, is no error: somebody was quicker,
    /// and the next look decides.
    ///
    /// # Errors
    /// [`AdminError`]; the next look shows what was done.
    pub async fn perform(self: &Arc<Self>, topic: &str, step: &Step) -> Result<(), AdminError> {
        match step {
            Step::Create {
                partitions,
                replication_factor,
                config,
            } => {
                let replication = replication_factor.map_or(-1, i32::from);
                let mut new = NewTopic::new(
                    topic,
                    i32::try_from(*partitions).unwrap_or(i32::MAX),
                    TopicReplication::Fixed(replication),
                );
                for (key, value) in config {
                    new = new.set(key, value);
                }
                let answers = self
                    .client
                    .create_topics([&new], &options())
                    .await
                    .map_err(|error| self.unreachable(&error))?;
                checked(
                    "create",
                    topic,
                    answers,
                    RDKafkaErrorCode::TopicAlreadyExists,
                )
            }
            Step::AddPartitions { to, .. } => {
                let answers = self
                    .client
                    .create_partitions([&NewPartitions::new(topic, *to as usize)], &options())
                    .await
                    .map_err(|error| self.unreachable(&error))?;
                checked(
                    "add partitions to",
                    topic,
                    answers,
                    RDKafkaErrorCode::InvalidPartitions,
                )
            }
            Step::ChangeConfig(changes) => {
                let admin = Arc::clone(self);
                let (name, changes) = (topic.to_owned(), changes.clone());
                let changed = tokio::task::spawn_blocking(move || {
                    clickstream_kafka::change_config(admin.client.inner(), &name, &changes, ANSWER)
                })
                .await
                .expect("a change of settings does not panic and is not cancelled");
                changed.map_err(|error: ConfigError| AdminError::Refused {
                    what: "change settings of",
                    topic: topic.to_owned(),
                    why: error.to_string(),
                })
            }
        }
    }

    /// Deletes a topic with everything in it; one that is gone is no error.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn delete(&self, topic: &str) -> Result<(), AdminError> {
        let answers = self
            .client
            .delete_topics(&[topic], &options())
            .await
            .map_err(|error| self.unreachable(&error))?;
        checked(
            "delete",
            topic,
            answers,
            RDKafkaErrorCode::UnknownTopicOrPartition,
        )
    }
}

/// A line of librdkafka without its thread in front, `[thrd:..]: `, and without how long the broker had been in which of
/// librdkafka's states at the end, ` (after ..)`: neither is of use to a person, and the latter differs each time.
fn without_noise(line: &str) -> &str {
    let text = line.split_once("]: ").map_or(line, |(_, text)| text);
    text.rsplit_once(" (after ").map_or(text, |(text, _)| text)
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER))
}

fn checked(
    what: &'static str,
    topic: &str,
    answers: Vec<Result<String, (String, RDKafkaErrorCode)>>,
    harmless: RDKafkaErrorCode,
) -> Result<(), AdminError> {
    for answer in answers {
        match answer {
            Ok(_) => {}
            Err((_, code)) if code == harmless => {}
            Err((_, code)) => {
                return Err(AdminError::Refused {
                    what,
                    topic: topic.to_owned(),
                    why: code.to_string(),
                });
            }
        }
    }
    Ok(())
}
