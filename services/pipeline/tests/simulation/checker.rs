//! The oracle: what the tables must hold, said a second time and as plainly as possible. It shares
//! no code with the engine: it never decodes, sorts instead of keeping a ring, and goes through the
//! log record by record.
//!
//! Each record is judged by the rules at its offset, and these are what the anchors say: the newest
//! one at or below it.
//!
//! Ids that live on one partition make everything a function of the log. Otherwise the commits are
//! replayed in the order in which the database made them; a late event is judged against what was
//! committed when it was looked up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    rc::Rc,
};

use clickstream_pipeline::{
    admission::PageHash, checkpoint::Counters, decode::RejectReason, offset::TopicPartition,
    sketch::Sketch, spec::LatePolicy, watermark::EventClock,
};

use sha2::{Digest, Sha256};

use crate::{
    database::Database,
    log::{Log, REFUSED, Truth},
    scenario::{PAGE, Scenario},
    state::{Key, Letter, Part, Place, State, Stored},
};

mod judged;

use judged::{ByPage, ByRules, changes_of, judge, part_of};

const DAY: i64 = 86_400_000_000;

/// What the log and the rules alone say about every record.
pub struct Oracle {
    scenario: Rc<Scenario>,
    judged: BTreeMap<TopicPartition, ByRules>,
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
    admitted: BTreeMap<(TopicPartition, i64), Vec<PageHash>>,
    counters: BTreeMap<TopicPartition, Counters>,
    overtaken: u64,
}

#[derive(Default)]
struct Group {
    hits: i64,
    bots: i64,
    users: BTreeSet<String>,
    sessions: BTreeSet<String>,
}

impl Oracle {
    /// Has judged nothing yet.
    pub fn new(scenario: &Rc<Scenario>) -> Self {
        Self {
            scenario: Rc::clone(scenario),
            judged: BTreeMap::new(),
        }
    }

    /// Judges every record of the log by the anchors of now, where they say something else than the
    /// last time.
    fn judge(&mut self, log: &Log, state: &State) {
        for tp in state.checkpoints.keys() {
            let changes = changes_of(state, *tp);
            let judged = self.judged.entry(*tp).or_default();
            if judged.changes != changes {
                judged.entries = judge(&log.partitions[tp].entries, &changes);
                judged.changes = changes;
            }
        }
    }

    /// Compares the committed state with what it must be, however far it has come. Returns how many
    /// late events were judged before a twin of theirs was committed.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&mut self, log: &Log, db: &Database) -> Result<u64, String> {
        if let Some(broken) = &db.state.broken {
            return Err(broken.clone());
        }
        commits_fit_together(db)?;
        self.judge(log, &db.state);
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
        let admitted = state.admitted.iter();
        let admitted = admitted.map(|(&(tp, start), pages)| ((tp, start.micros()), pages.clone()));
        same("admitted pages", &expected.admitted, &admitted.collect())?;
        self.check_parts(&expected, state)?;
        self.check_checkpoints(log, &expected, state)?;
        self.check_anchors(log, db)?;
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

    /// Takes the records `from..to` of one partition in commit `number`, which looked up late
    /// events when `seen` commits had happened.
    fn take(
        &self,
        log: &Log,
        expected: &mut Expected,
        tp: TopicPartition,
        from: i64,
        to: i64,
        (number, seen): (usize, usize),
    ) {
        let entries = &log.partitions[&tp].entries;
        let mut all = Vec::new();
        for (entry, judged) in entries.iter().zip(&self.judged[&tp].entries) {
            if entry.offset < from || entry.offset >= to {
                continue;
            }
            if judged.held.is_empty() {
                expected.counters.entry(tp).or_default().skipped += 1;
            }
            all.extend(judged.held.iter().map(|judged| (entry, judged)));
        }
        for (entry, judged) in all {
            let part = part_of(entry, judged.element);
            let place = (tp, entry.offset, judged.element.unwrap_or(0) as i16);
            let counters = expected.counters.entry(tp).or_default();
            let (Truth::Event(facts), None) = (part.truth, judged.rejected) else {
                let reason = judged
                    .rejected
                    .expect("what is held is an event or rejected");
                reject(expected, place, entry.received, part.value, reason);
                continue;
            };
            let policy = judged.policy;
            let apart = judged.late && !matches!(policy, LatePolicy::Merge | LatePolicy::Store);
            let key = (facts.id, facts.ts.div_euclid(DAY));
            let stored_by = expected.stored_by.get(&key).copied();
            let overtaken = apart && stored_by.is_some_and(|by| seen <= by && by < number);
            let stored = stored_by.is_some() && !overtaken;
            expected.overtaken += u64::from(overtaken);
            let mut stored_facts = facts.clone();
            if judged.cleans {
                stored_facts.referrer = stored_facts.referrer.filter(|text| !text.is_empty());
            }
            let row = Stored {
                place,
                facts: stored_facts,
                late: judged.late,
            };
            let tried = !apart || policy == LatePolicy::Divert && self.scenario.ledger_refuses;
            // with `Drop` nothing is kept, and nobody looks what the ledger holds from other times
            let kept = apart && policy == LatePolicy::Divert;
            if stored || kept && expected.late.contains_key(&key) {
                counters.consumed += 1;
                counters.duplicate += 1;
            } else if tried && facts.url.starts_with(REFUSED) {
                let reason = RejectReason::RefusedByDatabase;
                reject(expected, place, entry.received, part.value, reason);
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
                let page = page_of(expected, (tp, window), judged.pages, &facts.url);
                *expected.hits.entry((window, page)).or_default() += 1;
                let group = expected.parts.entry((tp, window)).or_default();
                group.hits += 1;
                group.bots += i64::from(judged.marks && facts.agent.is_none());
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
                    bots: group.bots,
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
            if !self.is_time(*tp, below, &row.clock) {
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

impl Oracle {
    /// Whether event time stands so behind the first `below` entries.
    fn is_time(&self, tp: TopicPartition, below: usize, clock: &EventClock) -> bool {
        let (t, times) = below.checked_sub(1).map_or((None, &[][..]), |last| {
            let judged = &self.judged[&tp].entries[last];
            (judged.t, &judged.times[..])
        });
        let found: Vec<i64> = clock.times().map(|time| time.micros()).collect();
        clock.t().map(|t| t.micros()) == t && found == times
    }

    /// Every anchor stands where a commit ended, and holds event time and totals as they were
    /// there.
    fn check_anchors(&self, log: &Log, db: &Database) -> Result<(), String> {
        let mut totals: BTreeMap<(TopicPartition, i64), Counters> = BTreeMap::new();
        let mut running: BTreeMap<TopicPartition, Counters> = BTreeMap::new();
        for commit in &db.wal {
            for (tp, step) in &commit.steps {
                let total = running.entry(*tp).or_default();
                *total += step.counters;
                totals.insert((*tp, step.to.get()), *total);
            }
        }
        for (&(tp, at), anchor) in &db.state.anchors {
            let total = match at {
                0 => Some(Counters::default()),
                _ => totals.get(&(tp, at)).copied(),
            };
            // a quiet commit moves nothing, and leaves the totals at its place as they were
            let below = log.partitions[&tp].seek(at);
            if total != Some(anchor.counters) || !self.is_time(tp, below, &anchor.clock) {
                return Err(format!(
                    "the anchor of {tp} at {at} holds {:?}, the commits made it {total:?}",
                    anchor.counters
                ));
            }
        }
        Ok(())
    }
}

/// What a hit is counted by: its own page if that is among the first ones of the window and
/// partition, as many as the rules say.
fn page_of(
    expected: &mut Expected,
    part: (TopicPartition, i64),
    pages: ByPage,
    url: &str,
) -> String {
    // what the database takes is of the shop
    let (page, most) = match pages {
        ByPage::Url => (url, None),
        ByPage::Site(most) => (url, most),
        ByPage::Template(most) => (PAGE, most),
    };
    let Some(most) = most else {
        return page.to_owned();
    };
    let digest = Sha256::digest(format!("{page}\0page_view\0shop.example"));
    let hash: PageHash = digest[..16].try_into().expect("16 bytes");
    let admitted = expected.admitted.entry(part).or_default();
    if admitted.contains(&hash) {
        return page.to_owned();
    }
    if admitted.len() < most as usize {
        admitted.push(hash);
        return page.to_owned();
    }
    "(other)".to_owned()
}

fn reject(
    expected: &mut Expected,
    place: Place,
    received: i64,
    payload: &[u8],
    reason: RejectReason,
) {
    let counters = expected.counters.entry(place.0).or_default();
    counters.consumed += 1;
    counters.rejected += 1;
    let letter = Letter {
        reason,
        received,
        payload: payload.to_vec(),
    };
    expected.letters.insert(place, letter);
}

/// Each partition's commits follow one another without overlap or gap, and end where the checkpoint
/// stands.
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
