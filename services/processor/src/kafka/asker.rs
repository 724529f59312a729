//! What the reader asks the brokers, without ever waiting for an answer: the bounds of logs, and
//! what there is of the topics.
//!
//! Partitions with the same leader are asked about together, so that a broker that is away holds up
//! nobody else's answer; one that did not answer the last time is asked about alone.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use clickstream_kafka::{Answer, LogEnd, Questions, TopicLeaders};
use clickstream_pipeline::offset::{NextOffset, TopicPartition};
use rdkafka::{
    client::Client,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
};
use tracing::debug;

/// How long a broker may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The same for the topics, which are asked for now and then.
const TOPICS_ANSWER: Duration = Duration::from_secs(10);
/// How often the topics are asked for at most.
const TOPICS_AGAIN: Duration = Duration::from_secs(2);
/// The number of the question for the topics; those for bounds begin behind it.
const TOPICS: u64 = 1;

/// What an answer is wanted for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A claim, by the number of its question.
    Claim(u64),
    /// `/status` and the metrics.
    Look,
    /// The verdict on a partition that has not moved from here.
    Verdict(NextOffset),
}

/// An answer.
pub enum Heard {
    /// First offset and end of a log; `None`: its broker did not tell them.
    Bounds(TopicPartition, Purpose, Option<(i64, i64)>),
    /// A topic.
    Topic(TopicLeaders),
}

/// Questions under way.
pub struct Asker {
    questions: Questions,
    last: u64,
    groups: HashMap<u64, Group>,
    leaders: BTreeMap<TopicPartition, i32>,
    /// Asked, and not answered yet.
    topics_asked: bool,
    last_topics: Option<Instant>,
}

type Ends = BTreeMap<(String, i32), i64>;

struct Group {
    asked: Vec<(TopicPartition, String, Purpose)>,
    start: Option<Ends>,
    end: Option<Ends>,
}

/// A question for the bounds of a log.
pub struct Question<'a> {
    /// Which partition.
    pub partition: TopicPartition,
    /// Its topic's name.
    pub topic: &'a str,
    /// What it is asked for.
    pub purpose: Purpose,
    /// Not together with others.
    pub alone: bool,
}

impl Asker {
    /// For this consumer, which must outlive it.
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        Self {
            questions: Questions::of(consumer.client()),
            last: TOPICS + 1,
            groups: HashMap::new(),
            leaders: BTreeMap::new(),
            topics_asked: false,
            last_topics: None,
        }
    }

    /// Asks what there is of the topics, unless that has just been done.
    pub fn topics<C: ConsumerContext>(&mut self, client: &Client<C>, topics: &[&str]) {
        let lately = self
            .last_topics
            .is_some_and(|last| last.elapsed() < TOPICS_AGAIN);
        if self.topics_asked || lately {
            return;
        }
        self.topics_asked = true;
        self.last_topics = Some(Instant::now());
        self.questions.topics(client, topics, TOPICS, TOPICS_ANSWER);
    }

    /// Asks for the bounds of logs.
    pub fn bounds<'a, C: ConsumerContext>(
        &mut self,
        client: &Client<C>,
        questions: impl IntoIterator<Item = Question<'a>>,
    ) {
        let mut groups: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for question in questions {
            let asked = (
                question.partition,
                question.topic.to_owned(),
                question.purpose,
            );
            match self.leaders.get(&question.partition) {
                Some(leader) if !question.alone => groups.entry(*leader).or_default().push(asked),
                _ => self.ask(client, vec![asked]),
            }
        }
        for asked in groups.into_values() {
            self.ask(client, asked);
        }
    }

    /// Whether an answer is still waited for that is wanted for this.
    pub fn is_asking(&self, wanted: impl Fn(TopicPartition, Purpose) -> bool) -> bool {
        let mut asked = self.groups.values().flat_map(|group| &group.asked);
        asked.any(|(tp, _, purpose)| wanted(*tp, *purpose))
    }

    fn ask<C: ConsumerContext>(
        &mut self,
        client: &Client<C>,
        asked: Vec<(TopicPartition, String, Purpose)>,
    ) {
        // two numbers for each group: even ones ask for the start, odd ones for the end
        self.last += 2;
        let places: Vec<_> = asked
            .iter()
            .map(|(tp, topic, _)| (topic.as_str(), tp.partition))
            .collect();
        for (which, number) in [(LogEnd::Start, self.last), (LogEnd::End, self.last + 1)] {
            self.questions
                .offsets(client, &places, which, number, ANSWER);
        }
        let group = Group {
            asked,
            start: None,
            end: None,
        };
        self.groups.insert(self.last, group);
    }

    /// The answers that are there; waits for up to `wait` for the first one.
    pub fn hear(&mut self, mut wait: Duration) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some((number, answer)) = self.questions.poll(wait) {
            wait = Duration::ZERO;
            match answer {
                Answer::Topics(topics) => {
                    self.topics_asked = false;
                    match topics {
                        Ok(topics) => heard.extend(topics.into_iter().map(Heard::Topic)),
                        Err(why) => debug!(why, "the brokers do not describe the topics"),
                    }
                }
                Answer::Offsets(offsets) => self.half(number, offsets, &mut heard),
            }
        }
        heard
    }

    fn half(
        &mut self,
        number: u64,
        offsets: Result<Vec<(String, i32, Option<i64>)>, String>,
        heard: &mut Vec<Heard>,
    ) {
        let group_number = number & !1;
        let Some(group) = self.groups.get_mut(&group_number) else {
            return;
        };
        let ends = match offsets {
            Ok(offsets) => offsets
                .into_iter()
                .filter_map(|(topic, partition, offset)| Some(((topic, partition), offset?)))
                .collect(),
            Err(why) => {
                debug!(why, "the bounds of logs are not told");
                Ends::new()
            }
        };
        if number == group_number {
            group.start = Some(ends);
        } else {
            group.end = Some(ends);
        }
        if group.start.is_none() || group.end.is_none() {
            return;
        }
        let Some(Group {
            asked,
            start: Some(start),
            end: Some(end),
        }) = self.groups.remove(&group_number)
        else {
            return;
        };
        for (tp, topic, purpose) in asked {
            let place = (topic, tp.partition);
            let bounds = start.get(&place).copied().zip(end.get(&place).copied());
            if bounds.is_none() {
                self.leaders.remove(&tp);
            }
            heard.push(Heard::Bounds(tp, purpose, bounds));
        }
    }

    /// Remembers who leads a topic's partitions.
    pub fn led(&mut self, found: impl IntoIterator<Item = (TopicPartition, Option<i32>)>) {
        for (tp, leader) in found {
            match leader {
                Some(leader) => drop(self.leaders.insert(tp, leader)),
                None => drop(self.leaders.remove(&tp)),
            }
        }
    }
}
