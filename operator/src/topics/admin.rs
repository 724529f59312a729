//! The Kafka admin API: what a topic is, and the requests of a plan. librdkafka blocks, so each
//! call runs on a thread of its own.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, time::Duration};

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

/// How long the brokers may take for one answer: longer than an election of a leader, shorter than
/// a person's patience.
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
        /// Whether nothing has been done, and nothing will be.
        definite: bool,
    },
    /// The settings themselves cannot be used.
    #[error("the settings of the connection to kafka are refused: {0}")]
    Settings(KafkaError),
}

impl AdminError {
    /// Whether nothing has been done, and nothing will be: a request that was not answered in time
    /// may still be on its way.
    pub const fn is_definite(&self) -> bool {
        match self {
            Self::Unreachable(_) => false,
            Self::Refused { definite, .. } => *definite,
            Self::Settings(_) => true,
        }
    }
}

/// A client of librdkafka. Closing one waits until its threads have ended, so a thread does it that
/// may wait: the runtime, and whatever lock is held, go on.
struct Client(Option<AdminClient<DefaultClientContext>>);

impl Deref for Client {
    type Target = AdminClient<DefaultClientContext>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is taken when it is dropped")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let client = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(client))),
            Err(_) => drop(client),
        }
    }
}

/// One connection for administration.
pub struct TopicAdmin {
    client: Client,
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
            client: Client(Some(client)),
            trouble: Mutex::default(),
        })
    }

    /// What librdkafka said last says more than that its patience is over: which broker, and what
    /// is wrong with it. It says so once for trouble that stays the same, so that is kept until a
    /// broker answers.
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
        if let Some(config) = self.config(topic).await? {
            facts.config = config;
            facts.readable = true;
        }
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
                    definite: true,
                },
                DescribeError::ZeroByte(_) => AdminError::Refused {
                    what: "describe",
                    topic: topic.to_owned(),
                    why: error.to_string(),
                    definite: true,
                },
            })?;
        Ok(described.map(|found| TopicFacts {
            id: found.id,
            partitions: u32::try_from(found.partitions).unwrap_or(u32::MAX),
            replication_factor: u16::try_from(found.replication_factor).unwrap_or(u16::MAX),
            config: BTreeMap::new(),
            readable: false,
        }))
    }

    /// The settings in force; `None` where this user may not read them.
    async fn config(&self, topic: &str) -> Result<Option<BTreeMap<String, String>>, AdminError> {
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
                Err(RDKafkaErrorCode::TopicAuthorizationFailed) => return Ok(None),
                Err(code) => {
                    return Err(AdminError::Refused {
                        what: "read the settings of",
                        topic: topic.to_owned(),
                        why: code.to_string(),
                        definite: true,
                    });
                }
            }
        }
        Ok(Some(config))
    }

    /// Asks what would become of a new topic: whoever does not make it need not note that it is
    /// theirs. Whether it is there already.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn rehearse(&self, topic: &str, step: &Step) -> Result<bool, AdminError> {
        self.create(topic, step, true).await
    }

    async fn create(&self, topic: &str, step: &Step, rehearsal: bool) -> Result<bool, AdminError> {
        let Step::Create {
            partitions,
            replication_factor,
            config,
        } = step
        else {
            return Ok(false);
        };
        let replication = replication_factor.map_or(-1, i32::from);
        let mut new = NewTopic::new(
            topic,
            i32::try_from(*partitions).unwrap_or(i32::MAX),
            TopicReplication::Fixed(replication),
        );
        for (key, value) in config {
            new = new.set(key, value);
        }
        let options = options().validate_only(rehearsal);
        let answers = match self.client.create_topics([&new], &options).await {
            // a broker that is too old for rehearsals
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) if rehearsal => {
                return Ok(false);
            }
            answers => answers.map_err(|error| self.unreachable(&error))?,
        };
        checked(
            "create",
            topic,
            answers,
            RDKafkaErrorCode::TopicAlreadyExists,
        )
    }

    /// Does one step of a plan, and tells whether that was done already: somebody was quicker, or a
    /// broker asked twice for us.
    ///
    /// # Errors
    /// [`AdminError`]; the next look shows what was done.
    pub async fn perform(self: &Arc<Self>, topic: &str, step: &Step) -> Result<bool, AdminError> {
        match step {
            Step::Create { .. } => self.create(topic, step, false).await,
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
                    definite: false,
                })?;
                Ok(false)
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
        .map(|_| ())
    }
}

/// A line of librdkafka without its thread in front, `[thrd:..]: `, and without how long the broker
/// had been in which of librdkafka's states at the end, ` (after ..)`: neither is of use to a
/// person, and the latter differs each time.
fn without_noise(line: &str) -> &str {
    let text = line.split_once("]: ").map_or(line, |(_, text)| text);
    text.rsplit_once(" (after ").map_or(text, |(text, _)| text)
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER))
}

/// Whether the answer was the harmless one.
fn checked(
    what: &'static str,
    topic: &str,
    answers: Vec<Result<String, (String, RDKafkaErrorCode)>>,
    harmless: RDKafkaErrorCode,
) -> Result<bool, AdminError> {
    let mut is_harmless = false;
    for answer in answers {
        match answer {
            Ok(_) => {}
            Err((_, code)) if code == harmless => is_harmless = true,
            // the controller was asked, and has not told in time what became of it
            Err((_, RDKafkaErrorCode::RequestTimedOut)) => {
                return Err(AdminError::Unreachable(format!(
                    "the request to {what} topic {topic} was not finished in time"
                )));
            }
            Err((_, code)) => {
                return Err(AdminError::Refused {
                    what,
                    topic: topic.to_owned(),
                    why: code.to_string(),
                    definite: is_definite(code),
                });
            }
        }
    }
    Ok(is_harmless)
}

/// Codes by which a broker says that a request was judged and not carried out. Any other may come
/// of a request that was.
const fn is_definite(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidReplicationFactor
            | RDKafkaErrorCode::InvalidReplicaAssignment
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::InvalidRequest
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::NotController
    )
}
