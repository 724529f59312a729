//! The oracle: what the tables must hold, said a second time and as plainly as possible. It shares no code with the engine:
//! it never decodes, sorts instead of keeping a ring, and goes through the log record by record.
//!
//! Ids that live on one partition make everything a function of the log. Otherwise the commits are replayed in the order
//! in which the database made them; a late event is judged against what was committed when it was looked up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    rc::Rc,
};

use clickstream_pipeline::{
    checkpoint::Counters, decode::RejectReason, offset::TopicPartition, sketch::Sketch,
    spec::LatePolicy,
};

use crate::{
    database::Database,
    log::{Entry, Log, REFUSED, Truth},
    scenario::Scenario,
    state::{Key, Letter, Part, Place, State, Stored},
};

const DAY: i64 = 86_400_000_000;

/// What the log alone says about every record.
pub struct Oracle {
    scenario: Rc<Scenario>,
    /// For every entry whether it is late and how event time stands after it.
    judged: BTreeMap<TopicPartition, Vec<Judged>>,
}

struct Judged {
    late: bool,
    t: Option<i64>,
    /// The last 31 event times.
    times: Vec<i64>,
}

#[derive(Default)]
struct Expected {
    events: BTreeMap<Key, Stored>,
    /// The commit that stored each event.
    stored_by: HashMap<Key, usize>,
    late: BTreeMap<Key, Stored>,
    letters: BTreeMap<Place, Letter>,
    hits: BTreeMap<(i64, String), i64>,
    parts: BTreeMap<(TopicPartition, i64), Group>,
    counters: BTreeMap<TopicPartition, Counters>,
    overtaken: u64,
}

#[derive(Default)]
struct Group {
    hits: i64,
    users: BTreeSet<String>,
    sessions: BTreeSet<String>,
}

impl Oracle {
    /// Judges every record of the log once.
    pub fn new(log: &Log, scenario: &Rc<Scenario>) -> Self {
        let judged = log
            .partitions
            .iter()
            .map(|(&tp, partition)| (tp, judge(&partition.entries, scenario)))
            .collect();
        Self {
            scenario: Rc::clone(scenario),
            judged,
        }
    }

    /// Compares the committed state with what it must be, however far it has come. Returns how many late events were
    /// judged before a twin of theirs was committed.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, log: &Log, db: &Database) -> Result<u64, String> {
        if let Some(broken) = &db.state.broken {
            return Err(broken.clone());
        }
        commits_fit_together(db)?;
        let expected = if self.scenario.across_partitions {
            self.replay_commits(log, db)
        } else {
            self.replay_log(log, &db.state)
        };
        let state = &db.state;
        same("events", &expected.events, &state.events)?;
        same("late events", &expected.late, &state.late)?;
        same("dead letters", &expected.letters, &state.letters)?;
        same("hits", &expected.hits, &state.hits)?;
        self.check_parts(&expected, state)?;
        self.check_checkpoints(log, &expected, state)?;
        adds_up(state)?;
        Ok(expected.overtaken)
    }

    /// Everything below the checkpoints, partition by partition.
    fn replay_log(&self, log: &Log, state: &State) -> Expected {
        let mut expected = Expected::default();
        for (tp, row) in &state.checkpoints {
            self.take(log, &mut expected, *tp, 0, row.next.get(), (0, 0));
        }
        expected
    }

    /// Everything that was committed, commit by commit; within a commit in the order of the log.
    fn replay_commits(&self, log: &Log, db: &Database) -> Expected {
        let mut expected = Expected::default();
        for (number, commit) in db.wal.iter().enumerate() {
            let seen = commit.looked_up.unwrap_or(number);
            for (tp, step) in &commit.steps {
                let (from, to) = (step.from.get(), step.to.get());
                self.take(log, &mut expected, *tp, from, to, (number, seen));
            }
        }
        expected
    }

    /// Takes the records `from..to` of one partition in commit `number`, which looked up late events when `seen` commits
    /// had happened.
    fn take(
        &self,
        log: &Log,
        expected: &mut Expected,
        tp: TopicPartition,
        from: i64,
        to: i64,
        (number, seen): (usize, usize),
    ) {
        let policy = self.scenario.spec.late_policy;
        let entries = &log.partitions[&tp].entries;
        for (entry, judged) in entries.iter().zip(&self.judged[&tp]) {
            if entry.offset < from || entry.offset >= to {
                continue;
            }
            let counters = expected.counters.entry(tp).or_default();
            let Truth::Event(facts) = &entry.truth else {
                match entry.truth {
                    Truth::Rejected(reason) => reject(expected, tp, entry, reason),
                    _ => counters.skipped += 1,
                }
                continue;
            };
            let apart = judged.late && !matches!(policy, LatePolicy::Merge | LatePolicy::Store);
            let key = (facts.id, facts.ts.div_euclid(DAY));
            let stored_by = expected.stored_by.get(&key).copied();
            let overtaken = apart && stored_by.is_some_and(|by| seen <= by && by < number);
            let stored = stored_by.is_some() && !overtaken;
            expected.overtaken += u64::from(overtaken);
            let row = Stored {
                place: (tp, entry.offset),
                facts: facts.clone(),
                late: judged.late,
            };
            let tried = !apart || policy == LatePolicy::Divert && self.scenario.ledger_refuses;
            if stored || apart && expected.late.contains_key(&key) {
                counters.consumed += 1;
                counters.duplicate += 1;
            } else if tried && facts.url.starts_with(REFUSED) {
                reject(expected, tp, entry, RejectReason::RefusedByDatabase);
            } else if apart {
                counters.consumed += 1;
                counters.late += 1;
                if policy == LatePolicy::Divert {
                    expected.late.insert(key, row);
                }
            } else {
                expected.events.insert(key, row);
                expected.stored_by.insert(key, number);
                counters.consumed += 1;
                if judged.late && policy != LatePolicy::Merge {
                    counters.late += 1;
                    continue;
                }
                counters.accepted += 1;
                counters.merged += i64::from(judged.late);
                let size = self.scenario.spec.window_micros;
                let window = facts.ts.div_euclid(size) * size;
                if self
                    .scenario
                    .final_until
                    .is_some_and(|until| window + size <= until)
                {
                    counters.revised += 1;
                }
                *expected
                    .hits
                    .entry((window, facts.url.clone()))
                    .or_default() += 1;
                let group = expected.parts.entry((tp, window)).or_default();
                group.hits += 1;
                group.users.insert(facts.user.clone());
                group.sessions.extend(facts.session.clone());
            }
        }
    }

    fn check_parts(&self, expected: &Expected, state: &State) -> Result<(), String> {
        let sketch_of = |values: &BTreeSet<String>| {
            let mut sketch = Sketch::default();
            values.iter().for_each(|value| sketch.add(value));
            sketch
        };
        let wanted: BTreeMap<_, _> = expected
            .parts
            .iter()
            .map(|(key, group)| {
                let part = Part {
                    hits: group.hits,
                    visitors: sketch_of(&group.users),
                    sessions: sketch_of(&group.sessions),
                };
                (*key, part)
            })
            .collect();
        let found: BTreeMap<_, _> = state
            .parts
            .iter()
            .map(|(&(tp, start), part)| ((tp, start.micros()), part.clone()))
            .collect();
        same("hits, visitors and sessions of parts", &wanted, &found)
    }

    fn check_checkpoints(
        &self,
        log: &Log,
        expected: &Expected,
        state: &State,
    ) -> Result<(), String> {
        for (tp, row) in &state.checkpoints {
            let below = log.partitions[tp].seek(row.next.get());
            let (t, times) = below.checked_sub(1).map_or((None, &[][..]), |last| {
                let judged = &self.judged[tp][last];
                (judged.t, &judged.times[..])
            });
            let found: Vec<i64> = row.clock.times().map(|time| time.micros()).collect();
            if row.clock.t().map(|t| t.micros()) != t || found != times {
                return Err(format!("event time of {tp} at {} is wrong", row.next));
            }
            let wanted = expected.counters.get(tp).copied().unwrap_or_default();
            if wanted != row.counters {
                return Err(format!(
                    "counters of {tp} at {}: {:?}, must be {wanted:?}",
                    row.next, row.counters
                ));
            }
        }
        Ok(())
    }
}

fn reject(expected: &mut Expected, tp: TopicPartition, entry: &Entry, reason: RejectReason) {
    let counters = expected.counters.entry(tp).or_default();
    counters.consumed += 1;
    counters.rejected += 1;
    let letter = Letter {
        reason,
        received: entry.received,
        payload: entry.value.clone().unwrap_or_default(),
    };
    expected.letters.insert((tp, entry.offset), letter);
}

/// `T` by the book: sort the last 31, the missing ones first, take the 16th, never go back.
fn judge(entries: &[Entry], scenario: &Scenario) -> Vec<Judged> {
    let spec = &scenario.spec;
    let mut all = Vec::new();
    let mut t: Option<i64> = None;
    let mut judged = Vec::new();
    for entry in entries {
        let mut late = false;
        if let Truth::Event(facts) = &entry.truth {
            let end = (facts.ts.div_euclid(spec.window_micros) + 1) * spec.window_micros;
            late = t.is_some_and(|t| end + spec.allowed_lateness_micros <= t - spec.delay_micros);
            all.push(facts.ts);
            let mut last: Vec<Option<i64>> = all.iter().rev().take(31).copied().map(Some).collect();
            last.resize(31, None);
            last.sort_unstable();
            t = t.max(last[15]);
        }
        judged.push(Judged {
            late,
            t,
            times: all[all.len().saturating_sub(31)..].to_vec(),
        });
    }
    judged
}

/// Each partition's commits follow one another without overlap or gap, and end where the checkpoint stands.
fn commits_fit_together(db: &Database) -> Result<(), String> {
    let mut reached: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for commit in &db.wal {
        for (tp, step) in &commit.steps {
            let next = reached.entry(*tp).or_default();
            if step.from.get() != *next || step.to < step.from {
                return Err(format!(
                    "{tp}: a commit of {}..{} after {next}",
                    step.from, step.to
                ));
            }
            *next = step.to.get();
        }
    }
    for (tp, row) in &db.state.checkpoints {
        let reached = reached.get(tp).copied().unwrap_or(0);
        if reached != row.next.get() {
            return Err(format!(
                "{tp}: commits reach {reached}, the checkpoint says {}",
                row.next
            ));
        }
    }
    Ok(())
}

/// The tables among themselves, without the oracle: what an operator could check in SQL.
fn adds_up(state: &State) -> Result<(), String> {
    let mut total = 0;
    for (tp, row) in &state.checkpoints {
        if !row.counters.conserved() {
            return Err(format!("{tp}: {:?} does not add up", row.counters));
        }
        let rows = state
            .events
            .values()
            .filter(|stored| stored.place.0 == *tp && !stored.late)
            .count() as i64;
        let parts = state
            .parts
            .iter()
            .filter(|((source, _), _)| source == tp)
            .map(|(_, part)| part.hits)
            .sum::<i64>();
        if rows + row.counters.merged != row.counters.accepted || parts != row.counters.accepted {
            return Err(format!(
                "{tp}: {} accepted, {rows} rows, {parts} hits",
                row.counters.accepted
            ));
        }
        total += row.counters.accepted;
    }
    let hits: i64 = state.hits.values().sum();
    if hits != total {
        return Err(format!("{total} accepted, {hits} hits of pages"));
    }
    Ok(())
}

fn same<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    wanted: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    for (key, value) in wanted {
        let there = found.get(key);
        if there != Some(value) {
            return Err(format!("{what}: {key:?} is {there:?}, must be {value:?}"));
        }
    }
    let extra = found.iter().find(|(key, _)| !wanted.contains_key(key));
    Err(format!("{what}: {extra:?} must not be there"))
}
