//! Topics as the spec has them: looked at, planned, and changed step by step.

use std::{collections::HashMap, time::Duration};

use clickstream_pipeline::spec::{TopicManagement, TopicSpec};
use clickstream_protocol::conditions::Reason;
use kube::ResourceExt;
use tracing::info;

use super::{kafka::Kafka, migration::Migrations};
use crate::{
    controller::{
        context::{Context, Error},
        memory::Found,
        record,
        validate::ValidatedPipeline,
    },
    crd::{ClickstreamPipeline, ClickstreamPipelineStatus, TopicStatus},
    events::Happening,
    topics::{
        AdminError,
        plan::{
            History, KnownTopic, Plan, Refusal, Step, TIMESTAMP_TYPE, broker_stamps, plan,
            wanted_config,
        },
    },
};

/// How often, and after which pause, a topic that was just made is looked for.
const SHOWN: u32 = 10;
const SHOWN_PAUSE: Duration = Duration::from_millis(100);

/// What became of the topics.
pub struct TopicsSeen {
    /// In the order of the spec.
    pub topics: Vec<TopicSeen>,
    /// Kafka could not be asked, or refused a request.
    pub failure: Option<Failure>,
    /// Topics that are not as the spec has them and stay so, since the operator is paused.
    pub held: Vec<String>,
}

/// Why topics could not be looked at, or changed.
pub enum Failure {
    /// No broker answers.
    Unreachable(String),
    /// The brokers refuse.
    Refused(String),
    /// What the spec refers to is missing or wrong.
    Credentials(String),
}

/// One topic.
pub struct TopicSeen {
    /// Its name.
    pub name: String,
    /// What the status says about it from now on.
    pub status: TopicStatus,
    /// What is refused.
    pub refusals: Vec<Refusal>,
    /// Whether processors may read it.
    pub usable: bool,
    /// Whether a migration has to tell first whose it is.
    pub waits: bool,
}

impl TopicsSeen {
    /// Whether processors may run.
    pub fn usable(&self) -> bool {
        self.topics.iter().all(|topic| topic.usable)
    }

    /// Topics that this pipeline made.
    pub fn created(&self) -> Vec<String> {
        self.topics
            .iter()
            .filter(|topic| topic.status.created == Some(true))
            .map(|topic| topic.name.clone())
            .collect()
    }

    /// Looks at every topic, and does what is to be done.
    ///
    /// # Errors
    /// What the API server says; Kafka's failures are part of the result.
    pub async fn ensure(
        pipeline: &ClickstreamPipeline,
        valid: &ValidatedPipeline,
        migrations: &Migrations,
        context: &Context,
    ) -> Result<Self, Error> {
        let uid = pipeline.uid().unwrap_or_default();
        let generation = pipeline.metadata.generation.unwrap_or_default();
        let mut known = known_topics(pipeline, valid, migrations);
        let mut seen = Self {
            topics: Vec::new(),
            failure: None,
            held: Vec::new(),
        };
        let mut kafka = Kafka::new(pipeline, valid, context);
        let fresh = context.admins.fresh(is_in_trouble(pipeline));
        let fresh = context.memories.topics(&uid, generation, &kafka.of, fresh);
        if let Some(found) = fresh
            && let Some(topics) = at_rest(valid, &found, &known, migrations)
        {
            seen.topics = topics;
            return Ok(seen);
        }
        let mut found: HashMap<String, Found> = HashMap::new();
        for topic in &valid.document.spec.topics {
            let before = known.get(&topic.name).cloned();
            let history = history(before.as_ref(), migrations);
            let admin = match kafka.connection().await? {
                Ok(admin) => admin,
                Err(why) => {
                    seen.failure = Some(Failure::Credentials(why));
                    break;
                }
            };
            let mut facts = match admin.describe(&topic.name).await {
                Ok(mut facts) => {
                    stand_in(&mut facts, &uid, &topic.name, context);
                    facts
                }
                Err(error) => {
                    seen.fail(&error);
                    break;
                }
            };
            let mut planned = plan(topic, facts.as_ref(), history);
            if valid.asked.paused && !std::mem::take(&mut planned.steps).is_empty() {
                seen.held.push(topic.name.clone());
            }
            let mut other_made = false;
            let mut was_there = false;
            for step in &planned.steps {
                let creates = matches!(step, Step::Create { .. });
                if creates && before.is_none() {
                    match admin.rehearse(&topic.name, step).await {
                        Ok(false) => {}
                        Ok(true) => {
                            other_made = true;
                            break;
                        }
                        Err(error) => {
                            seen.fail(&error);
                            break;
                        }
                    }
                }
                if creates {
                    // noted first: whoever finds the topic after a crash must know whose it is
                    record::note_created(pipeline, &topic.name, context).await?;
                    known.insert(topic.name.clone(), KnownTopic::made());
                }
                match admin.perform(&topic.name, step).await {
                    Ok(false) => {
                        context.memories.keep_sent(&uid, &topic.name, step);
                        announce(pipeline, &topic.name, step, context).await;
                    }
                    Ok(true) => was_there = creates && before.is_none(),
                    Err(error) => {
                        // one that is not made may be somebody else's one day; one that is made
                        // late is ours
                        if creates && error.is_definite() {
                            known.remove(&topic.name);
                        }
                        seen.fail(&error);
                        break;
                    }
                }
            }
            // brokers may show a new topic a little later
            for _ in 0..SHOWN {
                if planned.steps.is_empty() || seen.failure.is_some() {
                    break;
                }
                match admin.describe(&topic.name).await {
                    Ok(mut found) => {
                        stand_in(&mut found, &uid, &topic.name, context);
                        facts = found;
                    }
                    Err(error) => seen.fail(&error),
                }
                if facts.is_some() {
                    break;
                }
                tokio::time::sleep(SHOWN_PAUSE).await;
            }
            if seen.failure.is_some() {
                break;
            }
            // a broker may have asked twice for us; whoever else was quicker has made another topic
            other_made |= was_there
                && facts
                    .as_ref()
                    .is_some_and(|other| !planned.steps.iter().all(|step| step.made(other)));
            if other_made {
                known.remove(&topic.name);
                planned = plan(topic, facts.as_ref(), history);
                // the next look is about that one
                planned.steps.clear();
            }
            found.insert(topic.name.clone(), facts.clone());
            seen.topics.push(seen_now(topic, &facts, &planned, history));
        }
        let settled = seen.failure.is_none()
            && seen.held.is_empty()
            && seen
                .topics
                .iter()
                .all(|topic| topic.refusals.is_empty() && !topic.waits);
        if settled {
            context
                .memories
                .keep_topics(&uid, generation, kafka.of, found);
        } else {
            context.memories.forget_topics(&uid);
        }
        if seen.failure.is_some() {
            seen.remembered(&record::latest(pipeline, context), valid, &known);
        }
        Ok(seen)
    }

    fn fail(&mut self, error: &AdminError) {
        let text = error.to_string();
        self.failure = Some(match error {
            AdminError::Unreachable(_) => Failure::Unreachable(text),
            AdminError::Refused { .. } => Failure::Refused(text),
            AdminError::Settings(_) => Failure::Credentials(text),
        });
    }

    /// What was known before stands in for the topics that could not be looked at: a topic does not
    /// shrink while Kafka is away.
    fn remembered(
        &mut self,
        status: &ClickstreamPipelineStatus,
        valid: &ValidatedPipeline,
        known: &HashMap<String, KnownTopic>,
    ) {
        for topic in valid.document.spec.topics.iter().skip(self.topics.len()) {
            let before = known.get(&topic.name);
            let mut seen = status.topics.iter();
            let seen = seen.find(|seen| seen.name == topic.name);
            self.topics.push(TopicSeen {
                name: topic.name.clone(),
                status: TopicStatus {
                    name: topic.name.clone(),
                    id: before.and_then(|known| known.id.clone()),
                    created: before
                        .map(|known| known.created)
                        .filter(|created| *created || topic.management == TopicManagement::Managed),
                    held_config: before.map(|known| known.held.clone()).unwrap_or_default(),
                    management: Some(topic.management),
                    partitions: seen.and_then(|seen| seen.partitions),
                    replication_factor: seen.and_then(|seen| seen.replication_factor),
                    timestamp_type: seen.and_then(|seen| seen.timestamp_type.clone()),
                },
                refusals: Vec::new(),
                usable: before.is_some_and(|known| known.id.is_some()),
                waits: false,
            });
        }
    }
}

/// The topics as they were found a moment ago, if nothing is to be done about any of them.
/// Otherwise all of them are looked at again: what was found is of one time.
fn at_rest(
    valid: &ValidatedPipeline,
    found: &HashMap<String, Found>,
    known: &HashMap<String, KnownTopic>,
    migrations: &Migrations,
) -> Option<Vec<TopicSeen>> {
    let topics = valid.document.spec.topics.iter().map(|topic| {
        let facts = found.get(&topic.name)?;
        let history = history(known.get(&topic.name), migrations);
        let planned = plan(topic, facts.as_ref(), history);
        let is_at_rest =
            planned.steps.is_empty() && planned.refusals.is_empty() && !planned.waits_for_history;
        is_at_rest.then(|| seen_now(topic, facts, &planned, history))
    });
    topics.collect()
}

fn history<'k>(known: Option<&'k KnownTopic>, migrations: &Migrations) -> History<'k> {
    match known {
        Some(known) => History::Known(known),
        None if migrations.told() => History::Unknown,
        None => History::NotTold,
    }
}

/// Whether processors cannot work: the reason may be a topic that is gone.
fn is_in_trouble(pipeline: &ClickstreamPipeline) -> bool {
    let mut conditions = pipeline.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| {
        [
            Reason::PartitionsUnowned,
            Reason::PartitionsHalted,
            Reason::PodsFailing,
        ]
        .iter()
        .any(|trouble| condition.reason == *trouble)
    })
}

/// Where the settings of a topic may not be read, those that were sent last stand for them: they
/// would be sent at every look.
fn stand_in(found: &mut Found, uid: &str, topic: &str, context: &Context) {
    if let Some(facts) = found
        && !facts.readable
    {
        facts.config = context.memories.sent(uid, topic);
    }
}

/// What the status, or else the schemas, know of topics that are ours or that we read.
fn known_topics(
    pipeline: &ClickstreamPipeline,
    valid: &ValidatedPipeline,
    migrations: &Migrations,
) -> HashMap<String, KnownTopic> {
    let mut known = HashMap::new();
    for index in 0..valid.document.spec.targets.len() {
        for topic in migrations
            .report(index)
            .into_iter()
            .flat_map(|report| &report.topics)
        {
            known.insert(
                topic.name.clone(),
                KnownTopic {
                    id: topic.id.clone(),
                    created: topic.created,
                    held: Vec::new(),
                },
            );
        }
    }
    for topic in pipeline.status.iter().flat_map(|status| &status.topics) {
        let is_external = topic.management == Some(TopicManagement::External);
        let mut wanted = valid.document.spec.topics.iter();
        // read as it was so far, and managed from now on: not ours before somebody says so
        let changes_hands = is_external
            && wanted.any(|wanted| {
                wanted.name == topic.name && wanted.management == TopicManagement::Managed
            });
        if topic.created.is_some() || (is_external && topic.id.is_some() && !changes_hands) {
            known.insert(
                topic.name.clone(),
                KnownTopic {
                    id: topic.id.clone(),
                    created: topic.created == Some(true),
                    held: topic.held_config.clone(),
                },
            );
        }
    }
    known
}

fn seen_now(topic: &TopicSpec, facts: &Found, planned: &Plan, history: History<'_>) -> TopicSeen {
    let (refusals, waits) = (&planned.refusals, planned.waits_for_history);
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let usable = facts.is_some() && !waits && refusals.iter().all(Refusal::leaves_topic_usable);
    let is_managed = topic.management == TopicManagement::Managed;
    let before = match history {
        History::Known(known) => Some(known),
        _ => None,
    };
    let made_now = planned
        .steps
        .iter()
        .any(|step| matches!(step, Step::Create { .. }));
    let created = made_now || before.is_some_and(|known| known.created);
    // one that was made a moment ago is ours also while the brokers do not show it yet
    let ours = is_managed && (made_now || usable || before.is_some());
    TopicSeen {
        name: topic.name.clone(),
        status: TopicStatus {
            name: topic.name.clone(),
            // the id that it had stays known when another topic has taken its place
            id: before
                .and_then(|known| known.id.clone())
                .or_else(|| facts.as_ref().and_then(|facts| facts.id.clone())),
            partitions: facts.as_ref().map(|facts| number(facts.partitions)),
            replication_factor: facts
                .as_ref()
                .map(|facts| i32::from(facts.replication_factor)),
            management: Some(topic.management),
            // a topic that is handed to somebody else, and taken back later, was made by the
            // pipeline all the same
            created: (ours || created).then_some(created),
            held_config: if ours {
                wanted_config(topic, made_now || broker_stamps(history))
                    .into_keys()
                    .collect()
            } else {
                Vec::new()
            },
            timestamp_type: facts
                .as_ref()
                .filter(|facts| facts.readable)
                .and_then(|facts| facts.config.get(TIMESTAMP_TYPE).cloned()),
        },
        refusals: refusals.clone(),
        usable,
        waits,
    }
}

async fn announce(pipeline: &ClickstreamPipeline, topic: &str, step: &Step, context: &Context) {
    let (reason, note) = match step {
        Step::Create { partitions, .. } => (
            "TopicCreated",
            format!("topic {topic} created with {partitions} partitions"),
        ),
        Step::AddPartitions { from, to } => (
            "PartitionsAdded",
            format!("topic {topic} has {to} partitions now, {from} before"),
        ),
        Step::ChangeConfig(changes) => {
            let changes: Vec<_> = changes
                .iter()
                .map(|change| match &change.value {
                    Some(value) => format!("{}={value}", change.key),
                    None => format!("{} back to its default", change.key),
                })
                .collect();
            (
                "TopicConfigured",
                format!("topic {topic}: {}", changes.join(", ")),
            )
        }
    };
    info!(
        namespace = pipeline.namespace().unwrap_or_default(),
        pipeline = pipeline.name_any(),
        topic,
        note,
        "topic changed"
    );
    let happening = Happening {
        warning: false,
        reason: reason.into(),
        action: "ManageTopic",
        note,
    };
    context.events.publish(pipeline, happening).await;
}
