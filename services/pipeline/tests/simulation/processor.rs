//! A simulated processor: engine, ownership and commit protocol of the core, driven as the real
//! service does it. This is its writer, with one connection on which claims or a flush are under
//! way while intake goes on; see `reader` for the rest.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use clickstream_pipeline::{
    admission::AdmittedPages,
    commit::{Remedy, Settlement, Unsettled, settle},
    engine::{Engine, Flush},
    event::EventTime,
    offset::TopicPartition,
    ownership::{Action, ClaimRequest, Claimed, Event, Ownership, Standing, Timing},
    spec::SemanticSpec,
};

use crate::{
    database::{Error, Shared},
    dice::Dice,
    log::Log,
    reader::Consumer,
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
    /// Questions for the bounds of a log that nobody answered.
    pub unanswered: u64,
    /// Claims that found the stored position beyond an end of the log that was asked for too early.
    pub outdated: u64,
    /// Batches that could not be read.
    pub unreadable: u64,
    /// Positions that were taken for lying outside the log.
    pub outside: u64,
    /// Claims that were given back.
    pub released: u64,
    /// Seeks that failed.
    pub unsought: u64,
    /// Changes of the rules that a processor has followed.
    pub changed: u64,
    /// Partitions of committed flushes that began with other rules.
    pub anchored: u64,
    /// Hits that were counted as those of other pages.
    pub folded: u64,
}

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

enum Work {
    Flush(Task<Settled>),
    Claim(Task<Claims>),
}

struct Settled {
    connection: Connection,
    pages: AdmittedPages,
    flush: Flush,
    result: Result<Settlement, Unsettled<Error>>,
}

struct Claims {
    connection: Connection,
    result: Result<Vec<(TopicPartition, Claimed)>, Error>,
}

/// A step of the scheduler is a millisecond, and a partition that is halted is looked at soon
/// again.
const TIMING: Timing = Timing {
    examine: Duration::from_millis(100),
    confirm: Duration::from_millis(5),
    again: Duration::from_millis(5),
    again_max: Duration::from_millis(100),
    answer: Duration::from_millis(60),
};

/// One processor.
pub struct Processor {
    pub scenario: Rc<Scenario>,
    database: Shared,
    pub dice: Dice,
    pub engine: Engine,
    pub ownership: Ownership,
    pub consumer: Consumer,
    now: Duration,
    /// Absent while work is under way.
    connection: Option<Connection>,
    /// What it knows of admitted pages; taken along by the flush under way.
    pages: AdmittedPages,
    work: Option<Work>,
    retry: Option<Flush>,
    /// Partitions of the flush under way.
    pub in_flight: BTreeSet<TopicPartition>,
    /// Faults of reading that are left.
    pub faults_left: usize,
    /// A flush to send again under new claims (for sabotage only).
    resend: Option<Flush>,
}

impl Processor {
    /// A processor without partitions, which begins with these rules. `number` is new for every
    /// process.
    pub fn start(
        number: u64,
        scenario: &Rc<Scenario>,
        rules: &SemanticSpec,
        database: &Shared,
    ) -> Self {
        Self {
            engine: Engine::new(rules, 0, scenario.seed ^ number),
            ownership: Ownership::new(TIMING),
            consumer: Consumer::default(),
            now: Duration::ZERO,
            dice: Dice::new(scenario.seed, 100 + number),
            connection: Some(Connection::open(database)),
            pages: AdmittedPages::default(),
            work: None,
            retry: None,
            in_flight: BTreeSet::new(),
            // every other seed reads without trouble: what is claimed again for one reason hides
            // that it was not for another
            faults_left: match scenario.seed % 2 {
                0 => scenario.fault_budget,
                _ => 0,
            },
            resend: None,
            scenario: Rc::clone(scenario),
            database: Rc::clone(database),
        }
    }

    /// Tells the core what has happened, and does what it says to the engine.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let actions = self.ownership.on(event, self.now);
        for action in &actions {
            match action {
                Action::Drop(tp) => self.engine.release(*tp),
                Action::Close(tp) => self.engine.close(*tp),
                Action::Begin {
                    partition, grant, ..
                } => {
                    let mut recovered = (*grant.recovered).clone();
                    if self.sabotaged(Sabotage::ChangeAfterClaimGoesUnnoticed) {
                        recovered.rules = Arc::clone(self.engine.rules());
                    }
                    self.engine.assign(*partition, recovered);
                }
                _ => {}
            }
        }
        actions
    }

    /// Follows these rules from the next flush on; tells whether they are others.
    pub fn change_rules(&mut self, rules: &SemanticSpec) -> bool {
        let changed = self.engine.change_rules(rules);
        changed.expect("windows stay as they are")
    }

    /// The group has taken a partition away.
    pub fn revoke(&mut self, tp: TopicPartition) {
        self.end_callback();
        let release = self.dice.chance(700);
        self.on(Event::Revoked {
            partitions: vec![tp],
            release,
        });
        self.consumer.unassign(tp);
        self.resend = None;
    }

    /// Does one thing.
    ///
    /// # Errors
    /// What must not happen.
    pub fn step(&mut self, log: &Log, tally: &mut Tally) -> Result<(), String> {
        self.now += Duration::from_millis(1);
        if self.work.is_some() && self.dice.chance(600) {
            return self.poll(tally);
        }
        if self.work.is_none() && self.dice.chance(500) {
            if self.lost_while_idle() {
                self.reconnect(Vec::new());
            }
            if self.begin_work(tally) {
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

    /// Starts a flush or claims, if there is something to start.
    fn begin_work(&mut self, tally: &mut Tally) -> bool {
        if self.retry.is_none() && self.dice.chance(500) {
            let requests: Vec<_> = self
                .on(Event::ClaimTurn)
                .into_iter()
                .filter_map(|action| match action {
                    Action::Claim(request) => Some(request),
                    _ => None,
                })
                .collect();
            if !requests.is_empty()
                && let Some(connection) = self.connection.take()
            {
                let rules = Arc::clone(self.engine.rules());
                let claims = claim_all(connection, requests, rules);
                self.work = Some(Work::Claim(Box::pin(claims)));
                return true;
            }
            // the database knows nothing of it here: a claim that was given back is ended like any
            // other
            tally.released += self.on(Event::ReleaseTurn).len() as u64;
            self.on(Event::Released);
        }
        let due = self.engine.buffered_rows() >= self.scenario.flush_rows
            || self.dice.chance(self.scenario.eagerness);
        let flush = self.retry.take().or_else(|| {
            due.then(|| self.engine.take_flush(self.dice.chance(300)))
                .flatten()
        });
        let Some(mut flush) = flush else {
            return false;
        };
        let Some(mut connection) = self.connection.take() else {
            return false;
        };
        self.in_flight = flush.claims.keys().copied().collect();
        if self.sabotaged(Sabotage::FlushFollowsNewerRules) {
            flush.rules = Arc::clone(self.engine.rules());
        }
        // ahead of its transaction, as a processor does it while the flush before is being
        // committed
        if flush.batch.rows.len().is_multiple_of(2) {
            flush.plan();
        }
        let final_until = self.scenario.final_until.map(EventTime::from_micros);
        let mut pages = std::mem::take(&mut self.pages);
        self.work = Some(Work::Flush(Box::pin(async move {
            let result = settle(&mut connection, &mut flush, final_until, &mut pages).await;
            Settled {
                connection,
                pages,
                flush,
                result,
            }
        })));
        true
    }

    fn poll(&mut self, tally: &mut Tally) -> Result<(), String> {
        let mut context = Context::from_waker(Waker::noop());
        match &mut self.work {
            Some(Work::Flush(task)) => {
                if let Poll::Ready(settled) = task.as_mut().poll(&mut context) {
                    self.work = None;
                    return self.settled(settled, tally);
                }
            }
            Some(Work::Claim(task)) => {
                if let Poll::Ready(claims) = task.as_mut().poll(&mut context) {
                    self.work = None;
                    self.claimed(claims, tally);
                }
            }
            None => {}
        }
        Ok(())
    }

    fn claimed(&mut self, claims: Claims, tally: &mut Tally) {
        self.connection = Some(claims.connection);
        let claimed = match claims.result {
            Ok(claimed) => claimed,
            Err(_) => {
                self.on(Event::ClaimsFailed);
                return self.reconnect(Vec::new());
            }
        };
        for (tp, mut outcome) in claimed {
            match &mut outcome {
                Claimed::Ours(grant) => {
                    tally.claims += 1;
                    if let Some(flush) = &mut self.resend
                        && let Some(span) = flush.batch.spans.get_mut(&tp)
                    {
                        let recovered = &mut grant.recovered;
                        span.from = recovered.next;
                        recovered.next = recovered.next.max(span.to);
                        recovered.clock = span.clock.clone();
                        flush.claims.insert(tp, recovered.claim);
                    }
                }
                Claimed::Halted(_) => tally.outdated += 1,
            }
            self.on(Event::Claimed {
                partition: tp,
                outcome,
            });
        }
        let claimed = |tp| {
            matches!(
                self.ownership.standing(tp),
                Some(Standing::Starting | Standing::Reading | Standing::Paused)
            )
        };
        if self.retry.is_none() && self.ownership.assigned().all(claimed) {
            self.retry = self.resend.take();
        }
    }

    fn settled(&mut self, settled: Settled, tally: &mut Tally) -> Result<(), String> {
        let Settled {
            connection,
            pages,
            mut flush,
            result,
        } = settled;
        self.connection = Some(connection);
        self.pages = pages;
        for partition in std::mem::take(&mut flush.fenced) {
            tally.fenced += 1;
            let pause = Duration::from_millis(self.dice.below(20) as u64);
            self.on(Event::Fenced { partition, pause });
        }
        match result {
            Ok(settlement) => {
                self.in_flight.clear();
                tally.flushes += 1;
                let spans = flush.batch.spans.values();
                tally.anchored += spans.filter(|span| span.new_rules).count() as u64;
                tally.copied += settlement.copied as u64;
                tally.folded += settlement.folded.values().sum::<u64>();
                tally.refused += settlement.refused as u64;
                tally.distrusted += u64::from(!settlement.distrusted.is_empty());
                if settlement.deltas.values().any(|d| !d.counters.conserved()) {
                    return Err("a settlement's counters are not conserved".to_owned());
                }
                self.engine.distrust(settlement.distrusted);
                if let Some(empty) = flush.batch.recycled() {
                    self.engine.reuse(empty);
                }
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

    /// The connection is gone and with it what was under way: forgets the partitions, which are
    /// then claimed again.
    fn reconnect(&mut self, moved: Vec<TopicPartition>) {
        self.connection = Some(Connection::open(&self.database));
        self.in_flight.clear();
        let pause = Duration::from_millis(self.dice.below(10) as u64);
        if self.sabotaged(Sabotage::OnlyTheFlushIsReclaimed) {
            for partition in moved {
                self.on(Event::Fenced { partition, pause });
            }
        } else {
            self.on(Event::SessionLost { pause });
        }
    }

    pub fn sabotaged(&self, by: Sabotage) -> bool {
        self.scenario.sabotage == Some(by)
    }
}

async fn claim_all(
    mut connection: Connection,
    requests: Vec<ClaimRequest>,
    rules: Arc<SemanticSpec>,
) -> Claims {
    let mut claimed = Vec::new();
    for request in requests {
        let claim = connection.claim(request.partition, request.log_end, &rules);
        match claim.await {
            Ok(outcome) => claimed.push((request.partition, outcome)),
            Err(error) => {
                return Claims {
                    connection,
                    result: Err(error),
                };
            }
        }
    }
    Claims {
        connection,
        result: Ok(claimed),
    }
}
