//! The rebalance callback. It runs on the reading thread, inside `poll`.
//!
//! Assigned: the offsets that the claims returned go into the partition list before `incremental_assign`, so no seek is
//! needed and the group's offsets play no part. Where PostgreSQL does not answer within [`CLAIM_WAIT`], the partition is
//! assigned paused, and claimed, sought and resumed later. Revoked: what is buffered is committed first (bounded by half
//! the session time-out), then the claim is given back, then the partition.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use clickstream_pipeline::offset::{TopicId, TopicPartition};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    bindings::rd_kafka_resp_err_t as RespErr,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, debug_span, error, info, warn};

use super::{config::session_timeout, identity::Identity, statistics::Statistics};
use crate::{
    metrics::SourceMetrics,
    shared::{ClaimSlot, Shared},
    sink::{ClaimRequest, Topics},
};

/// How long the callback waits for claims. Well below the session time-out: other members wait for this one.
const CLAIM_WAIT: Duration = Duration::from_secs(3);
/// How long a broker may take to tell the bounds of a log.
pub(super) const BOUNDS_TIMEOUT: Duration = Duration::from_secs(5);

/// What the callback works with.
pub struct SourceContext {
    pub(super) shared: Arc<Shared>,
    pub(super) topics: Topics,
    pub(super) metrics: SourceMetrics,
    pub(super) identity: Identity,
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

    /// Asks for claims of these partitions; those whose log does not tell its bounds are tried again soon.
    pub(super) fn request_claims<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[TopicPartition],
        waited_for: bool,
    ) -> Vec<TopicPartition> {
        let mut requested = Vec::new();
        for &tp in partitions {
            match consumer.fetch_watermarks(self.topic(tp.topic), tp.partition, BOUNDS_TIMEOUT) {
                Ok((log_start, log_end)) => {
                    let request = ClaimRequest {
                        partition: tp,
                        log_start,
                        log_end,
                    };
                    self.shared.with(|state| {
                        state.view.entry(tp).or_default().log_end = Some(log_end);
                        state.claims.insert(
                            tp,
                            ClaimSlot {
                                request,
                                running: false,
                                waited_for,
                            },
                        )
                    });
                    requested.push(tp);
                }
                Err(error) => {
                    warn!(topic = self.topic(tp.topic), partition = tp.partition, error = %error, "cannot ask for the bounds of the log");
                    let soon = std::time::Instant::now() + Duration::from_secs(1);
                    self.shared.with(|state| state.reclaims.push((tp, soon)));
                }
            }
        }
        self.shared.wake_writer();
        requested
    }

    /// Asks for the ids of these partitions' topics, and halts the partitions of one that is another topic now. Returns the
    /// others.
    pub(super) fn same_topics<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &[TopicPartition],
    ) -> Vec<TopicPartition> {
        let topics: BTreeSet<_> = partitions.iter().map(|tp| self.topic(tp.topic)).collect();
        for topic in topics
            .into_iter()
            .filter(|topic| self.identity.is_guarded(topic))
        {
            if let Some(id) = clickstream_kafka::topic_id(consumer.client(), topic, BOUNDS_TIMEOUT)
            {
                self.identity.found(topic, &id);
            }
        }
        self.halt_replaced();
        partitions
            .iter()
            .copied()
            .filter(|tp| self.identity.obstacle(self.topic(tp.topic)).is_none())
            .collect()
    }

    /// Halts the assigned partitions of topics that are other ones now, and returns those that were not halted before.
    pub(super) fn halt_replaced(&self) -> Vec<TopicPartition> {
        if !self.identity.is_doubted() {
            return Vec::new();
        }
        let assigned: Vec<_> = self.shared.with(|state| {
            state
                .assigned
                .iter()
                .copied()
                .filter(|tp| !state.halted.contains_key(tp))
                .collect()
        });
        let mut halted = Vec::new();
        for tp in assigned {
            let topic = self.topic(tp.topic);
            if let Some(obstacle) = self.identity.obstacle(topic) {
                error!(topic, partition = tp.partition, error = %obstacle, "partition halted");
                self.shared.with(|state| state.halt(tp, obstacle));
                halted.push(tp);
            }
        }
        halted
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) {
        let partitions = self.named(list);
        let given = std::time::Instant::now();
        self.shared.with(|state| {
            state.assigned.extend(&partitions);
            state.given.extend(partitions.iter().map(|&tp| (tp, given)));
        });
        self.note_counts(consumer);
        let same = self.same_topics(consumer, &partitions);
        let requested = self.request_claims(consumer, &same, true);
        self.shared.wait_until(CLAIM_WAIT, |state| {
            requested.iter().all(|tp| !state.claims.contains_key(tp))
        });

        let mut waiting = Vec::new();
        for &tp in &partitions {
            let next = self.shared.with(|state| {
                if let Some(slot) = state.claims.get_mut(&tp) {
                    slot.waited_for = false;
                }
                let claimed = state.claimed.remove(&tp)?;
                state.start(tp, claimed)
            });
            if next.is_some() {
                self.note_gap(tp);
            }
            let offset = match next {
                Some(next) => Offset::Offset(next.get()),
                None => {
                    waiting.push(tp);
                    // not read from: paused before the first fetch, sought before it is resumed
                    Offset::Beginning
                }
            };
            if let Err(error) =
                list.set_partition_offset(self.topic(tp.topic), tp.partition, offset)
            {
                error!(partition = tp.partition, error = %error, "cannot set a position");
            }
        }
        if let Err(error) = consumer.incremental_assign(list) {
            error!(error = %error, "the assignment was refused");
            self.shared
                .with(|state| partitions.iter().for_each(|&tp| state.forget(tp)));
            return;
        }
        if !waiting.is_empty() {
            if let Err(error) = consumer.pause(&self.list(waiting.iter().copied())) {
                error!(error = %error, "cannot pause partitions that are not claimed yet");
            }
            self.shared.with(|state| {
                for tp in &waiting {
                    state.view.entry(*tp).or_default().paused = true;
                }
            });
        }
        info!(
            partitions = partitions.len(),
            waiting = waiting.len(),
            "partitions assigned"
        );
        self.shared.with(|state| state.joined = true);
    }

    /// A partition is read on: how long that took since the group gave it.
    pub(super) fn note_gap(&self, tp: TopicPartition) {
        // a later claim of the same assignment is no rebalance
        if let Some(given) = self.shared.with(|state| state.given.remove(&tp)) {
            self.metrics
                .rebalance_gap
                .observe(given.elapsed().as_secs_f64());
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
        self.shared.with(|state| {
            let claims: Vec<_> = state
                .engine
                .assigned()
                .filter(|(tp, _)| partitions.contains(tp))
                .collect();
            if !lost && state.sink_healthy {
                state.releases.extend(claims);
            }
            partitions.iter().for_each(|&tp| state.forget(tp));
            state.draining = false;
        });
        self.shared.wake_writer();
        if !lost {
            self.shared.wait_until(Duration::from_secs(1), |state| {
                !state.sink_healthy || (state.releases.is_empty() && state.releasing == 0)
            });
        }
        if let Err(error) = consumer.incremental_unassign(list) {
            error!(error = %error, "the revocation was refused");
        }
        info!(partitions = partitions.len(), lost, "partitions revoked");
    }

    fn note_counts(&self, consumer: &BaseConsumer<Self>) {
        for topic in self.topics.values() {
            if let Ok(metadata) = consumer.fetch_metadata(Some(topic), BOUNDS_TIMEOUT) {
                for found in metadata
                    .topics()
                    .iter()
                    .filter(|found| found.name() == topic)
                {
                    let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                    self.shared
                        .with(|state| state.partition_counts.insert(topic.clone(), count));
                }
            }
        }
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
                self.shared.with(|state| {
                    for (tp, view) in &mut state.view {
                        let leader = statistics.leader(self.topic(tp.topic), tp.partition);
                        view.leaderless = !leader.is_some_and(|leader| reachable.contains(&leader));
                        if view.leaderless {
                            // what was fetched last says nothing about what has come since
                            view.log_end = None;
                        }
                    }
                });
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
