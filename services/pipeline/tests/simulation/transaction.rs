//! The commit protocol's side of the database. Every statement yields before it runs, so that a
//! scheduler can put any other transaction, crash or rebalance between two of them.

use std::{cell::RefMut, collections::BTreeMap, future::poll_fn, rc::Rc, sync::Arc, task::Poll};

use clickstream_pipeline::{
    admission::{Admission, PageHash},
    batch::{Batch, Row},
    checkpoint::Counters,
    commit::{Advance, Position, Sink, StoredTwin, Transaction},
    engine::Recovered,
    offset::{NextOffset, TopicPartition},
    ownership::{Claimed, Grant, Obstacle},
    settle::{HitDelta, PartDelta, PartKey},
    spec::SemanticSpec,
    watermark::EventClock,
    window::Window,
};

use crate::{
    database::{Database, Error, Lock, Shared},
    log::{Facts, REFUSED},
    sabotage::Sabotage,
    state::{Anchor, Key, Letter, Part, Step, Stored},
};

/// Lets every other task run first.
pub async fn pause() {
    let mut paused = false;
    poll_fn(move |_| {
        if std::mem::replace(&mut paused, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// A client's connection.
pub struct Connection {
    database: Shared,
    id: u64,
}

/// A transaction; rolled back when dropped.
pub struct Tx {
    database: Shared,
    id: u64,
}

impl Connection {
    /// Connects.
    pub fn open(database: &Shared) -> Self {
        let id = database.borrow_mut().connect();
        Self {
            database: Rc::clone(database),
            id,
        }
    }

    /// Whether the server or the way to it is gone.
    pub fn is_closed(&self) -> bool {
        !self.database.borrow().is_alive(self.id)
    }

    /// Takes a partition over: ends the previous owner's backend, locks the checkpoint, writes a
    /// new token and an anchor with these rules, and reads where to go on. A position beyond the
    /// end of the log is left alone.
    ///
    /// # Errors
    /// Any fault; nothing is known then, and the claim is made again.
    pub async fn claim(
        &mut self,
        tp: TopicPartition,
        log_end: i64,
        rules: &Arc<SemanticSpec>,
    ) -> Result<Claimed, Error> {
        let read = |db: &Database| {
            db.state.checkpoints.get(&tp).map_or_else(
                || (NextOffset::ZERO, EventClock::default(), true),
                |row| {
                    let times: Vec<_> = row.clock.times().collect();
                    (
                        row.next,
                        EventClock::restore(row.clock.t(), &times),
                        row.next == NextOffset::ZERO,
                    )
                },
            )
        };
        pause().await;
        let early = {
            let mut db = self.database.borrow_mut();
            let previous = db.state.checkpoints.get(&tp).map(|row| row.backend);
            if let Some(previous) = previous
                && previous != self.id
                && db.scenario.terminates
            {
                db.terminate(previous);
            }
            read(&db)
        };
        let tx = self.begin().await?;
        tx.lock(Lock::Checkpoint(tp)).await?;
        let next = read(&*tx.step().await?).0.get();
        if next > log_end {
            return Ok(Claimed::Halted(Obstacle::LogShrunk { log_end, next }));
        }
        let claim = {
            let mut db = tx.step().await?;
            let claim = db.new_claim(tp);
            db.own(tx.id)?.changes.claim = Some((tp, claim, self.id));
            claim
        };
        let late = read(&*tx.step().await?);
        tx.write_anchor(tp, rules, 0).await?;
        let database = Rc::clone(&self.database);
        tx.commit().await?;

        let mut db = database.borrow_mut();
        let (next, mut clock, first) = late;
        // `first` only spares suspects; a processor that believes it wrongly is corrected by the
        // primary key
        let first = first || db.scenario.overconfident;
        if db.sabotaged(Sabotage::ClockForgottenAtClaim) {
            clock = EventClock::default();
        } else if db.sabotaged(Sabotage::ClaimIsTorn) {
            clock = early.1;
        }
        db.note(|| format!("connection {}: holds {tp} from {next}", self.id));
        Ok(Claimed::Ours(Grant {
            recovered: Box::new(Recovered {
                claim,
                next,
                clock,
                first,
                rules: Arc::clone(rules),
            }),
            totals: Counters::default(),
            gap: None,
            gaps: Vec::new(),
        }))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.database.borrow_mut().disconnect(self.id);
    }
}

impl Sink for Connection {
    type Transaction<'a> = Tx;
    type Error = Error;

    async fn begin(&mut self) -> Result<Tx, Error> {
        pause().await;
        let id = self.database.borrow_mut().begin(self.id)?;
        Ok(Tx {
            database: Rc::clone(&self.database),
            id,
        })
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        self.database.borrow_mut().dropped(self.id);
    }
}

impl Tx {
    /// Notes the rules from where the partition stands on, or `off` behind it.
    async fn write_anchor(
        &self,
        tp: TopicPartition,
        rules: &Arc<SemanticSpec>,
        off: i64,
    ) -> Result<(), Error> {
        let mut db = self.step().await?;
        let row = db.state.checkpoints.get(&tp);
        let (next, clock, counters) = row.map_or_else(Default::default, |row| {
            (row.next.get(), row.clock.clone(), row.counters)
        });
        let rules = Arc::clone(rules);
        let anchor = Anchor {
            rules,
            clock,
            counters,
        };
        let anchors = &mut db.own(self.id)?.changes.anchors;
        anchors.insert((tp, next + off), anchor);
        Ok(())
    }

    /// Waits for the scheduler, then for bad luck.
    async fn step(&self) -> Result<RefMut<'_, Database>, Error> {
        pause().await;
        let mut db = self.database.borrow_mut();
        db.interrupt(self.id)?;
        Ok(db)
    }

    async fn lock(&self, lock: Lock) -> Result<(), Error> {
        while !self.database.borrow_mut().lock(self.id, &lock)? {
            pause().await;
        }
        Ok(())
    }

    /// Waits for whoever writes this key, unless sabotaged, and lets another task in now and then.
    async fn key(&self, lock: Lock) -> Result<(), Error> {
        let (waits, interrupted) = {
            let mut db = self.database.borrow_mut();
            (!db.sabotaged(Sabotage::TwinsDoNotWait), db.dice.chance(100))
        };
        if interrupted {
            pause().await;
        }
        if waits {
            self.lock(lock).await?;
        }
        Ok(())
    }
}

impl Transaction for Tx {
    type Error = Error;

    async fn fence(&mut self, positions: &[Position]) -> Result<Vec<TopicPartition>, Error> {
        let mut held = Vec::new();
        for position in positions {
            let tp = position.partition;
            let unfenced = self.step().await?.sabotaged(Sabotage::NoFence);
            if unfenced {
                held.push(tp);
                continue;
            }
            // the statement's snapshot decides which rows are locked, the locked row which are
            // returned
            if !stands(&self.database.borrow(), position) {
                continue;
            }
            self.lock(Lock::Checkpoint(tp)).await?;
            if stands(&self.database.borrow(), position) {
                held.push(tp);
            }
        }
        Ok(held)
    }

    async fn copy_new(
        &mut self,
        batch: &Batch,
        rows: &[u32],
        meanwhile: impl FnOnce(),
    ) -> Result<(), Error> {
        self.step().await?;
        meanwhile();
        for &at in rows {
            let row = stored(batch, &batch.rows[at as usize]);
            check(&row)?;
            let key = key_of(&row);
            self.key(Lock::Event(key)).await?;
            let mut db = self.database.borrow_mut();
            db.own(self.id)?;
            if db.state.events.contains_key(&key)
                || db.own(self.id)?.changes.events.insert(key, row).is_some()
            {
                return Err(Error::Unique);
            }
        }
        Ok(())
    }

    async fn insert_suspects(&mut self, batch: &Batch, rows: &[u32]) -> Result<Vec<u32>, Error> {
        self.step().await?;
        let mut inserted = Vec::new();
        for &at in rows {
            let row = stored(batch, &batch.rows[at as usize]);
            check(&row)?;
            let key = key_of(&row);
            self.key(Lock::Event(key)).await?;
            let mut db = self.database.borrow_mut();
            let there = db.state.events.contains_key(&key);
            let changes = &mut db.own(self.id)?.changes;
            if !there && !changes.events.contains_key(&key) {
                changes.events.insert(key, row);
                inserted.push(at);
            }
        }
        Ok(inserted)
    }

    async fn insert_late(&mut self, batch: &Batch, rows: &[u32]) -> Result<Vec<u32>, Error> {
        let constrained = self.step().await?.scenario.ledger_refuses;
        let mut inserted = Vec::new();
        for &at in rows {
            let row = stored(batch, &batch.rows[at as usize]);
            if constrained {
                check(&row)?;
            }
            let key = key_of(&row);
            self.key(Lock::Late(key)).await?;
            let mut db = self.database.borrow_mut();
            let there = db.state.late.contains_key(&key);
            let changes = &mut db.own(self.id)?.changes;
            if !there && !changes.late.contains_key(&key) {
                changes.late.insert(key, row);
                inserted.push(at);
            }
        }
        Ok(inserted)
    }

    async fn find_twins(&mut self, batch: &Batch, rows: &[u32]) -> Result<Vec<StoredTwin>, Error> {
        let mut db = self.step().await?;
        let seen = db.wal.len();
        let own = &mut db.own(self.id)?.changes;
        own.looked_up = Some(seen);
        let own = own.events.clone();
        // one answer for each key, as a join would give it, whichever of its rows it names
        let mut keys: BTreeMap<Key, u32> = BTreeMap::new();
        for &at in rows {
            keys.insert(key_of(&stored(batch, &batch.rows[at as usize])), at);
        }
        let twin = |(key, &at): (&Key, &u32)| {
            let (source, offset, index) = db.state.events.get(key).or_else(|| own.get(key))?.place;
            Some(StoredTwin {
                row: at,
                source,
                offset,
                index,
            })
        };
        Ok(keys.iter().filter_map(twin).collect())
    }

    async fn remove_late(&mut self, batch: &Batch, rows: &[u32]) -> Result<(), Error> {
        let mut db = self.step().await?;
        let own = &mut db.own(self.id)?.changes;
        for &at in rows {
            own.late
                .remove(&key_of(&stored(batch, &batch.rows[at as usize])));
        }
        Ok(())
    }

    async fn insert_dead_letters(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut db = self.step().await?;
        let at_once = db.sabotaged(Sabotage::DeadLettersOutsideTransaction);
        let one = db.sabotaged(Sabotage::BatchHasOneDeadLetter);
        for letter in &batch.dead_letters {
            let place = (letter.source, letter.offset, letter.index);
            if one && letter.index != 0 {
                continue;
            }
            let row = Letter {
                reason: letter.reason,
                received: letter.received_at.micros(),
                payload: batch.payload(letter).to_vec(),
            };
            if at_once {
                db.state.letters.insert(place, row);
            } else {
                db.own(self.id)?.changes.letters.insert(place, row);
            }
        }
        Ok(())
    }

    async fn admitted_pages(
        &mut self,
        parts: &[PartKey],
    ) -> Result<Vec<(PartKey, Vec<PageHash>)>, Error> {
        let db = self.step().await?;
        let forgotten = db.sabotaged(Sabotage::AdmittedPagesAreNotReadAgain);
        let admitted = |part: &PartKey| Some((*part, db.state.admitted.get(part)?.clone()));
        Ok(parts
            .iter()
            .filter(|_| !forgotten)
            .filter_map(admitted)
            .collect())
    }

    async fn admit_pages(&mut self, admissions: &[Admission]) -> Result<(), Error> {
        let mut db = self.step().await?;
        let pages = admissions.iter();
        let pages = pages.map(|admission| (admission.part, admission.pages.clone()));
        let pages: BTreeMap<_, _> = pages.collect();
        if db.sabotaged(Sabotage::AdmittedOutsideTransaction) {
            db.state.admit(&pages);
        } else {
            db.own(self.id)?.changes.admitted = pages;
        }
        Ok(())
    }

    async fn add_hits(&mut self, hits: &[HitDelta]) -> Result<(), Error> {
        let shared = self.step().await?.scenario.shared_lane;
        for delta in hits {
            let key = (delta.window.start.micros(), delta.url.clone());
            if shared {
                self.lock(Lock::Hit(key.0, key.1.clone())).await?;
            }
            let mut db = self.database.borrow_mut();
            *db.own(self.id)?.changes.hits.entry(key).or_default() += delta.hits;
        }
        Ok(())
    }

    async fn write_parts(&mut self, parts: &[(PartKey, Window, &PartDelta)]) -> Result<(), Error> {
        let mut db = self.step().await?;
        let replaces = db.sabotaged(Sabotage::VisitorsAreReplaced);
        let own = &mut db.own(self.id)?.changes;
        own.replaces = replaces;
        for (key, _, delta) in parts {
            let part = Part {
                hits: delta.hits,
                bots: delta.bot_hits,
                visitors: delta.visitors.clone(),
                sessions: delta.sessions.clone(),
            };
            own.parts.insert(*key, part);
        }
        Ok(())
    }

    async fn anchor(
        &mut self,
        positions: &[Position],
        rules: &Arc<SemanticSpec>,
    ) -> Result<(), Error> {
        let (off, none) = {
            let db = self.step().await?;
            let off = i64::from(db.sabotaged(Sabotage::AnchorOneOff));
            (off, db.sabotaged(Sabotage::ChangeWithoutAnchor))
        };
        for position in positions.iter().filter(|_| !none) {
            self.write_anchor(position.partition, rules, off).await?;
        }
        Ok(())
    }

    async fn advance(&mut self, advances: &[Advance]) -> Result<(), Error> {
        let mut db = self.step().await?;
        for advance in advances {
            let tp = advance.position.partition;
            if !db.sabotaged(Sabotage::NoFence) && !stands(&db, &advance.position) {
                return Err(Error::NotMoved);
            }
            let step = Step {
                from: advance.delta.from,
                to: advance.delta.to,
                clock: advance.delta.clock.clone(),
                counters: advance.delta.counters,
                at_end: advance.at_end,
            };
            if db.sabotaged(Sabotage::AdvanceOutsideTransaction) {
                db.state.advance(tp, &step);
            } else {
                db.own(self.id)?.changes.steps.insert(tp, step);
            }
        }
        Ok(())
    }

    async fn commit(self) -> Result<(), Error> {
        let arrives = {
            let mut db = self.step().await?;
            let per_mille = db.scenario.commit_faults;
            let arrives = if db.fault(per_mille) {
                match db.dice.below(4) {
                    0 => {
                        db.end(self.id);
                        return Err(Error::RolledBack);
                    }
                    1 => db.end(self.id),
                    2 => db.commit(self.id),
                    _ => {
                        db.commit_arrives(self.id)?;
                        db.lose_client(self.id);
                    }
                }
                false
            } else {
                true
            };
            if arrives {
                db.commit_arrives(self.id)?;
            } else {
                db.note(|| format!("tx {}: commit without an answer", self.id));
            }
            arrives
        };
        if !arrives {
            return Err(Error::Unanswered);
        }
        pause().await;
        {
            let mut db = self.database.borrow_mut();
            if db.own(self.id).is_err() {
                return Err(Error::Unanswered);
            }
            db.commit(self.id);
        }
        // the answer is on its way while the client may die
        pause().await;
        Ok(())
    }
}

fn stands(db: &Database, position: &Position) -> bool {
    db.state
        .checkpoints
        .get(&position.partition)
        .is_some_and(|row| row.claim == position.claim && row.next == position.expected)
}

/// What the database cannot take although the decoder could.
fn check(row: &Stored) -> Result<(), Error> {
    if row.facts.url.starts_with(REFUSED) {
        return Err(Error::Constraint);
    }
    Ok(())
}

fn key_of(row: &Stored) -> Key {
    (row.facts.id, row.facts.ts.div_euclid(86_400_000_000))
}

fn stored(batch: &Batch, row: &Row) -> Stored {
    let texts = batch.texts(row);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Stored {
        place: row.place(),
        facts: Facts {
            id: row.event_id.as_u128(),
            ts: row.event_ts.micros(),
            received: row.received_at.micros(),
            user: texts.user_id.to_owned(),
            url: texts.url.to_owned(),
            referrer: owned(texts.referrer),
            ip: row.ip,
            session: owned(texts.session_id),
            agent: owned(texts.user_agent),
        },
        late: row.late,
    }
}
