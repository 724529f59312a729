//! Once a second beside reading: the ends of the logs, the group's offsets, the topics' ids, and
//! partitions that stand.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::Utc;
use clickstream_pipeline::{
    event::EventTime,
    offset::{NextOffset, TopicPartition},
    ownership::{Action, Event},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
};
use tracing::{error, warn};

use super::{
    asker::Purpose,
    context::Verdict,
    source::{Source, SourceFault, stuck},
};
use crate::failpoints::{crash_point, goes_wrong};

/// How often the log's ends are looked at and the group's offsets written.
const LOOK: Duration = Duration::from_secs(1);
/// The same for partitions that have to be asked for: those that are paused, and those that a
/// follower gives out.
const LOOK_ASKED: Duration = Duration::from_secs(5);
/// How often a topic's id is asked for.
const IDENTITY: Duration = Duration::from_secs(30);
/// A partition that two looks in a row have found at the same place stands; one record that came
/// between two looks does not make it.
const STANDING: Duration = Duration::from_millis(LOOK.as_millis() as u64 * 3 / 2);

/// A partition stands when it has waited for so many times as long as the one that waited longest
/// and was served. Brokers serve partitions in turn, and an answer holds one batch that is larger
/// than a partition's share in it: behind a backlog on a thousand partitions a turn comes once in a
/// thousand answers.
const TURNS: u32 = 2;

/// How long partitions with lag have lately waited until they moved.
#[derive(Default)]
struct Turns {
    /// The longest wait, and when it ended.
    longest: Option<(Duration, Instant)>,
}

impl Turns {
    /// One has moved after such a wait. What is older than `memory` is forgotten: when nobody is
    /// served any more, nobody waits for a turn.
    fn served(&mut self, waited: Duration, now: Instant, memory: Duration) {
        if self.longest(now, memory) <= waited {
            self.longest = Some((waited, now));
        }
    }

    fn longest(&self, now: Instant, memory: Duration) -> Duration {
        match self.longest {
            Some((waited, ended)) if now.duration_since(ended) < memory => waited,
            _ => Duration::ZERO,
        }
    }

    /// How long a partition may wait.
    fn patience(&self, now: Instant, stuck: Duration) -> Duration {
        stuck.max(self.longest(now, stuck) * TURNS)
    }
}

/// What was seen the last time.
pub struct Watch {
    last_look: Instant,
    last_identity: Instant,
    last_untold: Option<Instant>,
    last_fetched: Instant,
    /// What the group was told.
    hinted: BTreeMap<TopicPartition, i64>,
    /// Since when each partition has stood where it stands.
    moved: BTreeMap<TopicPartition, (NextOffset, Instant)>,
    /// How long turns take.
    turns: Turns,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(now: Instant) -> Self {
        Self {
            last_look: now,
            last_identity: now,
            last_untold: None,
            last_fetched: now,
            hinted: BTreeMap::new(),
            moved: BTreeMap::new(),
            turns: Turns::default(),
        }
    }
}

impl Source {
    /// Once a second: ends of the logs, the group's offsets, topic ids, partitions that stand.
    pub(super) fn look_around(&mut self) -> Result<(), SourceFault> {
        if self.watch.last_look.elapsed() < LOOK {
            return Ok(());
        }
        self.watch.last_look = Instant::now();
        if goes_wrong("fetchers_stall") {
            let assigned: Vec<_> = self
                .shared
                .with(|state| state.ownership.assigned().collect());
            self.set_paused(assigned.into_iter(), true);
        }
        self.look();
        self.hint();
        if self.watch.last_identity.elapsed() >= IDENTITY {
            self.watch.last_identity = Instant::now();
            self.consumer.context().ask_for_topics(&self.consumer);
        }
        let watched = self.shared.with(|state| {
            let watched = state.ownership.watched();
            watched
                .into_iter()
                .filter_map(|tp| Some((tp, state.engine.position(tp)?)))
                .collect::<Vec<_>>()
        });
        for (partition, position) in watched {
            self.consumer.context().on(Event::Moved {
                partition,
                position,
            });
        }
        self.stand();
        Ok(())
    }

    fn look(&mut self) {
        let (fetched, mut untold): (Vec<_>, Vec<_>) = self.shared.with(|state| {
            let ownership = &state.ownership;
            ownership
                .assigned()
                .partition(|tp| ownership.is_fetched(*tp))
        });
        // a follower that has lost touch with its leader tells of an end that is none: the
        // partition would be silent, and events that it holds back would be late
        self.shared.with(|state| {
            let is_from_follower = |tp: &&TopicPartition| {
                let view = state.view.get(*tp);
                view.is_some_and(|view| view.from_follower)
            };
            untold.extend(fetched.iter().filter(is_from_follower));
        });
        self.look_at_untold(&untold);
        if self.watch.last_fetched.elapsed() >= stuck() {
            // a fetcher that has stopped without a word sees no end but the one that it saw last
            self.watch.last_fetched = Instant::now();
            self.ask_for_ends(&fetched);
        }
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
    }

    /// Asks for the ends of logs that nobody fetches from their leaders, now and then: lag grows
    /// there as well. One that is not answered is not known.
    fn look_at_untold(&mut self, untold: &[TopicPartition]) {
        let lately = |last: Instant| last.elapsed() < LOOK_ASKED;
        if untold.is_empty() || self.watch.last_untold.is_some_and(lately) {
            return;
        }
        self.watch.last_untold = Some(Instant::now());
        self.ask_for_ends(untold);
    }

    fn ask_for_ends(&self, partitions: &[TopicPartition]) {
        let context = self.consumer.context();
        let mut wanted = partitions.to_vec();
        if let Some(asker) = context.asker.lock().as_ref() {
            wanted.retain(|tp| {
                !asker.is_asking(|other, purpose| other == *tp && purpose == Purpose::Look)
            });
        }
        let wanted = wanted.into_iter().map(|tp| (tp, Purpose::Look));
        context.ask_for(&self.consumer, wanted);
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
            if self.watch.hinted.get(tp) != Some(next)
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
            self.watch.hinted = committed;
        }
    }

    /// Notes since when an open transaction holds a partition back; one that was noted before
    /// stays.
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

    /// Looks for partitions that have lag and do not move although everything they need answers.
    /// Their brokers are asked before the verdict: while one is away, nobody is stuck.
    fn stand(&mut self) {
        let now = Instant::now();
        let full = self.full;
        let standing = self.shared.with(|state| {
            let idle = full || !state.sink_healthy;
            let reading = state
                .ownership
                .assigned()
                .filter(|tp| state.ownership.is_reading(*tp));
            reading
                .filter_map(|tp| {
                    let position = state.engine.position(tp)?;
                    let end = state.view.get(&tp)?.log_end?;
                    Some((tp, position, idle || position.get() >= end))
                })
                .collect::<Vec<_>>()
        });
        self.shared.with(|state| {
            self.watch
                .moved
                .retain(|tp, _| state.ownership.is_assigned(*tp));
        });
        let mut doubted = Vec::new();
        for (tp, position, fine) in standing {
            let (stood_at, since) = *self.watch.moved.entry(tp).or_insert((position, now));
            if fine || stood_at != position {
                if stood_at != position {
                    let waited = now.duration_since(since);
                    self.watch.turns.served(waited, now, stuck());
                }
                self.watch.moved.insert(tp, (position, now));
                self.note_held(tp, None);
                continue;
            }
            if since.elapsed() >= STANDING.min(stuck()) {
                self.shared.with(|state| state.engine.left_end(tp));
            }
            if since.elapsed() >= stuck() {
                doubted.push((tp, since, Purpose::Verdict(position)));
            }
        }
        // those that wait for their turn are told from those that stand when all have been looked
        // at
        let patience = self.watch.turns.patience(now, stuck());
        let doubted = doubted
            .into_iter()
            .filter(|(_, since, _)| now.duration_since(*since) >= patience);
        let mut doubted: Vec<_> = doubted.map(|(tp, _, purpose)| (tp, purpose)).collect();
        let context = self.consumer.context();
        if let Some(asker) = context.asker.lock().as_ref() {
            doubted.retain(|(tp, _)| {
                !asker.is_asking(|other, purpose| {
                    other == *tp && matches!(purpose, Purpose::Verdict(_))
                })
            });
        }
        context.ask_for(&self.consumer, doubted);
    }

    /// What the brokers say about partitions that stand.
    pub(super) fn judge(&mut self, verdicts: Vec<Verdict>) -> Result<(), SourceFault> {
        for Verdict {
            partition: tp,
            position,
            log_end,
        } in verdicts
        {
            let Some(&(stood_at, since)) = self.watch.moved.get(&tp) else {
                continue;
            };
            if stood_at != position {
                continue;
            }
            self.watch.moved.insert(tp, (position, Instant::now()));
            match log_end {
                Some(log_end) if log_end > position.get() => {
                    error!(
                        topic = self.topic(tp),
                        partition = tp.partition,
                        position = position.get(),
                        log_end,
                        "partition does not move"
                    );
                    let stands = Event::Stands {
                        partition: tp,
                        position,
                    };
                    for action in self.consumer.context().on(stands) {
                        if let Action::End { partition, .. } = action {
                            return Err(SourceFault::Stuck {
                                topic: self.topic(partition).to_owned(),
                                partition: partition.partition,
                                position: position.get(),
                            });
                        }
                    }
                }
                // asked for committed records, the log ends where the oldest transaction that is
                // still open begins: nothing behind it is given out, and nobody here can end it
                Some(_) => self.note_held(tp, Some(since)),
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUCK: Duration = Duration::from_secs(30);

    #[test]
    fn a_partition_that_waits_for_its_turn_does_not_stand() {
        let begin = Instant::now();
        let mut turns = Turns::default();
        // a round of a thousand partitions takes 100 s, and each moves once in it
        for second in 1..=100 {
            let (waited, now) = (
                Duration::from_secs(second),
                begin + Duration::from_secs(second),
            );
            turns.served(waited, now, STUCK);
            assert!(turns.patience(now, STUCK) > waited, "{second} s");
        }
        // the next round: all of them wait for 100 s
        for second in 101..=200 {
            let now = begin + Duration::from_secs(second);
            turns.served(Duration::from_secs(100), now, STUCK);
            assert_eq!(turns.patience(now, STUCK), Duration::from_secs(200));
        }
    }

    #[test]
    fn one_that_others_overtake_stands() {
        let begin = Instant::now();
        let mut turns = Turns::default();
        for second in 1..=60 {
            let now = begin + Duration::from_secs(second);
            turns.served(Duration::from_secs(1), now, STUCK);
            assert_eq!(turns.patience(now, STUCK), STUCK);
        }
    }

    #[test]
    fn nobody_waits_for_a_turn_when_none_is_served() {
        let begin = Instant::now();
        let mut turns = Turns::default();
        turns.served(Duration::from_secs(100), begin, STUCK);
        assert_eq!(turns.patience(begin + STUCK, STUCK), STUCK);
        // and a longer one that is over does not hide those of now
        let now = begin + STUCK;
        turns.served(Duration::from_secs(20), now, STUCK);
        assert_eq!(turns.patience(now, STUCK), Duration::from_secs(40));
    }
}
