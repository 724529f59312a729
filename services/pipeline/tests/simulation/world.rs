//! The scheduler of a seed: lets processors take turns, and things happen to them.

use std::{cell::RefCell, rc::Rc};

use clickstream_pipeline::{offset::TopicPartition, spec::SemanticSpec};

use crate::{
    checker::Oracle,
    database::{Database, Shared},
    dice::Dice,
    log::Log,
    processor::{Processor, Tally},
    scenario::Scenario,
};

/// Steps after which a run is taken for stuck; the longest of 40,000 seeds needed 124,096.
const MAX_STEPS: u64 = 400_000;

/// What went wrong, and what happened before.
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// What happened before, when traced.
    pub trace: Vec<String>,
}

struct World {
    scenario: Rc<Scenario>,
    log: Log,
    oracle: Oracle,
    database: Shared,
    processors: Vec<Processor>,
    /// Processes started so far.
    started: u64,
    /// Which processor the group gives each partition to.
    group: Vec<(TopicPartition, usize)>,
    /// Zombies: who learns at which step that it lost which partition.
    notices: Vec<(u64, usize, TopicPartition)>,
    faults_left: usize,
    /// How often the pipeline's rules have changed so far.
    changed: usize,
    dice: Dice,
    tally: Tally,
}

/// Runs a scenario until the log is drained.
///
/// # Errors
/// The first thing that is not as the log and the spec say, or a run that gets stuck.
pub fn run(scenario: Scenario) -> Result<Tally, Failure> {
    let mut world = World::new(scenario);
    match world.drain() {
        Ok(()) => Ok(world.tally),
        Err(message) => Err(Failure {
            message,
            trace: std::mem::take(&mut world.database.borrow_mut().trace),
        }),
    }
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let scenario = Rc::new(scenario);
        let log = Log::generate(&scenario);
        let oracle = Oracle::new(&scenario);
        let database = Rc::new(RefCell::new(Database::new(Rc::clone(&scenario))));
        let mut world = Self {
            log,
            oracle,
            processors: Vec::new(),
            started: 0,
            group: Vec::new(),
            notices: Vec::new(),
            faults_left: scenario.fault_budget,
            changed: 0,
            dice: Dice::new(scenario.seed, 3),
            tally: Tally::default(),
            database,
            scenario,
        };
        for _ in 0..world.scenario.processors {
            let processor = world.start();
            world.processors.push(processor);
        }
        for _ in 0..world.dice.between(1, world.scenario.partitions as i64) {
            world.grow();
        }
        // half of the runs catch up, the other half follows
        if world.dice.chance(500) {
            for partition in world.log.partitions.values_mut() {
                partition.visible = partition.entries.len();
            }
        }
        world
    }

    fn drain(&mut self) -> Result<(), String> {
        while self.tally.steps < MAX_STEPS {
            self.tally.steps += 1;
            self.notify();
            match self.dice.below(1_000) {
                0..40 => self.append(),
                40..80 => self.database.borrow_mut().notice_a_lost_client(),
                80..84 => self.grow(),
                84..90 => self.change_rules(),
                90..94 => {
                    self.check(false)?;
                    if self.drained() {
                        self.check(true)?;
                        return self.nothing_was_done_twice();
                    }
                }
                _ => {
                    let per_ten_thousand = self.scenario.world_faults;
                    if self.faults_left > 0 && self.dice.below(10_000) < per_ten_thousand {
                        self.faults_left -= 1;
                        self.harm();
                    }
                    let turn = self.dice.below(self.processors.len());
                    self.processors[turn].step(&self.log, &mut self.tally)?;
                }
            }
        }
        Err(format!(
            "not drained after {MAX_STEPS} steps: {:?}",
            self.tally
        ))
    }

    fn start(&mut self) -> Processor {
        self.started += 1;
        Processor::start(self.started, &self.scenario, self.rules(), &self.database)
    }

    /// The rules of now.
    fn rules(&self) -> &SemanticSpec {
        let changed = self.changed.checked_sub(1);
        changed.map_or(&self.scenario.spec, |at| &self.scenario.changes[at])
    }

    /// The rules change, or one processor notices that they have; each in its own time.
    fn change_rules(&mut self) {
        if self.changed < self.scenario.changes.len() && self.dice.chance(300) {
            self.changed += 1;
        }
        let rules = self.rules().clone();
        let reader = self.dice.below(self.processors.len());
        if self.processors[reader].change_rules(&rules) {
            self.tally.changed += 1;
            self.database
                .borrow_mut()
                .note(|| format!("processor {reader} follows {rules:?}"));
        }
    }

    fn append(&mut self) {
        let existing: Vec<_> = self.group.iter().map(|(tp, _)| *tp).collect();
        let tp = self.dice.pick(&existing);
        let more = 1 + self.dice.below(20);
        if let Some(partition) = self.log.partitions.get_mut(&tp) {
            partition.visible = (partition.visible + more).min(partition.entries.len());
        }
    }

    /// Creates the next partition and assigns it.
    fn grow(&mut self) {
        let next = self.log.partitions.iter_mut().find(|(_, p)| !p.exists);
        if let Some((&tp, partition)) = next {
            partition.exists = true;
            let owner = self.dice.below(self.processors.len());
            self.group.push((tp, owner));
            self.processors[owner].assign(tp);
        }
    }

    fn harm(&mut self) {
        match self.dice.below(10) {
            0..6 => {
                let at = self.dice.below(self.group.len());
                let zombie = self.dice.chance(500);
                self.hand_over(at, zombie);
            }
            6..9 => self.kill(),
            _ => {
                self.tally.crashes += 1;
                self.database.borrow_mut().crash();
            }
        }
    }

    /// Moves a partition to another processor. A zombie learns of it later.
    fn hand_over(&mut self, at: usize, zombie: bool) {
        let (tp, old) = self.group[at];
        let new = self.dice.below(self.processors.len());
        if new == old {
            return;
        }
        self.tally.moved += 1;
        self.group[at].1 = new;
        self.processors[new].assign(tp);
        if zombie {
            let due = self.tally.steps + 10 + self.dice.below(600) as u64;
            self.notices.push((due, old, tp));
        } else {
            self.processors[old].revoke(tp);
        }
        self.database
            .borrow_mut()
            .note(|| format!("{tp} moves from {old} to {new}, zombie: {zombie}"));
    }

    fn notify(&mut self) {
        let now = self.tally.steps;
        let (due, later): (Vec<_>, Vec<_>) =
            self.notices.drain(..).partition(|notice| notice.0 <= now);
        self.notices = later;
        for (_, processor, tp) in due {
            if !self.group.contains(&(tp, processor)) {
                self.processors[processor].revoke(tp);
            }
        }
    }

    /// Kills a process at whatever step it is; a new one takes its place and the group deals its
    /// partitions anew.
    fn kill(&mut self) {
        self.tally.killed += 1;
        let victim = self.dice.below(self.processors.len());
        let successor = self.start();
        self.database
            .borrow_mut()
            .note(|| format!("processor {victim} is killed"));
        self.database.borrow_mut().killing = true;
        self.processors[victim] = successor;
        self.database.borrow_mut().killing = false;
        for at in 0..self.group.len() {
            if self.group[at].1 == victim {
                let new = self.dice.below(self.processors.len());
                self.group[at].1 = new;
                self.processors[new].assign(self.group[at].0);
            }
        }
    }

    fn drained(&self) -> bool {
        let db = self.database.borrow();
        self.log.partitions.iter().all(|(tp, partition)| {
            partition.exists
                && partition.visible == partition.entries.len()
                && db
                    .state
                    .checkpoints
                    .get(tp)
                    .is_some_and(|row| row.next.get() == partition.end && row.at_end)
        })
    }

    /// Without faults every partition is claimed once and nothing is fenced: the fence is there for
    /// accidents, and must not be what makes an ordinary run correct.
    fn nothing_was_done_twice(&self) -> Result<(), String> {
        let Tally {
            claims,
            fenced,
            reclaimed,
            ..
        } = self.tally;
        let partitions = self.log.partitions.len() as u64;
        let calm = self.scenario.fault_budget == 0;
        if calm && (claims, fenced, reclaimed) != (partitions, 0, 0) {
            return Err(format!(
                "without a fault {partitions} partitions took {claims} claims, {fenced} were fenced, {reclaimed} \
                 connections were lost"
            ));
        }
        Ok(())
    }

    fn check(&mut self, complete: bool) -> Result<(), String> {
        let overtaken = self.oracle.check(&self.log, &self.database.borrow())?;
        if complete {
            self.tally.overtaken += overtaken;
        }
        Ok(())
    }
}
