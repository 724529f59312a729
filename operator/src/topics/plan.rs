//! What has to be done to a topic, and what must not be done. Pure.

use std::collections::BTreeMap;

use clickstream_kafka::ConfigChange;
use clickstream_pipeline::spec::{TopicManagement, TopicSpec};
use clickstream_protocol::conditions::Reason;

/// The setting that makes received_at a function of the log.
pub const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const LOG_APPEND_TIME: &str = "LogAppendTime";
const RETENTION_MS: &str = "retention.ms";

/// A topic as the brokers describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// The id that Kafka gave it; `None` where the broker does not tell (before Kafka 2.8).
    pub id: Option<String>,
    /// Number of partitions.
    pub partitions: u32,
    /// Copies of each partition.
    pub replication_factor: u16,
    /// Settings in force, by Kafka's names; where this user may not read them, those that were sent
    /// last.
    pub config: BTreeMap<String, String>,
    /// Whether this user may read the settings.
    pub readable: bool,
}

/// What is known of a topic from before: the status of the resource, or the target's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its id then.
    pub id: Option<String>,
    /// Whether this pipeline made it.
    pub created: bool,
    /// Settings that were held in line so far.
    pub held: Vec<String>,
}

impl KnownTopic {
    /// One that the pipeline makes: its id is not known before a broker shows it.
    pub const fn made() -> Self {
        Self {
            id: None,
            created: true,
            held: Vec::new(),
        }
    }
}

/// Where the knowledge about earlier topics stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History<'k> {
    /// This pipeline has managed the topic before.
    Known(&'k KnownTopic),
    /// It certainly has not.
    Unknown,
    /// A migration will tell, which has not ended yet.
    NotTold,
}

/// One request to the brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the topic.
    Create {
        /// Number of partitions.
        partitions: u32,
        /// Copies of each; `None`: the broker's default.
        replication_factor: Option<u16>,
        /// Settings.
        config: BTreeMap<String, String>,
    },
    /// Raises the number of partitions.
    AddPartitions {
        /// So many there are.
        from: u32,
        /// So many there will be.
        to: u32,
    },
    /// Changes these settings and no others.
    ChangeConfig(Vec<ConfigChange>),
}

impl Step {
    /// Whether a topic may have come of this.
    pub fn made(&self, facts: &TopicFacts) -> bool {
        let Self::Create {
            partitions,
            replication_factor,
            config,
        } = self
        else {
            return false;
        };
        let mut settings = config.iter();
        *partitions == facts.partitions
            && replication_factor.is_none_or(|wanted| wanted == facts.replication_factor)
            && (!facts.readable
                || settings.all(|(key, value)| facts.config.get(key) == Some(value)))
    }
}

/// Why a topic is not as the spec has it, although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It existed before, and the pipeline did not make it.
    #[error(
        "topic {topic} exists and was not created by this pipeline: set `adopt: true` to manage it, or `management: External` to read it as it is"
    )]
    TopicExists {
        /// Name of the topic.
        topic: String,
    },
    /// Kafka cannot take partitions away.
    #[error(
        "topic {topic} has {found} partitions, the spec {wanted}: Kafka cannot remove partitions; set partitions to {found}, or use a new topic"
    )]
    FewerPartitions {
        /// Name of the topic.
        topic: String,
        /// So many there are.
        found: u32,
        /// So many are wanted.
        wanted: u32,
    },
    /// Copies are moved by the administrators of Kafka.
    #[error(
        "topic {topic} has replication factor {found}, the spec {wanted}: it is fixed at creation; set replicationFactor to {found}, or reassign the partitions with Kafka's own tools"
    )]
    ReplicationFactor {
        /// Name of the topic.
        topic: String,
        /// So many copies there are.
        found: u16,
        /// So many are wanted.
        wanted: u16,
    },
    /// The topic was deleted and made anew: offsets mean other records now.
    #[error(
        "topic {topic} is another one: its id was {expected} and is {found}; it was deleted and made anew, and nothing is read from it. Use a new topic name, or point the targets at a new schema"
    )]
    TopicReplaced {
        /// Name of the topic.
        topic: String,
        /// The id so far.
        expected: String,
        /// The id now.
        found: String,
    },
    /// The topic is somebody else's to make, or was deleted behind our back.
    #[error("topic {topic} does not exist: {remedy}")]
    TopicMissing {
        /// Name of the topic.
        topic: String,
        /// Whose turn it is.
        remedy: &'static str,
    },
}

impl Refusal {
    /// The reason of the condition.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::TopicExists { .. } => Reason::TopicExists,
            Self::FewerPartitions { .. } => Reason::FewerPartitions,
            Self::ReplicationFactor { .. } => Reason::ReplicationFactor,
            Self::TopicReplaced { .. } => Reason::TopicReplaced,
            Self::TopicMissing { .. } => Reason::TopicMissing,
        }
    }

    /// Whether processors can work with the topic as it is.
    pub const fn leaves_topic_usable(&self) -> bool {
        matches!(
            self,
            Self::FewerPartitions { .. } | Self::ReplicationFactor { .. }
        )
    }
}

/// What to do about a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Requests, in order.
    pub steps: Vec<Step>,
    /// What is refused; everything else is done all the same.
    pub refusals: Vec<Refusal>,
    /// Nothing can be decided before the first migration has told what the schema knows.
    pub waits_for_history: bool,
}

impl Plan {
    fn refused(refusal: Refusal) -> Self {
        Self {
            refusals: vec![refusal],
            ..Self::default()
        }
    }
}

/// Compares a topic with its spec. `facts` is `None` when the topic does not exist.
pub fn plan(spec: &TopicSpec, facts: Option<&TopicFacts>, history: History<'_>) -> Plan {
    let topic = || spec.name.clone();
    if let (Some(facts), History::Known(known)) = (facts, history)
        && let (Some(expected), Some(found)) = (&known.id, &facts.id)
        && expected != found
    {
        return Plan::refused(Refusal::TopicReplaced {
            topic: topic(),
            expected: expected.clone(),
            found: found.clone(),
        });
    }
    match (spec.management, facts, history) {
        (TopicManagement::External, None, _) => Plan::refused(Refusal::TopicMissing {
            topic: topic(),
            remedy: "it is External; have its owner create it, or set `management: Managed`",
        }),
        (TopicManagement::External, Some(_), _) => Plan::default(),
        (TopicManagement::Managed, None, History::Known(KnownTopic { id: Some(_), .. })) => {
            Plan::refused(Refusal::TopicMissing {
                topic: topic(),
                remedy: "this pipeline has read it before, and a new one would be another log; restore it, or use a new topic name and schema",
            })
        }
        (TopicManagement::Managed, None, _) => Plan {
            steps: vec![Step::Create {
                partitions: spec.initial_partitions(),
                replication_factor: spec.replication_factor,
                config: wanted_config(spec, true),
            }],
            ..Plan::default()
        },
        (TopicManagement::Managed, Some(_), History::NotTold) if !spec.adopt => Plan {
            waits_for_history: true,
            ..Plan::default()
        },
        (TopicManagement::Managed, Some(_), History::Unknown) if !spec.adopt => {
            Plan::refused(Refusal::TopicExists { topic: topic() })
        }
        (TopicManagement::Managed, Some(facts), history) => align(spec, facts, history),
    }
}

/// Brings a topic that is ours in line.
fn align(spec: &TopicSpec, facts: &TopicFacts, history: History<'_>) -> Plan {
    let mut plan = Plan::default();
    let topic = || spec.name.clone();
    match spec.partitions {
        Some(wanted) if wanted > facts.partitions => plan.steps.push(Step::AddPartitions {
            from: facts.partitions,
            to: wanted,
        }),
        Some(wanted) if wanted < facts.partitions => {
            plan.refusals.push(Refusal::FewerPartitions {
                topic: topic(),
                found: facts.partitions,
                wanted,
            });
        }
        _ => {}
    }
    if let Some(wanted) = spec.replication_factor
        && wanted != facts.replication_factor
    {
        plan.refusals.push(Refusal::ReplicationFactor {
            topic: topic(),
            found: facts.replication_factor,
            wanted,
        });
    }
    let wanted = wanted_config(spec, broker_stamps(history));
    let mut changes: Vec<_> = wanted
        .iter()
        .filter(|(key, value)| facts.config.get(*key) != Some(value))
        .map(|(key, value)| ConfigChange {
            key: key.clone(),
            value: Some(value.clone()),
        })
        .collect();
    // what the spec held once and names no more goes back to the broker's default; what others set
    // is theirs
    if let History::Known(known) = history {
        changes.extend(
            known
                .held
                .iter()
                .filter(|key| !wanted.contains_key(*key))
                .map(|key| ConfigChange {
                    key: key.clone(),
                    value: None,
                }),
        );
    }
    if !changes.is_empty() {
        plan.steps.push(Step::ChangeConfig(changes));
    }
    plan
}

/// Whether a topic that is there has to have its timestamps from the broker, named or not: one that
/// the pipeline made, and one that was switched to them once, since going back would mean other
/// times in the same log.
pub fn broker_stamps(history: History<'_>) -> bool {
    match history {
        History::Known(known) => {
            known.created || known.held.iter().any(|key| key == TIMESTAMP_TYPE)
        }
        History::Unknown | History::NotTold => false,
    }
}

/// The settings that a managed topic is held to. `stamped`: whether it has its timestamps from the
/// broker, named or not.
pub fn wanted_config(spec: &TopicSpec, stamped: bool) -> BTreeMap<String, String> {
    let mut config = spec.config.clone();
    if stamped {
        config.insert(TIMESTAMP_TYPE.to_owned(), LOG_APPEND_TIME.to_owned());
    }
    if let Some(retention) = spec.retention {
        config.insert(
            RETENTION_MS.to_owned(),
            (retention.micros() / 1000).to_string(),
        );
    }
    config
}

#[cfg(test)]
mod tests;
