//! The reading side of a simulated processor: a consumer that fetches what it is told to, and hands
//! on what it has fetched whether or not anybody wants it any more.

use std::collections::BTreeMap;

use clickstream_pipeline::{
    engine::{Intake, Record},
    event::EventTime,
    offset::{NextOffset, TopicPartition},
    ownership::{Action, Event, Obstacle},
};

use crate::{
    log::Log,
    processor::{Processor, Tally},
    sabotage::Sabotage,
};

/// The simulated client of the log.
#[derive(Default)]
pub struct Consumer {
    assigned: BTreeMap<TopicPartition, Fetch>,
    /// Partitions of a rebalance callback that has not ended: until then nothing is read.
    callback: Vec<TopicPartition>,
    questions: Vec<(TopicPartition, u64)>,
}

struct Fetch {
    /// The place of the next entry.
    at: usize,
    /// Where it was told to go on, until it does.
    start: Option<NextOffset>,
    paused: bool,
}

impl Consumer {
    /// The group has taken it away.
    pub fn unassign(&mut self, tp: TopicPartition) {
        self.assigned.remove(&tp);
    }

    fn assign(&mut self, tp: TopicPartition, start: Option<NextOffset>) {
        let fetch = Fetch {
            at: 0,
            start,
            paused: start.is_none(),
        };
        self.assigned.insert(tp, fetch);
    }
}

impl Processor {
    /// The group gives it a partition: a callback begins.
    pub fn assign(&mut self, tp: TopicPartition) {
        self.on(Event::Assigned(vec![tp]));
        self.consumer.callback.push(tp);
    }

    /// The callback ends, whatever was claimed by then.
    pub fn end_callback(&mut self) {
        let partitions = std::mem::take(&mut self.consumer.callback);
        for action in self.on(Event::CallbackEnds(partitions)) {
            match action {
                Action::Begin {
                    partition, grant, ..
                } => self.consumer.assign(partition, Some(grant.recovered.next)),
                Action::Pause(tp) => self.consumer.assign(tp, None),
                _ => {}
            }
        }
    }

    /// One step of the reader.
    ///
    /// # Errors
    /// What must not happen.
    pub fn read(&mut self, log: &Log, tally: &mut Tally) -> Result<(), String> {
        for action in self.on(Event::AskTurn) {
            if let Action::Ask {
                partition, number, ..
            } = action
            {
                self.consumer.questions.push((partition, number));
            }
        }
        if self.dice.chance(500) {
            self.answer(log, tally);
        }
        if !self.consumer.callback.is_empty() {
            let waits = self.ownership.is_asking(&self.consumer.callback)
                || self.ownership.is_claiming(&self.consumer.callback);
            if waits && !self.dice.chance(50) {
                return Ok(());
            }
            self.end_callback();
        }
        for tp in self.ownership.draining() {
            if !self.in_flight.contains(&tp) && !self.engine.has_pending(tp) {
                self.on(Event::Drained(tp));
            }
        }
        let full = self.engine.buffered_rows() >= 2 * self.scenario.flush_rows;
        self.on(Event::Full(full));
        self.tell_consumer(tally);
        for partition in self.ownership.watched() {
            if let Some(position) = self.engine.position(partition) {
                self.on(Event::Moved {
                    partition,
                    position,
                });
            }
        }
        if self.faults_left > 0 && self.dice.chance(3) {
            self.faults_left -= 1;
            self.disturb(tally);
        }
        self.take_some(log, tally)
    }

    /// A broker answers a question for the bounds of a log, or does not; now and then with an end
    /// that was true long ago.
    fn answer(&mut self, log: &Log, tally: &mut Tally) {
        if self.consumer.questions.is_empty() {
            return;
        }
        let at = self.dice.below(self.consumer.questions.len());
        let (partition, number) = self.consumer.questions.swap_remove(at);
        let end = log.partitions[&partition].visible_end();
        let mut bounds = Some((0, end));
        if self.faults_left > 0 && self.dice.chance(60) {
            self.faults_left -= 1;
            bounds = match self.dice.below(3) {
                0 => Some((
                    0,
                    self.dice.below(usize::try_from(end).unwrap_or(0) + 1) as i64,
                )),
                1 => None,
                // lost
                _ => return tally.unanswered += 1,
            };
            tally.unanswered += u64::from(bounds.is_none());
        }
        self.on(Event::Bounds {
            partition,
            number,
            bounds,
        });
    }

    fn tell_consumer(&mut self, tally: &mut Tally) {
        let mut actions = self.on(Event::ReaderTurn);
        let mut next = 0;
        while next < actions.len() {
            match actions[next] {
                Action::Pause(tp) | Action::Resume(tp) => {
                    let paused = matches!(actions[next], Action::Pause(_));
                    if let Some(fetch) = self.consumer.assigned.get_mut(&tp) {
                        fetch.paused = paused;
                    }
                }
                Action::Seek {
                    partition,
                    next: offset,
                    ..
                } => {
                    let fails = self.faults_left > 0 && self.dice.chance(30);
                    if fails {
                        self.faults_left -= 1;
                        tally.unsought += 1;
                    } else {
                        self.seek(partition, offset);
                    }
                    let done = !fails;
                    actions.extend(self.on(Event::Sought { partition, done }));
                }
                _ => {}
            }
            next += 1;
        }
    }

    fn seek(&mut self, tp: TopicPartition, offset: NextOffset) {
        if !self.sabotaged(Sabotage::QueueOutlivesClaim)
            && let Some(fetch) = self.consumer.assigned.get_mut(&tp)
        {
            fetch.start = Some(offset);
        }
    }

    /// Something happens that is about one partition.
    fn disturb(&mut self, tally: &mut Tally) {
        let assigned: Vec<_> = self.ownership.assigned().collect();
        if assigned.is_empty() {
            return;
        }
        let partition = self.dice.pick(&assigned);
        let reading = self.ownership.is_reading(partition);
        let Some(position) = self.engine.position(partition) else {
            return;
        };
        match self.dice.below(4) {
            0 | 1 => {
                if let Some(fetch) = self.consumer.assigned.get_mut(&partition)
                    && reading
                    && !fetch.paused
                    && fetch.start.is_none()
                {
                    // the client passes the batch over, and says so
                    tally.unreadable += 1;
                    fetch.at += 1 + self.dice.below(3);
                    if !self.sabotaged(Sabotage::UnreadableIsPassedOver) {
                        self.on(Event::Unreadable {
                            partition,
                            offset: position.get(),
                            why: "it fails its checksum".to_owned(),
                        });
                    }
                }
            }
            2 => {
                if let Some(fetch) = self.consumer.assigned.get_mut(&partition)
                    && reading
                {
                    // nothing is fetched any more
                    fetch.paused = true;
                    tally.outside += 1;
                }
                self.on(Event::Outside(partition));
            }
            _ => {
                let event = if self.dice.chance(500) {
                    Event::Barred {
                        partition,
                        obstacle: Obstacle::TopicReplaced {
                            stored: "a".to_owned(),
                            found: "b".to_owned(),
                        },
                    }
                } else {
                    Event::Stands {
                        partition,
                        position,
                    }
                };
                self.on(event);
            }
        }
    }

    /// Takes some records of one partition that is fetched.
    fn take_some(&mut self, log: &Log, tally: &mut Tally) -> Result<(), String> {
        let fetched: Vec<_> = self
            .consumer
            .assigned
            .iter()
            .filter(|(_, fetch)| !fetch.paused)
            .map(|(&tp, fetch)| (tp, fetch.at, fetch.start))
            .collect();
        if fetched.is_empty() {
            return Ok(());
        }
        let (tp, mut at, start) = self.dice.pick(&fetched);
        if let Some(start) = start {
            at = log.partitions[&tp].seek(start.get());
            // the log gives out whole batches
            if self.dice.chance(200) {
                at = at.saturating_sub(self.dice.below(6));
            }
        }
        // an end of the log that was seen before a rewind, or before more was written
        if self.dice.chance(20)
            && let Some(next) = self.engine.position(tp)
            && next > NextOffset::ZERO
        {
            let past = self.dice.below(usize::try_from(next.get()).unwrap_or(0));
            self.engine.end_of_log(tp, NextOffset::at(past as i64));
        }
        let partition = &log.partitions[&tp];
        for _ in 0..=self.dice.below(12) {
            if at >= partition.visible {
                if at == partition.visible && self.dice.chance(500) {
                    let end = NextOffset::at(partition.visible_end());
                    self.engine.end_of_log(tp, end);
                }
                break;
            }
            let entry = &partition.entries[at];
            let record = Record {
                offset: entry.offset,
                received_at: EventTime::from_micros(entry.received),
                value: entry.value.as_deref(),
                // every other record without a value is a heartbeat
                heartbeat: (entry.value.is_none() && entry.offset % 2 == 0)
                    .then(|| EventTime::from_micros(entry.received)),
            };
            let held = self.ownership.is_reading(tp);
            match self.engine.record(tp, record) {
                Intake::Unassigned if held => return Err(format!("{tp} is read and not assigned")),
                Intake::Unassigned => {}
                taken if !held => {
                    // what is halted or drained is at rest
                    return Err(format!("{tp} is not read, and a record is {taken:?}"));
                }
                Intake::Stale => tally.stale += 1,
                Intake::Buffered | Intake::Skipped | Intake::Heartbeat => {}
            }
            at += 1;
        }
        if let Some(fetch) = self.consumer.assigned.get_mut(&tp) {
            fetch.at = at;
            fetch.start = None;
        }
        Ok(())
    }
}
