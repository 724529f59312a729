//! The reading thread: polls, feeds the engine, holds back when the buffer is full, and tells the
//! consumer what the core has decided: where to go on, what to fetch. Nothing on it waits for a
//! broker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clickstream_kafka::{ConsumerQueue, Failed, Polled};
use clickstream_pipeline::{
    offset::{NextOffset, TopicPartition},
    ownership::{Action, Event},
};
use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    asker::Asker,
    config::{ConsumerSettings, heartbeat_interval},
    context::SourceContext,
    identity::Identity,
    intake::take,
    watch::Watch,
};
use crate::{
    failpoints::{goes_wrong, stall, tuned},
    metrics::SourceMetrics,
    shared::Shared,
    sink::Topics,
};

/// Longest wait for a record: how soon commands of the writer are seen when nothing comes.
const POLL: Duration = Duration::from_millis(50);
/// How long a full buffer only makes the reader wait; after that it pauses the partitions and polls
/// on, so that the group goes on counting it in. A pause throws prefetched records away, waiting
/// does not.
const FULL_WAIT: Duration = Duration::from_millis(500);
/// How long librdkafka's own threads may take to go to a position: no broker is asked.
const SEEK: Duration = Duration::from_secs(5);
/// A partition with lag that has not moved for this long is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(20);

/// Longest wait for a step of it.
const LEAVE_POLL: Duration = Duration::from_millis(5);

pub(super) fn stuck() -> Duration {
    tuned("CLICKSTREAM_TEST_STUCK_MS", STUCK)
}

/// Why the process has to end.
#[derive(Debug, Error)]
pub enum SourceFault {
    /// librdkafka says that this client cannot go on.
    #[error("kafka client failed for good: {0}")]
    Fatal(String),
    /// There is lag, the broker answers, PostgreSQL answers, and nothing moves.
    #[error("partition {partition} of {topic} has not moved from {position} for {} s, although its log goes on behind it, and assigning it again has not helped", STUCK.as_secs())]
    Stuck {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where it stands.
        position: i64,
    },
    /// The consumer could not be made.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
}

/// The consumer and what it knows between two polls.
pub struct Source {
    /// Given back before the consumer, whose it is.
    queue: Option<ConsumerQueue>,
    pub(super) consumer: BaseConsumer<SourceContext>,
    pub(super) shared: Arc<Shared>,
    pub(super) full: bool,
    pub(super) watch: Watch,
    last_nudge: Instant,
}

impl Source {
    /// Joins the group.
    ///
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn new(
        settings: &ConsumerSettings,
        topics: Topics,
        identity: Identity,
        shared: Arc<Shared>,
        metrics: SourceMetrics,
    ) -> Result<Self, SourceFault> {
        let context = SourceContext {
            shared: Arc::clone(&shared),
            topics,
            metrics,
            identity,
            asker: Mutex::new(None),
        };
        shared.with(|state| state.journeys.group.clone_from(&settings.group));
        let consumer: BaseConsumer<SourceContext> =
            settings.config().create_with_context(context)?;
        *consumer.context().asker.lock() = Some(Asker::new(&consumer));
        let names: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names)?;
        Ok(Self {
            queue: ConsumerQueue::of(&consumer),
            consumer,
            shared,
            full: false,
            watch: Watch::new(Instant::now()),
            last_nudge: Instant::now(),
        })
    }

    /// Reads until `stop`, then gives everything back and leaves the group.
    ///
    /// # Errors
    /// [`SourceFault`]: the process should end and be started again.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), SourceFault> {
        let Some(queue) = self.queue.take() else {
            return Err(SourceFault::Fatal("the consumer has no queue".to_owned()));
        };
        while !stop.is_cancelled() {
            self.step(&queue, POLL)?;
        }
        info!("leaving the group");
        self.leave(&queue);
        Ok(())
    }

    /// Gives everything back, and returns when the group is told. librdkafka forgets to tell it
    /// when it is closed while partitions are still being stopped, and they would wait for the end
    /// of this member's session.
    fn leave(&self, queue: &ConsumerQueue) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE;
        let is_member = || clickstream_kafka::member_id(self.consumer.client()).is_some();
        let holds = || {
            self.shared
                .with(|state| state.ownership.assigned().next().is_some())
        };
        while Instant::now() < deadline && (holds() || is_member()) {
            self.shared.progress.reader();
            // the revocation runs inside poll; records that still come are of partitions that are
            // being given back
            if let Some(Polled::Failed(Failed { fatal: true, .. })) =
                queue.poll(&self.consumer, LEAVE_POLL)
            {
                break;
            }
        }
    }

    fn step(&mut self, queue: &ConsumerQueue, wait: Duration) -> Result<(), SourceFault> {
        self.shared.progress.reader();
        stall("reader_stalls");
        self.nudge();
        let context = self.consumer.context();
        context.halt_replaced();
        let verdicts = context.hear(Duration::ZERO);
        self.judge(verdicts)?;
        self.drained();
        self.consumer.context().ask(&self.consumer);
        self.tell_consumer();
        self.make_room();
        // whatever is there is taken without waiting; only an empty queue is waited for
        let mut next = queue.poll(&self.consumer, wait);
        while let Some(polled) = next {
            match polled {
                Polled::Record(record) => {
                    if take(&self.shared, self.consumer.context(), &record) {
                        self.shared.tell_full();
                        break;
                    }
                }
                Polled::End {
                    topic,
                    partition,
                    offset,
                } => self.reached_end(&topic, partition, offset),
                Polled::Failed(failed) => self.failed(failed)?,
                Polled::Served => {}
            }
            next = queue.poll(&self.consumer, Duration::ZERO);
        }
        self.look_around()
    }

    /// librdkafka's main thread, which sends the group's heartbeats, sleeps for up to a second when
    /// nobody asks it anything. A question has it look whether one is due.
    fn nudge(&mut self) {
        if self.last_nudge.elapsed() >= heartbeat_interval() {
            self.last_nudge = Instant::now();
            clickstream_kafka::member_id(self.consumer.client());
        }
    }

    /// Everything below `offset` was handed out, or is no record (control records): the partition
    /// has caught up.
    fn reached_end(&self, topic: &str, partition: i32, offset: i64) {
        let Some(tp) = self.consumer.context().partition(topic, partition) else {
            return;
        };
        // more may have come since: another end will be told of
        let seen = clickstream_kafka::seen_watermarks(self.consumer.client(), topic, partition);
        if seen.is_none_or(|(_, end)| end <= offset) {
            self.shared
                .with(|state| state.engine.end_of_log(tp, NextOffset::at(offset)));
        }
    }

    fn failed(&mut self, failed: Failed) -> Result<(), SourceFault> {
        use RDKafkaErrorCode as Code;
        let Failed {
            code,
            place,
            offset,
            reason,
            fatal,
        } = failed;
        if fatal {
            return Err(SourceFault::Fatal(reason));
        }
        let context = self.consumer.context();
        let tp = place
            .as_ref()
            .and_then(|(topic, partition)| context.partition(topic, *partition));
        match (code, tp) {
            (Code::AutoOffsetReset | Code::OffsetOutOfRange, Some(tp)) => {
                let topic = self.topic(tp);
                if !self.shared.with(|state| state.ownership.is_reading(tp)) {
                    // what librdkafka makes of a batch that it cannot read is not to be believed
                    debug!(topic, partition = tp.partition, offset, "outside the log");
                    return Ok(());
                }
                error!(
                    topic,
                    partition = tp.partition,
                    offset,
                    "position is outside the log"
                );
                context.on(Event::Outside(tp));
            }
            (
                Code::NotImplemented
                | Code::BadCompression
                | Code::BadMessage
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::MessageSizeTooLarge,
                Some(partition),
            ) => {
                let position = self.shared.with(|state| state.engine.position(partition));
                let offset = offset.or(position.map(NextOffset::get)).unwrap_or(0);
                context.on(Event::Unreadable {
                    partition,
                    offset,
                    why: reason,
                });
            }
            (Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve, _) => {}
            // said by the context
            (_, None) if place.is_none() => {}
            (code, _) => {
                let (topic, partition) = place.unwrap_or_default();
                warn!(topic, partition, offset, code = %code, reason, "kafka");
            }
        }
        Ok(())
    }

    /// A position lies outside its log: the claim finds out what was lost. What was read before is
    /// committed first.
    fn drained(&self) {
        let drained: Vec<_> = self.shared.with(|state| {
            let mut draining = state.ownership.draining();
            draining.retain(|tp| state.is_drained(*tp));
            draining
        });
        for tp in drained {
            self.consumer.context().on(Event::Drained(tp));
        }
    }

    /// Tells the consumer what to fetch and where to go on.
    fn tell_consumer(&self) {
        let context = self.consumer.context();
        let mut actions = context.on(Event::ReaderTurn);
        let paused = actions.iter().filter_map(|action| match action {
            Action::Pause(tp) => Some(*tp),
            _ => None,
        });
        // before any of them is sought
        self.set_paused(paused, true);
        let mut resumed = Vec::new();
        let mut at = 0;
        while let Some(action) = actions.get(at) {
            at += 1;
            match action {
                Action::Resume(tp) => resumed.push(*tp),
                Action::Seek {
                    partition,
                    next,
                    afresh,
                } => {
                    let partition = *partition;
                    let sought = self.set_position(partition, next.get(), *afresh);
                    if let Err(error) = &sought {
                        warn!(partition = partition.partition, error = %error, "cannot seek, claiming again");
                    }
                    self.shared.progress.reader();
                    // from here on whatever is polled lies behind the seek
                    let done = sought.is_ok();
                    actions.extend(context.on(Event::Sought { partition, done }));
                }
                _ => {}
            }
        }
        self.set_paused(resumed.iter().copied(), false);
        if !resumed.is_empty() && goes_wrong("resumes_stall") {
            self.set_paused(resumed.into_iter(), true);
        }
    }

    /// Makes a partition go on at `offset`; `afresh`: with another fetcher.
    fn set_position(
        &self,
        tp: TopicPartition,
        offset: i64,
        afresh: bool,
    ) -> Result<(), KafkaError> {
        let mut target = TopicPartitionList::new();
        target.add_partition_offset(self.topic(tp), tp.partition, Offset::Offset(offset))?;
        let again = || {
            self.consumer.incremental_unassign(&target)?;
            self.consumer.incremental_assign(&target)?;
            // as whoever called has left it
            self.consumer.pause(&target)
        };
        if afresh {
            return again();
        }
        let sought = self
            .consumer
            .seek_partitions(target.clone(), SEEK)
            .and_then(|list| list.elements().iter().try_for_each(|e| e.error()));
        match sought {
            // a position outside the log stopped its fetcher for good, and only an assignment makes
            // another one
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => again(),
            other => other,
        }
    }

    fn make_room(&mut self) {
        let limits = self.shared.limits();
        if self.full {
            if self.shared.with(|state| state.has_room(limits)) {
                self.set_full(false);
            }
        } else if !self
            .shared
            .wait_until(FULL_WAIT, |state| !state.is_full(limits))
        {
            self.set_full(true);
            self.consumer.context().metrics.pauses.inc();
        }
    }

    fn set_full(&mut self, full: bool) {
        self.full = full;
        self.consumer.context().on(Event::Full(full));
        self.tell_consumer();
    }

    pub(super) fn set_paused(
        &self,
        partitions: impl Iterator<Item = TopicPartition>,
        paused: bool,
    ) {
        let list = self.consumer.context().list(partitions);
        if list.count() == 0 {
            return;
        }
        let done = if paused {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        if let Err(error) = done {
            warn!(paused, error = %error, "cannot pause or resume partitions");
        }
    }

    pub(super) fn topic(&self, tp: TopicPartition) -> &str {
        self.consumer.context().topic(tp.topic)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // its queue is the consumer's, and goes before it
        self.consumer.context().asker.lock().take();
    }
}
