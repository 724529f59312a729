//! What the simulated database holds, and what one transaction changes. State is always the sum of
//! a list of changes, so that a crash that loses the newest ones is replayed rather than imitated.

use std::{collections::BTreeMap, sync::Arc};

use clickstream_pipeline::{
    admission::PageHash,
    checkpoint::Counters,
    decode::RejectReason,
    engine::Claim,
    offset::{NextOffset, TopicPartition},
    settle::PartKey,
    sketch::Sketch,
    spec::SemanticSpec,
    watermark::EventClock,
};

use crate::log::Facts;

/// `(event_id, UTC day)`.
pub type Key = (u128, i64);
/// A place in the log.
pub type Offset = (TopicPartition, i64);
/// An event's place in the log: the last number is its place in the record.
pub type Place = (TopicPartition, i64, i16);

/// A stored event or late event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Where it came from.
    pub place: Place,
    /// What it says.
    pub facts: Facts,
    /// Marked late.
    pub late: bool,
}

/// A dead letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Why.
    pub reason: RejectReason,
    /// Kafka's time stamp in microseconds.
    pub received: i64,
    /// The record.
    pub payload: Vec<u8>,
}

/// A row of the checkpoints.
#[derive(Clone, PartialEq, Debug)]
pub struct Progress {
    /// The newest claim.
    pub claim: Claim,
    /// The connection that made it.
    pub backend: u64,
    /// Everything below is done.
    pub next: NextOffset,
    /// Event time there.
    pub clock: EventClock,
    /// Totals there.
    pub counters: Counters,
    /// Whether the last flush ended at the end of the log.
    pub at_end: bool,
}

/// A row of the anchors: the state at an offset, and the rules from there on.
#[derive(Clone, PartialEq, Debug)]
pub struct Anchor {
    /// The rules from there on.
    pub rules: Arc<SemanticSpec>,
    /// Event time there.
    pub clock: EventClock,
    /// Totals there.
    pub counters: Counters,
}

/// A row of the traffic parts.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Part {
    /// Hits.
    pub hits: i64,
    /// Those of programs.
    pub bots: i64,
    /// Users.
    pub visitors: Sketch,
    /// Visits.
    pub sessions: Sketch,
}

/// How one transaction moves a checkpoint.
#[derive(Clone, Debug)]
pub struct Step {
    /// From where.
    pub from: NextOffset,
    /// To where.
    pub to: NextOffset,
    /// Event time there.
    pub clock: EventClock,
    /// What is added.
    pub counters: Counters,
    /// At the end of the log.
    pub at_end: bool,
}

/// Everything that one transaction does.
#[derive(Clone, Default, Debug)]
pub struct Changes {
    /// Inserted events.
    pub events: BTreeMap<Key, Stored>,
    /// Inserted late events.
    pub late: BTreeMap<Key, Stored>,
    /// Inserted dead letters.
    pub letters: BTreeMap<Place, Letter>,
    /// Added hits by start of window and page.
    pub hits: BTreeMap<(i64, String), i64>,
    /// Added hits, users and visits.
    pub parts: BTreeMap<PartKey, Part>,
    /// Whether these users and visits replace those that are stored (for sabotage only).
    pub replaces: bool,
    /// Pages that got rows of their own, in the order of the log.
    pub admitted: BTreeMap<PartKey, Vec<PageHash>>,
    /// Moved checkpoints.
    pub steps: BTreeMap<TopicPartition, Step>,
    /// How many commits had happened when late events were looked up among the stored ones.
    pub looked_up: Option<usize>,
    /// A claim.
    pub claim: Option<(TopicPartition, Claim, u64)>,
    /// Anchors. Where one stands already, its rules are replaced.
    pub anchors: BTreeMap<Offset, Anchor>,
}

/// Committed state.
#[derive(Clone, Default)]
pub struct State {
    /// Stored events.
    pub events: BTreeMap<Key, Stored>,
    /// The late ledger.
    pub late: BTreeMap<Key, Stored>,
    /// Dead letters.
    pub letters: BTreeMap<Place, Letter>,
    /// Hits by start of window and page.
    pub hits: BTreeMap<(i64, String), i64>,
    /// Traffic parts.
    pub parts: BTreeMap<PartKey, Part>,
    /// Pages that have rows of their own, in the order of the log.
    pub admitted: BTreeMap<PartKey, Vec<PageHash>>,
    /// Checkpoints.
    pub checkpoints: BTreeMap<TopicPartition, Progress>,
    /// Anchors.
    pub anchors: BTreeMap<Offset, Anchor>,
    /// A key that was stored twice: the primary key did not hold.
    pub broken: Option<String>,
}

impl State {
    /// Makes a transaction's changes visible.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, row) in &changes.events {
            if self.events.insert(*key, row.clone()).is_some() {
                self.broken = Some(format!("event {key:?} stored twice"));
            }
        }
        for (key, row) in &changes.late {
            if self.late.insert(*key, row.clone()).is_some() {
                self.broken = Some(format!("late event {key:?} stored twice"));
            }
        }
        self.letters.extend(
            changes
                .letters
                .iter()
                .map(|(place, letter)| (*place, letter.clone())),
        );
        for (key, n) in &changes.hits {
            *self.hits.entry(key.clone()).or_default() += n;
        }
        for (key, change) in &changes.parts {
            let part = self.parts.entry(*key).or_default();
            part.hits += change.hits;
            part.bots += change.bots;
            if changes.replaces {
                part.visitors = Sketch::default();
                part.sessions = Sketch::default();
            }
            part.visitors.unite(&change.visitors);
            part.sessions.unite(&change.sessions);
        }
        self.admit(&changes.admitted);
        for (place, anchor) in &changes.anchors {
            let stored = self.anchors.entry(*place);
            let stored = stored.or_insert_with(|| anchor.clone());
            stored.rules = Arc::clone(&anchor.rules);
        }
        for (tp, step) in &changes.steps {
            self.advance(*tp, step);
        }
        if let Some((tp, claim, backend)) = changes.claim {
            let row = self.checkpoints.entry(tp).or_insert_with(|| Progress {
                claim,
                backend,
                next: NextOffset::ZERO,
                clock: EventClock::default(),
                counters: Counters::default(),
                at_end: false,
            });
            row.claim = claim;
            row.backend = backend;
        }
    }

    /// Gives pages rows of their own.
    pub fn admit(&mut self, pages: &BTreeMap<PartKey, Vec<PageHash>>) {
        for (part, more) in pages {
            self.admitted.entry(*part).or_default().extend(more);
        }
    }

    /// Moves one checkpoint.
    pub fn advance(&mut self, tp: TopicPartition, step: &Step) {
        if let Some(row) = self.checkpoints.get_mut(&tp) {
            row.next = step.to;
            row.clock = step.clock.clone();
            row.counters += step.counters;
            row.at_end = step.at_end;
        }
    }
}
