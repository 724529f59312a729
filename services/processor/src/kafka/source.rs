//! The reading thread: polls, feeds the engine, holds back when the buffer is full, and carries out what the writer asks
//! of the consumer (seek and resume after a claim, pause before one).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use clickstream_pipeline::{
    engine::{Intake, Record, received_at},
    event::EventTime,
    offset::TopicPartition,
};
use clickstream_telemetry::tracing as traces;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    config::{ConsumerSettings, heartbeat_interval},
    context::{BOUNDS_TIMEOUT, SourceContext},
    identity::Identity,
};
use crate::{
    failpoints::{crash_point, tuned},
    heartbeat, journeys,
    metrics::SourceMetrics,
    shared::Shared,
    sink::{Claimed, Topics},
};

/// Longest wait for a record: how soon commands of the writer are seen when nothing comes.
const POLL: Duration = Duration::from_millis(50);
/// How long a full buffer only makes the reader wait; after that it pauses the partitions and polls on, so that the group
/// goes on counting it in. A pause throws prefetched records away, waiting does not.
const FULL_WAIT: Duration = Duration::from_millis(500);
/// How often the log's ends are looked at and the group's offsets written.
const LOOK: Duration = Duration::from_secs(1);
/// The same for partitions that are paused, which have to be asked for.
const LOOK_PAUSED: Duration = Duration::from_secs(5);
/// How long a broker may take for that: the reader must go on polling.
const BOUNDS_SOON: Duration = Duration::from_secs(1);
/// How often a topic's id is asked for.
const IDENTITY: Duration = Duration::from_secs(30);
/// A partition with lag that has not moved for this long is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(20);

/// Longest wait for a step of it.
const LEAVE_POLL: Duration = Duration::from_millis(5);

/// A partition that two looks in a row have found at the same place stands; one record that came between
/// two looks does not make it.
const STANDING: Duration = Duration::from_millis(LOOK.as_millis() as u64 * 3 / 2);

fn stuck() -> Duration {
    tuned("CLICKSTREAM_TEST_STUCK_MS", STUCK)
}

/// Why the process has to end.
#[derive(Debug, Error)]
pub enum SourceFault {
    /// librdkafka says that this client cannot go on.
    #[error("kafka client failed for good: {0}")]
    Fatal(String),
    /// There is lag, the broker answers, PostgreSQL answers, and nothing moves.
    #[error("partition {partition} of {topic} has not moved from {position} for {} s, although its log ends at {log_end}", STUCK.as_secs())]
    Stuck {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where it stands.
        position: i64,
        /// Where it should be going.
        log_end: i64,
    },
    /// The consumer could not be made.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
}

/// The consumer and what it knows between two polls.
pub struct Source {
    consumer: BaseConsumer<SourceContext>,
    shared: Arc<Shared>,
    /// Partitions whose position may lie outside the log; they are looked at when what is buffered of them is committed.
    outside: BTreeSet<TopicPartition>,
    paused_for_room: bool,
    last_look: Instant,
    last_nudge: Instant,
    last_identity: Instant,
    last_paused: Option<Instant>,
    hinted: BTreeMap<TopicPartition, i64>,
    moved: BTreeMap<TopicPartition, (i64, Instant)>,
}

impl Source {
    /// Joins the group.
    ///
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn new(
        settings: &ConsumerSettings,
        topics: Topics,
        ids: &BTreeMap<String, Option<String>>,
        shared: Arc<Shared>,
        metrics: SourceMetrics,
    ) -> Result<Self, SourceFault> {
        let context = SourceContext {
            shared: Arc::clone(&shared),
            topics,
            metrics,
            identity: Identity::new(ids),
        };
        shared.with(|state| state.journeys.group.clone_from(&settings.group));
        let consumer: BaseConsumer<SourceContext> =
            settings.config().create_with_context(context)?;
        let names: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names)?;
        let now = Instant::now();
        Ok(Self {
            consumer,
            shared,
            outside: BTreeSet::new(),
            paused_for_room: false,
            last_look: now,
            last_nudge: now,
            last_identity: now,
            last_paused: None,
            hinted: BTreeMap::new(),
            moved: BTreeMap::new(),
        })
    }

    /// Reads until `stop`, then gives everything back and leaves the group.
    ///
    /// # Errors
    /// [`SourceFault`]: the process should end and be started again.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), SourceFault> {
        while !stop.is_cancelled() {
            self.step(POLL)?;
        }
        info!("leaving the group");
        self.leave();
        Ok(())
    }

    /// Gives everything back, and returns when the group is told. librdkafka forgets to tell it when it is closed while
    /// partitions are still being stopped, and they would wait for the end of this member's session.
    fn leave(&self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE;
        let is_member = || clickstream_kafka::member_id(self.consumer.client()).is_some();
        while Instant::now() < deadline
            && (self.shared.with(|state| !state.assigned.is_empty()) || is_member())
        {
            // the revocation runs inside poll; records that still come are of partitions that are being given back
            let polled = self.consumer.poll(LEAVE_POLL);
            if let Some(Err(KafkaError::MessageConsumptionFatal(_))) = polled {
                break;
            }
        }
    }

    fn step(&mut self, wait: Duration) -> Result<(), SourceFault> {
        self.nudge();
        self.leave_replaced();
        self.outside_the_log();
        self.start_claimed();
        self.reclaim();
        self.make_room();
        // whatever is there is taken without waiting; only an empty queue is waited for
        let mut next = self.consumer.poll(wait);
        while let Some(polled) = next {
            match polled {
                Ok(message) => {
                    if take(&self.shared, self.consumer.context(), &message) {
                        self.shared.tell_full();
                        break;
                    }
                }
                Err(error) => self.failed(&error)?,
            }
            next = self.consumer.poll(Duration::ZERO);
        }
        if self.last_look.elapsed() >= LOOK {
            self.last_look = Instant::now();
            self.look()?;
        }
        Ok(())
    }

    /// librdkafka's main thread, which sends the group's heartbeats, sleeps for up to a second when nobody asks it anything. A
    /// question has it look whether one is due.
    fn nudge(&mut self) {
        if self.last_nudge.elapsed() >= heartbeat_interval() {
            self.last_nudge = Instant::now();
            clickstream_kafka::member_id(self.consumer.client());
        }
    }

    fn failed(&mut self, failure: &KafkaError) -> Result<(), SourceFault> {
        match failure {
            KafkaError::PartitionEOF(partition) => self.reached_end(*partition),
            KafkaError::MessageConsumptionFatal(_) => {
                let reason = self
                    .consumer
                    .client()
                    .fatal_error()
                    .map_or_else(|| failure.to_string(), |(_, text)| text);
                return Err(SourceFault::Fatal(reason));
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                // it is not said which one
                self.outside = self
                    .shared
                    .with(|state| state.engine.assigned().map(|(tp, _)| tp).collect());
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve,
            ) => {}
            other => warn!(error = %other, "kafka"),
        }
        Ok(())
    }

    /// The end of a log. librdkafka names the partition but not the topic, so every topic's is looked at.
    fn reached_end(&self, partition: i32) {
        let context = self.consumer.context();
        let positions = self.consumer.position().ok();
        self.shared.with(|state| {
            let candidates: Vec<_> = state
                .assigned
                .iter()
                .copied()
                .filter(|tp| tp.partition == partition)
                .collect();
            let only = candidates.len() == 1;
            for tp in candidates {
                let topic = context.topic(tp.topic);
                let Some(taken) = state.engine.position(tp) else {
                    continue;
                };
                // control records are passed over by the client only: its own position is past them
                let passed = positions
                    .as_ref()
                    .and_then(|list| list.find_partition(topic, partition))
                    .and_then(|e| match e.offset() {
                        Offset::Offset(offset) => {
                            Some(clickstream_pipeline::offset::NextOffset::at(offset))
                        }
                        _ => None,
                    });
                let next = passed.map_or(taken, |passed| passed.max(taken));
                let at_end = match clickstream_kafka::seen_watermarks(
                    self.consumer.client(),
                    topic,
                    partition,
                ) {
                    Some((_, end)) => end <= next.get(),
                    // nothing was fetched of it yet: the end of another topic's partition says nothing about it
                    None => only,
                };
                if at_end {
                    state.engine.end_of_log(tp, next);
                }
            }
        });
    }

    /// Some position lies outside its log: the claim finds out what was lost. What was read before is committed first.
    fn outside_the_log(&mut self) {
        if self.outside.is_empty() {
            return;
        }
        let now = Instant::now();
        let drained: Vec<_> = self.shared.with(|state| {
            self.outside
                .iter()
                .copied()
                .filter(|tp| state.is_drained(*tp))
                .collect()
        });
        let context = self.consumer.context();
        for tp in drained {
            let bounds = self.consumer.fetch_watermarks(
                context.topic(tp.topic),
                tp.partition,
                BOUNDS_TIMEOUT,
            );
            let Ok((start, end)) = bounds else { continue };
            self.outside.remove(&tp);
            self.shared.with(|state| {
                if state
                    .engine
                    .position(tp)
                    .is_some_and(|next| next.get() < start || next.get() > end)
                {
                    error!(
                        topic = context.topic(tp.topic),
                        partition = tp.partition,
                        start,
                        end,
                        "position is outside the log"
                    );
                    state.engine.release(tp);
                    state.reclaims.push((tp, now));
                }
            });
        }
    }

    /// Fetches nothing more of topics that were made anew.
    fn leave_replaced(&self) {
        let halted = self.consumer.context().halt_replaced();
        if !halted.is_empty() {
            self.pause(&halted);
        }
    }

    /// Seeks and resumes what was claimed outside the rebalance callback.
    fn start_claimed(&self) {
        let starts = self.shared.with(|state| std::mem::take(&mut state.starts));
        for (tp, claimed) in starts {
            if !self.shared.with(|state| state.assigned.contains(&tp)) {
                continue;
            }
            if let Claimed::Ours { recovered, .. } = &claimed {
                let sought = self.set_position(tp, recovered.next.get());
                if let Err(error) = sought {
                    warn!(partition = tp.partition, error = %error, "cannot seek, claiming again");
                    let soon = Instant::now() + Duration::from_secs(1);
                    self.shared.with(|state| state.reclaims.push((tp, soon)));
                    continue;
                }
            }
            // from here on whatever is polled lies behind the seek
            let started = self.shared.with(|state| state.start(tp, claimed)).is_some();
            if started {
                self.consumer.context().note_gap(tp);
            }
            if started && !self.paused_for_room {
                self.resume(&[tp]);
            }
        }
    }

    /// Makes a partition go on at `offset`.
    fn set_position(&self, tp: TopicPartition, offset: i64) -> Result<(), KafkaError> {
        let mut target = TopicPartitionList::new();
        target.add_partition_offset(self.topic(tp), tp.partition, Offset::Offset(offset))?;
        let sought = self
            .consumer
            .seek_partitions(target.clone(), BOUNDS_TIMEOUT)
            .and_then(|list| list.elements().iter().try_for_each(|e| e.error()));
        match sought {
            // a position outside the log stopped its fetcher for good, and only an assignment makes another one
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => {
                self.consumer.incremental_unassign(&target)?;
                self.consumer.incremental_assign(&target)
            }
            other => other,
        }
    }

    /// Claims again what is due.
    fn reclaim(&self) {
        let now = Instant::now();
        let due: BTreeSet<_> = self.shared.with(|state| {
            let (due, later) = std::mem::take(&mut state.reclaims)
                .into_iter()
                .partition(|(_, at)| *at <= now);
            state.reclaims = later;
            let due: Vec<(TopicPartition, Instant)> = due;
            due.into_iter()
                .map(|(tp, _)| tp)
                .filter(|tp| state.assigned.contains(tp))
                .collect()
        });
        if due.is_empty() {
            return;
        }
        let due: Vec<_> = due.into_iter().collect();
        self.pause(&due);
        let context = self.consumer.context();
        let same = context.same_topics(&self.consumer, &due);
        context.request_claims(&self.consumer, &same, false);
    }

    fn make_room(&mut self) {
        let limits = self.shared.limits();
        if self.paused_for_room {
            if self.shared.with(|state| state.has_room(limits)) {
                self.paused_for_room = false;
                let ready: Vec<_> = self
                    .shared
                    .with(|state| state.engine.assigned().map(|(tp, _)| tp).collect());
                self.resume(&ready);
            }
        } else if !self
            .shared
            .wait_until(FULL_WAIT, |state| !state.is_full(limits))
        {
            self.paused_for_room = true;
            let all: Vec<_> = self
                .shared
                .with(|state| state.assigned.iter().copied().collect());
            self.pause(&all);
            self.consumer.context().metrics.pauses.inc();
        }
    }

    /// Once a second: ends of the logs, the group's offsets, topic ids, stuck partitions.
    fn look(&mut self) -> Result<(), SourceFault> {
        let assigned: Vec<_> = self
            .shared
            .with(|state| state.assigned.iter().copied().collect());
        let (paused, fetched): (Vec<_>, Vec<_>) = self.shared.with(|state| {
            let paused = |tp: &TopicPartition| state.view.get(tp).is_some_and(|view| view.paused);
            assigned.iter().copied().partition(paused)
        });
        self.look_at_paused(&paused);
        for tp in fetched {
            let seen = clickstream_kafka::seen_watermarks(
                self.consumer.client(),
                self.topic(tp),
                tp.partition,
            );
            if let Some((start, end)) = seen {
                let now = EventTime::from_micros(Utc::now().timestamp_micros());
                self.shared.with(|state| {
                    if let Some(view) = state.view.get_mut(&tp) {
                        view.look(start, end, now);
                    }
                });
            }
        }
        self.hint();
        if self.last_identity.elapsed() >= IDENTITY {
            self.last_identity = Instant::now();
            self.consumer
                .context()
                .same_topics(&self.consumer, &assigned);
        }
        self.watch(&assigned)
    }

    /// Asks for the ends of logs that nobody fetches from, now and then: lag grows there as well. One that is not answered
    /// is not known.
    fn look_at_paused(&mut self, paused: &[TopicPartition]) {
        if paused.is_empty()
            || self
                .last_paused
                .is_some_and(|last| last.elapsed() < LOOK_PAUSED)
        {
            return;
        }
        self.last_paused = Some(Instant::now());
        let mut answers = true;
        for &tp in paused {
            let bounds = match answers {
                true => {
                    let topic = self.topic(tp);
                    let asked = self
                        .consumer
                        .fetch_watermarks(topic, tp.partition, BOUNDS_SOON);
                    asked.ok()
                }
                false => None,
            };
            // one broker that is away must not hold the reader up once for each partition
            answers = bounds.is_some();
            let now = EventTime::from_micros(Utc::now().timestamp_micros());
            self.shared.with(|state| {
                if let Some(view) = state.view.get_mut(&tp) {
                    match bounds {
                        Some((start, end)) => view.look(start, end, now),
                        None => view.log_end = None,
                    }
                }
            });
        }
    }

    /// Writes the committed positions to the group, for lag tools.
    fn hint(&mut self) {
        let committed = self.shared.with(|state| {
            state
                .view
                .iter()
                .filter_map(|(tp, view)| Some((*tp, view.next?.get())))
                .collect::<BTreeMap<_, _>>()
        });
        let mut list = TopicPartitionList::new();
        for (tp, next) in &committed {
            if self.hinted.get(tp) != Some(next)
                && list
                    .add_partition_offset(self.topic(*tp), tp.partition, Offset::Offset(*next))
                    .is_err()
            {
                return;
            }
        }
        if list.count() > 0 {
            crash_point("before_group_commit");
            if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
                warn!(error = %error, "cannot write the group's offsets");
            }
            self.hinted = committed;
        }
    }

    /// Notes since when an open transaction holds a partition back; one that was noted before stays.
    fn note_held(&self, tp: TopicPartition, since: Option<Instant>) {
        let begun = self.shared.with(|state| {
            let view = state.view.get_mut(&tp)?;
            let begun = view.held_since.is_none() && since.is_some();
            view.held_since = since.map(|since| view.held_since.unwrap_or(since));
            Some(begun)
        });
        if begun == Some(true) {
            warn!(
                topic = self.topic(tp),
                partition = tp.partition,
                "an open Kafka transaction holds this partition back; it is read on when its producer ends it"
            );
        }
    }

    /// Ends the process when a partition has lag and does not move, although everything it needs answers.
    fn watch(&mut self, assigned: &[TopicPartition]) -> Result<(), SourceFault> {
        let now = Instant::now();
        self.moved.retain(|tp, _| assigned.contains(tp));
        let standing = self.shared.with(|state| {
            let idle = self.paused_for_room || !state.sink_healthy;
            assigned
                .iter()
                .filter_map(|&tp| {
                    let position = state.engine.position(tp)?.get();
                    let end = state.view.get(&tp)?.log_end?;
                    Some((tp, position, end, idle || position >= end))
                })
                .collect::<Vec<_>>()
        });
        for (tp, position, _, fine) in standing {
            let (stood_at, since) = *self.moved.entry(tp).or_insert((position, now));
            if fine || stood_at != position {
                self.moved.insert(tp, (position, now));
                self.note_held(tp, None);
                continue;
            }
            if since.elapsed() >= STANDING.min(stuck()) {
                self.shared.with(|state| state.engine.left_end(tp));
            }
            if since.elapsed() >= stuck() {
                // the broker is asked before the verdict: while it is away, nobody is stuck
                let topic = self.topic(tp).to_owned();
                let ends = self
                    .consumer
                    .fetch_watermarks(&topic, tp.partition, BOUNDS_TIMEOUT);
                match ends {
                    Ok((_, log_end)) if log_end > position => {
                        return Err(SourceFault::Stuck {
                            topic,
                            partition: tp.partition,
                            position,
                            log_end,
                        });
                    }
                    // asked for committed records, the log ends where the oldest transaction that is
                    // still open begins: nothing behind it is given out, and nobody here can end it
                    Ok(_) => self.note_held(tp, Some(since)),
                    Err(_) => {}
                }
                self.moved.insert(tp, (position, now));
            }
        }
        Ok(())
    }

    fn pause(&self, partitions: &[TopicPartition]) {
        self.set_paused(partitions, true);
    }

    fn resume(&self, partitions: &[TopicPartition]) {
        self.set_paused(partitions, false);
    }

    fn set_paused(&self, partitions: &[TopicPartition], paused: bool) {
        let list = self.consumer.context().list(partitions.iter().copied());
        let done = if paused {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = done {
            warn!(paused, error = %error, "cannot pause or resume partitions");
        }
        self.shared.with(|state| {
            for tp in partitions {
                if let Some(view) = state.view.get_mut(tp) {
                    view.paused = paused;
                }
            }
        });
    }

    fn topic(&self, tp: TopicPartition) -> &str {
        self.consumer.context().topic(tp.topic)
    }
}

/// Hands one record to the engine; tells whether the buffer is full now.
fn take(shared: &Shared, context: &SourceContext, message: &BorrowedMessage<'_>) -> bool {
    let Some(tp) = context.partition(message.topic(), message.partition()) else {
        return false;
    };
    if context.identity.obstacle(message.topic()).is_some() {
        // of another log; the partition is halted with the next step
        return true;
    }
    let received_at = received_at(message.timestamp().to_millis());
    if received_at < EventTime::MIN {
        context.metrics.implausible.inc();
    }
    let value = message.payload();
    let record = Record {
        offset: message.offset(),
        received_at,
        value,
        // headers are looked at where there is no event only
        heartbeat: match value {
            Some(_) => None,
            None => message
                .headers()
                .and_then(|headers| heartbeat::sent_at(headers, received_at)),
        },
    };
    // looked for only where somebody wants to know: a topic's records may carry many headers
    let sent = match traces::is_on() {
        true => journeys::sent_by(message),
        false => None,
    };
    let (taken, first, full) = shared.with(|state| {
        let first = state.engine.is_empty();
        let taken = state.engine.record(tp, record);
        if let (Intake::Buffered, Some(sent)) = (taken, sent) {
            let (topic, offset) = (message.topic(), message.offset());
            state
                .journeys
                .begin(topic, tp, offset, sent, Instant::now());
        }
        (taken, first, state.is_full(shared.limits()))
    });
    match taken {
        Intake::Buffered | Intake::Heartbeat => {
            context.metrics.decoded.inc();
            // a writer that is busy looks for more by itself when it is done
            if first {
                shared.wake_writer();
            }
        }
        Intake::Skipped => context.metrics.decoded.inc(),
        Intake::Stale => context.metrics.stale.inc(),
        Intake::Unassigned => {}
    }
    full
}
