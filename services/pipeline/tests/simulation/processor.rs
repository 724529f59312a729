//! A simulated processor: engine, commit protocol and claims, put together as the real runner does it. One connection, on
//! which a claim or a flush is under way, while intake goes on.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use clickstream_pipeline::{
    commit::{Remedy, Rules, Settlement, SketchCache, Unsettled, settle},
    engine::{Engine, Flush, Intake, Record, Recovered},
    event::EventTime,
    offset::{NextOffset, TopicPartition},
    window::TumblingWindow,
};

use crate::{
    database::{Error, Shared},
    dice::Dice,
    log::Log,
    sabotage::Sabotage,
    scenario::Scenario,
    transaction::Connection,
};

/// How often things happened, to see that a run reaches what it is meant to reach.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Steps of the scheduler.
    pub steps: u64,
    /// Steps of the longest run.
    pub longest: u64,
    /// Flushes that were committed.
    pub flushes: u64,
    /// Claims that were granted.
    pub claims: u64,
    /// Partitions that the fence refused.
    pub fenced: u64,
    /// Rows written by COPY.
    pub copied: u64,
    /// Flushes in which a row was called new and was not.
    pub distrusted: u64,
    /// Rows that only the database refused.
    pub refused: u64,
    /// Flushes that were repeated.
    pub repeated: u64,
    /// Connections lost before and during a commit.
    pub reclaimed: u64,
    /// Records that were read although they had been taken already.
    pub stale: u64,
    /// Processes killed.
    pub killed: u64,
    /// Crashes of the database.
    pub crashes: u64,
    /// Partitions moved.
    pub moved: u64,
    /// Late events whose twin was stored by a transaction that was open when they were looked up.
    pub overtaken: u64,
}

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

enum Work {
    Flush(Task<Settled>),
    Claim(Task<(Connection, TopicPartition, Result<Recovered, Error>)>),
}

struct Settled {
    connection: Connection,
    flush: Flush,
    cache: SketchCache,
    result: Result<Settlement, Unsettled<Error>>,
}

/// One processor.
pub struct Processor {
    scenario: Rc<Scenario>,
    database: Shared,
    rules: Rules,
    dice: Dice,
    engine: Engine,
    /// Absent while work is under way.
    connection: Option<Connection>,
    cache: Option<SketchCache>,
    work: Option<Work>,
    retry: Option<Flush>,
    /// What the group assigned, and where reading stands once it is claimed.
    assigned: BTreeMap<TopicPartition, Option<usize>>,
    /// Partitions whose sketches are forgotten as soon as the cache is back.
    forget: Vec<TopicPartition>,
    /// Where reading last stood (for sabotage only).
    stood: BTreeMap<TopicPartition, usize>,
    /// A flush to send again under new claims (for sabotage only).
    resend: Option<Flush>,
}

impl Processor {
    /// A processor without partitions. `number` is new for every process.
    pub fn start(number: u64, scenario: &Rc<Scenario>, database: &Shared) -> Self {
        let spec = &scenario.spec;
        Self {
            engine: Engine::new(spec, 0, scenario.seed ^ number),
            rules: Rules {
                windows: TumblingWindow::new(spec.window_micros),
                policy: spec.late_policy,
                final_until: scenario.final_until.map(EventTime::from_micros),
            },
            dice: Dice::new(scenario.seed, 100 + number),
            connection: Some(Connection::open(database)),
            cache: Some(SketchCache::default()),
            work: None,
            retry: None,
            assigned: BTreeMap::new(),
            forget: Vec::new(),
            stood: BTreeMap::new(),
            resend: None,
            scenario: Rc::clone(scenario),
            database: Rc::clone(database),
        }
    }

    /// The group gives it a partition.
    pub fn assign(&mut self, tp: TopicPartition) {
        self.assigned.entry(tp).or_default();
    }

    /// The group has taken a partition away.
    pub fn revoke(&mut self, tp: TopicPartition) {
        self.lose(tp);
        self.assigned.remove(&tp);
        self.resend = None;
    }

    /// Does one thing.
    ///
    /// # Errors
    /// What must not happen.
    pub fn step(&mut self, log: &Log, tally: &mut Tally) -> Result<(), String> {
        if self.work.is_some() && self.dice.chance(600) {
            return self.poll(log, tally);
        }
        if self.work.is_none() && self.dice.chance(500) {
            if self.lost_while_idle() {
                self.reconnect(Vec::new());
            }
            if self.begin_work() {
                return Ok(());
            }
        }
        self.read(log, tally)
    }

    fn lost_while_idle(&mut self) -> bool {
        let closed = self.connection.as_ref().is_some_and(Connection::is_closed);
        // what waits for a repetition finds out by itself
        closed
            && self.retry.is_none()
            && self.dice.chance(500)
            && !self.sabotaged(Sabotage::IdleLossGoesUnnoticed)
    }

    /// Starts a flush or a claim, if there is one to start.
    fn begin_work(&mut self) -> bool {
        let (Some(mut connection), Some(mut cache)) = (self.connection.take(), self.cache.take())
        else {
            return false;
        };
        let unclaimed: Vec<_> = self
            .assigned
            .iter()
            .filter(|(_, at)| at.is_none())
            .map(|(&tp, _)| tp)
            .collect();
        if self.retry.is_none() && !unclaimed.is_empty() && self.dice.chance(500) {
            let tp = self.dice.pick(&unclaimed);
            self.cache = Some(cache);
            self.work = Some(Work::Claim(Box::pin(async move {
                let claimed = connection.claim(tp).await;
                (connection, tp, claimed)
            })));
            return true;
        }
        let due = self.engine.buffered_rows() >= self.scenario.flush_rows
            || self.dice.chance(self.scenario.eagerness);
        let flush = self.retry.take().or_else(|| {
            due.then(|| self.engine.take_flush(self.dice.chance(300)))
                .flatten()
        });
        let Some(mut flush) = flush else {
            self.connection = Some(connection);
            self.cache = Some(cache);
            return false;
        };
        let rules = self.rules;
        self.work = Some(Work::Flush(Box::pin(async move {
            let result = settle(&mut connection, &mut flush, &mut cache, &rules).await;
            Settled {
                connection,
                flush,
                cache,
                result,
            }
        })));
        true
    }

    fn poll(&mut self, log: &Log, tally: &mut Tally) -> Result<(), String> {
        let mut context = Context::from_waker(Waker::noop());
        match &mut self.work {
            Some(Work::Flush(task)) => {
                if let Poll::Ready(settled) = task.as_mut().poll(&mut context) {
                    self.work = None;
                    return self.settled(settled, tally);
                }
            }
            Some(Work::Claim(task)) => {
                if let Poll::Ready((connection, tp, claimed)) = task.as_mut().poll(&mut context) {
                    self.work = None;
                    self.claimed(connection, tp, claimed, log, tally);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn claimed(
        &mut self,
        connection: Connection,
        tp: TopicPartition,
        claimed: Result<Recovered, Error>,
        log: &Log,
        tally: &mut Tally,
    ) {
        self.connection = Some(connection);
        let mut recovered = match claimed {
            Ok(recovered) => recovered,
            Err(Error::RolledBack) => return,
            Err(_) => return self.reconnect(Vec::new()),
        };
        // taken away while the claim was under way
        if !self.assigned.contains_key(&tp) {
            return;
        }
        tally.claims += 1;
        self.lose(tp);
        if let Some(flush) = &mut self.resend
            && let Some(span) = flush.batch.spans.get_mut(&tp)
        {
            span.from = recovered.next;
            recovered.next = recovered.next.max(span.to);
            recovered.clock = span.clock.clone();
            flush.claims.insert(tp, recovered.claim);
        }
        let mut at = log.partitions[&tp].seek(recovered.next.get());
        if self.dice.chance(200) {
            at = at.saturating_sub(self.dice.below(6));
        }
        if self.sabotaged(Sabotage::QueueOutlivesClaim) {
            at = self.stood.get(&tp).copied().unwrap_or(at);
        }
        self.engine.assign(tp, recovered);
        self.assigned.insert(tp, Some(at));
        let all_claimed = self.assigned.values().all(Option::is_some);
        if all_claimed && self.retry.is_none() {
            self.retry = self.resend.take();
        }
    }

    fn settled(&mut self, settled: Settled, tally: &mut Tally) -> Result<(), String> {
        let Settled {
            connection,
            mut flush,
            cache,
            result,
        } = settled;
        self.connection = Some(connection);
        self.cache = Some(cache);
        for tp in std::mem::take(&mut self.forget) {
            self.forget(tp);
        }
        for tp in std::mem::take(&mut flush.fenced) {
            tally.fenced += 1;
            self.lose(tp);
        }
        match result {
            Ok(settlement) => {
                tally.flushes += 1;
                tally.copied += settlement.copied as u64;
                tally.refused += settlement.refused as u64;
                tally.distrusted += u64::from(!settlement.distrusted.is_empty());
                if settlement.deltas.values().any(|d| !d.counters.conserved()) {
                    return Err("a settlement's counters are not conserved".to_owned());
                }
                self.engine.distrust(settlement.distrusted);
            }
            Err(unsettled) => match unsettled.remedy {
                Remedy::Repeat { .. } => {
                    tally.repeated += 1;
                    self.retry = Some(flush);
                }
                Remedy::Reclaim => {
                    tally.reclaimed += 1;
                    let moved = flush.claims.keys().copied().collect();
                    if unsettled.error == Error::Unanswered
                        && self.sabotaged(Sabotage::RepeatAfterUnknownCommit)
                    {
                        self.resend = Some(flush);
                    }
                    self.reconnect(moved);
                }
                remedy => {
                    return Err(format!(
                        "a flush was handed back with {remedy:?} for {:?}",
                        unsettled.error
                    ));
                }
            },
        }
        Ok(())
    }

    /// The connection is gone and with it what was under way: forgets the partitions, which are then claimed again.
    fn reconnect(&mut self, moved: Vec<TopicPartition>) {
        self.connection = Some(Connection::open(&self.database));
        let lost = if self.sabotaged(Sabotage::OnlyTheFlushIsReclaimed) {
            moved
        } else {
            self.assigned.keys().copied().collect()
        };
        for tp in lost {
            self.lose(tp);
        }
    }

    /// Forgets everything about a partition but the fact that the group assigned it.
    fn lose(&mut self, tp: TopicPartition) {
        self.engine.release(tp);
        self.forget(tp);
        if let Some(at) = self.assigned.get_mut(&tp)
            && let Some(at) = at.take()
        {
            self.stood.insert(tp, at);
        }
    }

    fn forget(&mut self, tp: TopicPartition) {
        if self.sabotaged(Sabotage::CacheOutlivesClaim) {
            return;
        }
        match &mut self.cache {
            Some(cache) => cache.forget(tp),
            None => self.forget.push(tp),
        }
    }

    /// Reads some records of one partition, unless there is enough waiting.
    fn read(&mut self, log: &Log, tally: &mut Tally) -> Result<(), String> {
        let held: Vec<_> = self
            .assigned
            .iter()
            .filter_map(|(&tp, at)| at.map(|at| (tp, at)))
            .collect();
        if held.is_empty() || self.engine.buffered_rows() >= 2 * self.scenario.flush_rows {
            return Ok(());
        }
        let (tp, mut at) = self.dice.pick(&held);
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
                if self.dice.chance(500) {
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
            match self.engine.record(tp, record) {
                Intake::Unassigned => return Err(format!("{tp} is held and not assigned")),
                Intake::Stale => tally.stale += 1,
                Intake::Buffered | Intake::Skipped | Intake::Heartbeat => {}
            }
            at += 1;
        }
        self.assigned.insert(tp, Some(at));
        Ok(())
    }

    fn sabotaged(&self, by: Sabotage) -> bool {
        self.scenario.sabotage == Some(by)
    }
}
