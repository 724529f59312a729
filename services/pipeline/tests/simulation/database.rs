//! An in-memory database with READ COMMITTED transactions: row locks that wait, deadlocks, backends
//! that outlive their client, crashes that lose the newest commits.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use clickstream_pipeline::{
    commit::{Failure, Remedy},
    engine::Claim,
    offset::TopicPartition,
};
use uuid::Uuid;

use crate::{
    dice::Dice,
    sabotage::Sabotage,
    scenario::Scenario,
    state::{Changes, Key, State},
};

/// The database as its clients share it.
pub type Shared = Rc<RefCell<Database>>;

/// What a transaction can hold until it ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Lock {
    /// A checkpoint's row.
    Checkpoint(TopicPartition),
    /// An entry in the primary key of the events.
    Event(Key),
    /// An entry in the unique key of the late ledger.
    Late(Key),
    /// A row of hits.
    Hit(i64, String),
}

/// Why a step failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Chosen as the victim of a deadlock, or rolled back for another passing cause.
    RolledBack,
    /// A unique key was violated.
    Unique,
    /// A constraint was violated.
    Constraint,
    /// The connection is gone before the commit was sent.
    Lost,
    /// The connection is gone while the commit was under way.
    Unanswered,
    /// A checkpoint did not move although the fence held it.
    NotMoved,
}

impl Failure for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::RolledBack => Remedy::Repeat { later: false },
            Self::Unique => Remedy::Distrust,
            Self::Constraint => Remedy::DeadLetter {
                detail: "violates constraint page_is_ours".to_owned(),
            },
            Self::Lost | Self::Unanswered => Remedy::Reclaim,
            Self::NotMoved => Remedy::Stop,
        }
    }
}

/// A transaction that has not ended.
pub struct Open {
    /// Its connection.
    connection: u64,
    /// What it has done so far.
    pub changes: Changes,
    held: Vec<Lock>,
    waiting: Option<Lock>,
    /// The commit has reached the server.
    committing: bool,
    /// Its client is gone and the server does not know yet.
    abandoned: bool,
}

/// The database.
pub struct Database {
    /// What is committed.
    pub state: State,
    /// Every commit since the beginning, as far as it was not lost.
    pub wal: Vec<Changes>,
    /// Commits that no crash can lose.
    durable: usize,
    open: BTreeMap<u64, Open>,
    locks: HashMap<Lock, u64>,
    alive: BTreeSet<u64>,
    serial: u64,
    /// Faults of steps and commits that are left.
    pub faults_left: usize,
    /// While a process is being killed: its transactions end when the server notices.
    pub killing: bool,
    /// What happened, for a failure's report.
    pub trace: Vec<String>,
    /// The seed's chances.
    pub dice: Dice,
    /// The seed's rules.
    pub scenario: Rc<Scenario>,
}

impl Database {
    /// An empty database.
    pub fn new(scenario: Rc<Scenario>) -> Self {
        Self {
            state: State::default(),
            wal: Vec::new(),
            durable: 0,
            open: BTreeMap::new(),
            locks: HashMap::new(),
            alive: BTreeSet::new(),
            serial: 0,
            faults_left: scenario.fault_budget,
            killing: false,
            trace: Vec::new(),
            dice: Dice::new(scenario.seed, 2),
            scenario,
        }
    }

    /// Whether the seed carries this deliberate bug.
    pub fn sabotaged(&self, by: Sabotage) -> bool {
        self.scenario.sabotage == Some(by)
    }

    /// Notes what happened.
    pub fn note(&mut self, event: impl FnOnce() -> String) {
        if crate::TRACE.get() {
            self.trace.push(event());
        }
    }

    /// A new connection.
    pub fn connect(&mut self) -> u64 {
        self.serial += 1;
        self.alive.insert(self.serial);
        self.serial
    }

    /// Whether a connection still works.
    pub fn is_alive(&self, connection: u64) -> bool {
        self.alive.contains(&connection)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection is gone.
    pub fn begin(&mut self, connection: u64) -> Result<u64, Error> {
        if !self.alive.contains(&connection) {
            return Err(Error::Lost);
        }
        self.serial += 1;
        let open = Open {
            connection,
            changes: Changes::default(),
            held: Vec::new(),
            waiting: None,
            committing: false,
            abandoned: false,
        };
        self.open.insert(self.serial, open);
        Ok(self.serial)
    }

    /// The transaction, unless the server has ended it.
    ///
    /// # Errors
    /// [`Error::Lost`] when it has.
    pub fn own(&mut self, tx: u64) -> Result<&mut Open, Error> {
        self.open
            .get_mut(&tx)
            .filter(|open| !open.abandoned)
            .ok_or(Error::Lost)
    }

    /// Whether a fault of this frequency happens now.
    pub fn fault(&mut self, per_mille: usize) -> bool {
        let happens = self.faults_left > 0 && self.dice.chance(per_mille);
        self.faults_left -= usize::from(happens);
        happens
    }

    /// What may go wrong at any step of a transaction.
    ///
    /// # Errors
    /// The connection is lost or the transaction is rolled back.
    pub fn interrupt(&mut self, tx: u64) -> Result<(), Error> {
        self.own(tx)?;
        let per_mille = self.scenario.step_faults;
        if !self.fault(per_mille) {
            return Ok(());
        }
        if self.dice.chance(500) {
            self.note(|| format!("tx {tx}: rolled back by a passing cause"));
            self.end(tx);
            return Err(Error::RolledBack);
        }
        self.note(|| format!("tx {tx}: connection lost"));
        self.lose_client(tx);
        Err(Error::Lost)
    }

    /// Takes a lock, or says that another transaction has it.
    ///
    /// # Errors
    /// [`Error::RolledBack`] for the victim of a deadlock.
    pub fn lock(&mut self, tx: u64, lock: &Lock) -> Result<bool, Error> {
        self.own(tx)?.waiting = None;
        match self.locks.get(lock) {
            Some(&holder) if holder == tx => return Ok(true),
            Some(_) => {}
            None => {
                self.locks.insert(lock.clone(), tx);
                self.own(tx)?.held.push(lock.clone());
                return Ok(true);
            }
        }
        let mut wanted = Some(lock.clone());
        while let Some(next) = wanted {
            let Some(&holder) = self.locks.get(&next) else {
                break;
            };
            if holder == tx {
                self.note(|| format!("tx {tx}: deadlock"));
                self.end(tx);
                return Err(Error::RolledBack);
            }
            wanted = self.open.get(&holder).and_then(|open| open.waiting.clone());
        }
        self.own(tx)?.waiting = Some(lock.clone());
        Ok(false)
    }

    /// Notes that the commit has reached the server.
    ///
    /// # Errors
    /// [`Error::Lost`] when the transaction has ended.
    pub fn commit_arrives(&mut self, tx: u64) -> Result<(), Error> {
        self.own(tx)?.committing = true;
        Ok(())
    }

    /// Makes the transaction's changes visible and ends it.
    pub fn commit(&mut self, tx: u64) {
        if let Some(open) = self.open.get(&tx) {
            let changes = open.changes.clone();
            self.end(tx);
            self.note(|| {
                let spans: Vec<_> = changes
                    .steps
                    .iter()
                    .map(|(tp, step)| format!("{tp} {}..{}", step.from, step.to))
                    .collect();
                format!("tx {tx}: committed {spans:?} claim {:?}", changes.claim)
            });
            self.state.apply(&changes);
            let claim = changes.claim.is_some();
            self.wal.push(changes);
            if claim || !self.scenario.replayable {
                self.durable = self.wal.len();
            }
        }
    }

    /// Rolls the transaction back, if it has not ended.
    pub fn end(&mut self, tx: u64) {
        if let Some(open) = self.open.remove(&tx) {
            for lock in open.held {
                self.locks.remove(&lock);
            }
        }
    }

    /// The client has dropped the transaction: rolled back at once, or, when the process died, once
    /// the server notices.
    pub fn dropped(&mut self, tx: u64) {
        match self.open.get(&tx) {
            Some(open) if open.abandoned => {}
            Some(_) if self.killing => self.lose_client(tx),
            _ => self.end(tx),
        }
    }

    /// The client is gone. The server learns of it now or later; a commit under way still happens,
    /// or not.
    pub fn lose_client(&mut self, tx: u64) {
        let linger = self.dice.chance(600);
        if let Some(open) = self.open.get_mut(&tx) {
            self.alive.remove(&open.connection);
            open.abandoned = true;
            if !linger {
                self.resolve(tx);
            }
        }
    }

    /// The connection is closed by its client.
    pub fn disconnect(&mut self, connection: u64) {
        self.alive.remove(&connection);
    }

    /// The server ends an abandoned transaction one way or the other.
    fn resolve(&mut self, tx: u64) {
        let committing = self.open.get(&tx).is_some_and(|open| open.committing);
        if committing && self.dice.chance(500) {
            self.note(|| format!("tx {tx}: commits without its client"));
            self.commit(tx);
        } else {
            self.end(tx);
        }
    }

    /// The server notices one client that is gone.
    pub fn notice_a_lost_client(&mut self) {
        let abandoned: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.abandoned)
            .map(|(&tx, _)| tx)
            .collect();
        if !abandoned.is_empty() {
            let tx = self.dice.pick(&abandoned);
            self.resolve(tx);
        }
    }

    /// Ends another connection and waits until it is gone.
    pub fn terminate(&mut self, connection: u64) {
        if !self.alive.remove(&connection)
            && !self.open.values().any(|open| open.connection == connection)
        {
            return;
        }
        self.note(|| format!("connection {connection} terminated"));
        let of_it: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.connection == connection)
            .map(|(&tx, _)| tx)
            .collect();
        for tx in of_it {
            self.resolve(tx);
        }
    }

    /// The server crashes and comes back: all connections die, and what was not yet durable may be
    /// gone.
    pub fn crash(&mut self) {
        self.open.clear();
        self.locks.clear();
        self.alive.clear();
        let newest = self.wal.len() - self.durable;
        let kept = self.durable + self.dice.below(newest + 1);
        let lost = self.wal.len() - kept;
        self.note(|| format!("database crashes and loses {lost} commits"));
        let before = std::mem::take(&mut self.state);
        self.wal.truncate(kept);
        for changes in &self.wal {
            self.state.apply(changes);
        }
        if self.sabotaged(Sabotage::CrashKeepsCheckpoints) {
            self.state.checkpoints = before.checkpoints;
        }
        self.durable = self.wal.len();
    }

    /// A claim's new right.
    pub fn new_claim(&mut self, tp: TopicPartition) -> Claim {
        let epoch = self
            .state
            .checkpoints
            .get(&tp)
            .map_or(0, |row| row.claim.epoch);
        Claim {
            token: Uuid::from_u128(self.dice.bits()),
            epoch: epoch + 1,
        }
    }
}
