//! The rebalance callback. It runs on the reading thread, inside `poll`, and asks no broker
//! anything that it waits for.
//!
//! Assigned: the offsets that the claims returned go into the partition list before
//! `incremental_assign`, so no seek is needed and the group's offsets play no part. Where the log's
//! bounds are not told within [`BOUNDS_WAIT`], or PostgreSQL does not answer within [`CLAIM_WAIT`],
//! the partition is assigned paused, and claimed, sought and resumed later. Revoked: what is
//! buffered is committed first (bounded by half the session time-out), then the claim is given
//! back, then the partition.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use clickstream_kafka::TopicLeaders;
use clickstream_pipeline::{
    event::EventTime,
    offset::{NextOffset, TopicId, TopicPartition},
    ownership::{Action, Event},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    bindings::rd_kafka_resp_err_t as RespErr,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, debug_span, error, info, warn};

use super::{
    asker::{Asker, Heard, Purpose, Question},
    config::session_timeout,
    identity::Identity,
    statistics::Statistics,
};
use crate::{failpoints::goes_wrong, metrics::SourceMetrics, shared::Shared, sink::Topics};

/// How long the callback waits for claims. Well below the session time-out: other members wait for
/// this one.
const CLAIM_WAIT: Duration = Duration::from_secs(3);
/// How long it waits for the bounds of logs. A broker that is there answers in milliseconds.
const BOUNDS_WAIT: Duration = Duration::from_millis(500);
/// A step of that wait: claims may be answered meanwhile.
const BOUNDS_STEP: Duration = Duration::from_millis(10);

/// What the callback works with.
pub struct SourceContext {
    pub(super) shared: Arc<Shared>,
    pub(super) topics: Topics,
    pub(super) metrics: SourceMetrics,
    pub(super) identity: Identity,
    /// Gone while the consumer is being made, and once it is closed.
    pub(super) asker: Mutex<Option<Asker>>,
}

/// The answer to a question for the sake of a partition that does not move.
pub struct Verdict {
    pub(super) partition: TopicPartition,
    pub(super) position: NextOffset,
    /// `None`: its broker does not answer.
    pub(super) log_end: Option<i64>,
}

impl SourceContext {
    pub(super) fn topic(&self, id: TopicId) -> &str {
        self.topics.get(&id).map_or("", String::as_str)
    }

    pub(super) fn partition(&self, topic: &str, partition: i32) -> Option<TopicPartition> {
        let (&topic, _) = self.topics.iter().find(|(_, name)| *name == topic)?;
        Some(TopicPartition { topic, partition })
    }

    pub(super) fn list(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for tp in partitions {
            list.add_partition(self.topic(tp.topic), tp.partition);
        }
        list
    }

    fn named(&self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        list.elements()
            .iter()
            .filter_map(|e| self.partition(e.topic(), e.partition()))
            .collect()
    }

    /// Tells the core what has happened. What concerns engine and view is done; what is left is the
    /// caller's.
    pub(super) fn on(&self, event: Event) -> Vec<Action> {
        let actions = self.shared.with(|state| state.on(event));
        for action in &actions {
            match action {
                Action::Say(tp, obstacle) => {
                    let topic = self.topic(tp.topic);
                    error!(topic, partition = tp.partition, error = %obstacle, "partition halted");
                }
                // a later claim of the same assignment is no rebalance
                Action::Begin {
                    given: Some(given), ..
                } => {
                    let gap = self.shared.uptime().saturating_sub(*given);
                    self.metrics.rebalance_gap.observe(gap.as_secs_f64());
                }
                _ => {}
            }
        }
        actions
    }

    /// Puts the questions that are due to the brokers.
    pub(super) fn ask<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        let actions = self.on(Event::AskTurn);
        if actions.is_empty() {
            return;
        }
        let questions = actions.iter().filter_map(|action| match action {
            Action::Ask {
                partition,
                number,
                alone,
            } => Some(Question {
                partition: *partition,
                topic: self.topic(partition.topic),
                purpose: Purpose::Claim(*number),
                alone: *alone,
            }),
            _ => None,
        });
        if let Some(asker) = self.asker.lock().as_mut() {
            asker.topics(consumer.client(), &self.names());
            asker.bounds(consumer.client(), questions);
        }
    }

    /// Asks for bounds that no claim waits for.
    pub(super) fn ask_for<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        wanted: impl IntoIterator<Item = (TopicPartition, Purpose)>,
    ) {
        if let Some(asker) = self.asker.lock().as_mut() {
            let questions = wanted.into_iter().map(|(partition, purpose)| Question {
                partition,
                topic: self.topic(partition.topic),
                purpose,
                alone: purpose != Purpose::Look,
            });
            asker.bounds(consumer.client(), questions);
        }
    }

    /// Asks what there is of the topics.
    pub(super) fn ask_for_topics<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        if let Some(asker) = self.asker.lock().as_mut() {
            asker.topics(consumer.client(), &self.names());
        }
    }

    fn names(&self) -> Vec<&str> {
        self.topics.values().map(String::as_str).collect()
    }

    /// Takes the brokers' answers; waits for up to `wait` for the first one.
    pub(super) fn hear(&self, wait: Duration) -> Vec<Verdict> {
        let heard = match self.asker.lock().as_mut() {
            Some(asker) => asker.hear(wait),
            None => Vec::new(),
        };
        let mut verdicts = Vec::new();
        let mut claims = false;
        for heard in heard {
            match heard {
                Heard::Topic(topic) => self.found(&topic),
                Heard::Bounds(partition, Purpose::Look, bounds) => self.look(partition, bounds),
                Heard::Bounds(partition, Purpose::Verdict(position), bounds) => {
                    verdicts.push(Verdict {
                        partition,
                        position,
                        log_end: bounds.map(|(_, end)| end),
                    });
                }
                Heard::Bounds(partition, Purpose::Claim(number), bounds) => {
                    let topic = self.topic(partition.topic);
                    // asked for its id together with its bounds: the next answer finds it known
                    let bounds = bounds.filter(|_| !self.identity.is_awaited(topic));
                    let bounds = match goes_wrong("old_log_end") {
                        true => bounds.map(|(start, _)| (start, start)),
                        false => bounds,
                    };
                    self.look(partition, bounds);
                    if bounds.is_none() {
                        warn!(
                            topic,
                            partition = partition.partition,
                            "no broker tells the bounds of the log"
                        );
                    }
                    let event = match self.identity.obstacle(topic) {
                        Some(obstacle) => Event::Barred {
                            partition,
                            obstacle,
                        },
                        None => Event::Bounds {
                            partition,
                            number,
                            bounds,
                        },
                    };
                    self.on(event);
                    claims = true;
                }
            }
        }
        if claims {
            self.shared.wake_writer();
        }
        verdicts
    }

    fn look(&self, tp: TopicPartition, bounds: Option<(i64, i64)>) {
        let now = EventTime::from_micros(Utc::now().timestamp_micros());
        self.shared.with(|state| {
            // what is not this process's any more is not shown
            if !state.ownership.is_assigned(tp) {
                return;
            }
            let view = state.view.entry(tp).or_default();
            match bounds {
                Some((start, end)) => view.look(start, end, now),
                None => view.log_end = None,
            }
        });
    }

    fn found(&self, topic: &TopicLeaders) {
        if let Some(id) = &topic.id {
            self.identity.found(&topic.name, id);
        }
        let count = i32::try_from(topic.leaders.len()).unwrap_or(i32::MAX);
        self.shared
            .with(|state| state.partition_counts.insert(topic.name.clone(), count));
        let led = topic.leaders.iter().filter_map(|(partition, leader)| {
            Some((self.partition(&topic.name, *partition)?, *leader))
        });
        if let Some(asker) = self.asker.lock().as_mut() {
            asker.led(led);
        }
        self.halt_replaced();
    }

    /// Halts the assigned partitions of topics that are other ones now.
    pub(super) fn halt_replaced(&self) {
        if !self.identity.is_doubted() {
            return;
        }
        let reading: Vec<_> = self
            .shared
            .with(|state| state.engine.assigned().map(|(tp, _)| tp).collect());
        for partition in reading {
            if let Some(obstacle) = self.identity.obstacle(self.topic(partition.topic)) {
                self.on(Event::Barred {
                    partition,
                    obstacle,
                });
            }
        }
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let partitions = self.named(list);
        self.on(Event::Assigned(partitions.clone()));
        self.ask(consumer);
        self.wait_for_claims(&partitions);

        let (mut waiting, mut beginning) = (Vec::new(), Vec::new());
        for action in self.on(Event::CallbackEnds(partitions.clone())) {
            let (tp, offset) = match action {
                Action::Begin {
                    partition, grant, ..
                } => {
                    beginning.push(partition);
                    (partition, Offset::Offset(grant.recovered.next.get()))
                }
                Action::Pause(tp) => {
                    waiting.push(tp);
                    // not read from: paused before the first fetch, sought before it is resumed
                    (tp, Offset::Beginning)
                }
                _ => continue,
            };
            if let Err(error) =
                list.set_partition_offset(self.topic(tp.topic), tp.partition, offset)
            {
                error!(partition = tp.partition, error = %error, "cannot set a position");
            }
        }
        if let Err(error) = consumer.incremental_assign(list) {
            error!(error = %error, "the assignment was refused");
            self.on(Event::Revoked {
                partitions,
                release: false,
            });
            return;
        }
        if !waiting.is_empty()
            && let Err(error) = consumer.pause(&self.list(waiting.iter().copied()))
        {
            error!(error = %error, "cannot pause partitions that are not claimed yet");
        }
        // librdkafka keeps a pause over the loss of a partition: one that was paused when it left
        // would come back paused
        if !beginning.is_empty()
            && let Err(error) = consumer.resume(&self.list(beginning.iter().copied()))
        {
            error!(error = %error, "cannot resume partitions that were paused when they left");
        }
        info!(
            partitions = partitions.len(),
            waiting = waiting.len(),
            "partitions assigned"
        );
        self.shared.with(|state| state.joined = true);
    }

    /// Gives brokers and PostgreSQL a moment. What they have not answered by then is claimed later.
    fn wait_for_claims(&self, partitions: &[TopicPartition]) {
        let began = Instant::now();
        loop {
            let (asking, claiming) = self.shared.with(|state| {
                let ownership = &state.ownership;
                (
                    ownership.is_asking(partitions),
                    ownership.is_claiming(partitions),
                )
            });
            let waited = began.elapsed();
            if asking && waited < BOUNDS_WAIT {
                // verdicts on partitions that do not move can wait for the next one
                self.hear(BOUNDS_STEP);
            } else if claiming && waited < CLAIM_WAIT {
                self.shared.wait_until(CLAIM_WAIT - waited, |state| {
                    !state.ownership.is_claiming(partitions)
                });
            } else {
                return;
            }
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = self.named(list);
        let lost = consumer.assignment_lost();
        if !lost {
            self.shared.with(|state| state.draining = true);
            self.shared.wake_writer();
            let drained = self.shared.wait_until(session_timeout() / 2, |state| {
                !state.sink_healthy || partitions.iter().all(|&tp| state.is_drained(tp))
            });
            if !drained {
                warn!("the last flush did not end in time; the next owner reads its records again");
            }
        }
        let release = !lost && self.shared.with(|state| state.sink_healthy);
        self.on(Event::Revoked {
            partitions: partitions.clone(),
            release,
        });
        self.shared.with(|state| state.draining = false);
        self.shared.wake_writer();
        if !lost {
            self.shared.wait_until(Duration::from_secs(1), |state| {
                !state.sink_healthy || !state.ownership.is_releasing()
            });
        }
        if let Err(error) = consumer.incremental_unassign(list) {
            error!(error = %error, "the revocation was refused");
        }
        info!(partitions = partitions.len(), lost, "partitions revoked");
    }
}

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Debug => self.identity.hear(line),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => debug!(fac, line, "librdkafka"),
            _ => warn!(fac, line, "librdkafka"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => {
                let reachable = statistics.reachable();
                self.metrics.kafka_up.set(i64::from(!reachable.is_empty()));
                let (mut back, mut from_followers) = (BTreeSet::new(), 0);
                self.shared.with(|state| {
                    for (&tp, view) in &mut state.view {
                        let topic = self.topic(tp.topic);
                        view.from_follower = statistics.is_from_follower(topic, tp.partition);
                        from_followers += i64::from(view.from_follower);
                        let leader = statistics.leader(topic, tp.partition);
                        let was = view.leaderless;
                        view.leaderless = !leader.is_some_and(|leader| reachable.contains(&leader));
                        if view.leaderless {
                            // what was fetched last says nothing about what has come since
                            view.log_end = None;
                        } else if was {
                            back.insert(tp);
                        }
                    }
                });
                self.metrics.from_followers.set(from_followers);
                for tp in back {
                    self.on(Event::Reachable(tp));
                }
            }
            Err(error) => debug!(%error, "statistics of librdkafka cannot be read"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve,
            ) => {
                warn!(error = %error, reason, "kafka is not reachable");
            }
            // poll returns it as well, and there it is at home
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            _ => error!(error = %error, reason, "kafka"),
        }
    }
}

impl ConsumerContext for SourceContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RespErr,
        list: &mut TopicPartitionList,
    ) {
        let started = std::time::Instant::now();
        let _span = debug_span!("rebalance", partitions = list.count(), event = ?event).entered();
        match event {
            RespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            RespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoked(consumer, list),
            other => error!(event = ?other, "unexpected rebalance event"),
        }
        self.metrics.rebalances.inc();
        self.metrics
            .rebalance_seconds
            .observe(started.elapsed().as_secs_f64());
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // the group's offsets are a hint for lag tools: nothing depends on them
            warn!(error = %error, "cannot write the group's offsets");
        }
    }
}
