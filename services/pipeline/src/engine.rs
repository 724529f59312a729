//! The partition engine: takes records in, decides what can be decided from the log alone, and
//! hands out flushes.
//!
//! ```text
//! assign ─▶ record, record, end_of_log … ─▶ take_flush ─▶ (commit protocol) ─▶ committed | released
//! ```
//! A partition that is not assigned takes no records: nothing is processed before a claim.
//!
//! Rules change between two flushes, never within one, so that each partition has one offset from
//! which on the new ones are in force: the start of its first span under them. The flush that
//! writes that span writes an anchor there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    batch::{Batch, Identity, Judged, Place, Span},
    decode::Decoder,
    event::{Event, EventTime},
    filter::FingerprintFilter,
    offset::{NextOffset, TopicPartition},
    settle::Plan,
    spec::SemanticSpec,
    watermark::EventClock,
    window::{Lateness, TumblingWindow},
};

/// Rows after a claim that go through `insert .. on conflict` while the filter does not know the
/// partition's recent ids.
///
/// Resends are near in the log: 10,000 rows hold minutes of ordinary traffic and cost a catch-up
/// 0.1 s.
const COLD_ROWS: u32 = 10_000;
/// A violation doubles the next cold stretch, up to `COLD_ROWS << MAX_PENALTY` = 640,000 rows.
const MAX_PENALTY: u32 = 6;
/// Days that the events of one flush may have: each is a partition that the flush opens and locks,
/// table and indexes, of the 6,400 locks that a PostgreSQL server with its defaults has for
/// everybody.
pub const MOST_DAYS: usize = 128;
/// Windows that the late events of one flush may reach back to: each is a row that is read and
/// written again, with two sets of up to 3 KiB.
pub const MOST_LATE_WINDOWS: usize = 1_024;
/// Heartbeats of a partition whose times are kept until they are committed: a minute of them, one a
/// second. Of more, the first ones are kept, which have waited longest.
const HEARTBEATS_KEPT: usize = 64;

/// The right to advance a partition, as the database granted it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Fencing token: random, new for every claim.
    pub token: Uuid,
    /// Counts the partition's claims.
    pub epoch: i64,
}

/// What a claim found in the database.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The right that was granted.
    pub claim: Claim,
    /// Where to go on reading.
    pub next: NextOffset,
    /// Event time there.
    pub clock: EventClock,
    /// Whether this is the partition's first claim ever: then no earlier row of it can be met
    /// again.
    pub first: bool,
    /// The rules in the anchor that the claim wrote at `next`.
    pub rules: Arc<SemanticSpec>,
}

/// Rules with windows of another size, which hits that are stored could not be counted in.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("window.size stays as it is for as long as a target has windows")]
pub struct WindowsDiffer;

/// What became of a record at intake.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Intake {
    /// It waits for the next flush.
    Buffered,
    /// It has no value; the position moves over it.
    Skipped,
    /// It has no value and measures the way to the commit: the position moves over it with the next
    /// flush.
    Heartbeat,
    /// It lies below the position and was already taken.
    Stale,
    /// The partition is not assigned, or closed.
    Unassigned,
}

/// One record as it is read from the log.
#[derive(Copy, Clone, Debug)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Kafka's time stamp of it.
    pub received_at: EventTime,
    /// Its value; `None` for a tombstone or heartbeat.
    pub value: Option<&'a [u8]>,
    /// When a heartbeat was sent, by its sender's clock. It means something for records without a
    /// value only.
    pub heartbeat: Option<EventTime>,
}

/// A batch with the rights under which it may be written.
pub struct Flush {
    /// What to write.
    pub batch: Batch,
    /// A claim for each of the batch's spans.
    pub claims: BTreeMap<TopicPartition, Claim>,
    /// Partitions that turned out to be another owner's: they have left the batch, and nothing of
    /// them is written.
    pub fenced: Vec<TopicPartition>,
    /// The rules that all its records were judged by, and by which it is written.
    pub rules: Arc<SemanticSpec>,
    planned: Option<(Identity, Plan)>,
}

impl Flush {
    /// A flush that was not planned yet.
    pub fn new(
        batch: Batch,
        claims: BTreeMap<TopicPartition, Claim>,
        rules: Arc<SemanticSpec>,
    ) -> Self {
        Self {
            batch,
            claims,
            fenced: Vec::new(),
            rules,
            planned: None,
        }
    }

    /// Plans it ahead of its transaction, which takes some milliseconds: no lock is held meanwhile.
    pub fn plan(&mut self) -> &Plan {
        let plan = Plan::of(&self.batch, self.rules.late_policy, false);
        &self.planned.insert((self.batch.identity(), plan)).1
    }

    /// The plan that was made ahead, if it still is one of these rows.
    pub fn planned(&self) -> Option<&Plan> {
        let (of, plan) = self.planned.as_ref()?;
        (*of == self.batch.identity()).then_some(plan)
    }
}

/// State of all partitions that this process owns, and the batch that is growing.
pub struct Engine {
    /// The rules of the growing batch.
    rules: Arc<SemanticSpec>,
    /// The rules of the next one, where they are to change.
    changed: Option<Arc<SemanticSpec>>,
    windows: TumblingWindow,
    lateness: Lateness,
    decoder: Decoder,
    filter: FingerprintFilter,
    partitions: HashMap<TopicPartition, Partition, foldhash::fast::RandomState>,
    batch: Batch,
    /// Takes the place of the next batch that is taken.
    spare: Option<Batch>,
    /// Batches that were taken: the number of the last one.
    flushes: u64,
    /// A heartbeat waits: it is committed as soon as an event would be, since that is what it
    /// measures.
    beating: bool,
    /// A batch without events waits: by other rules it may be something else than nothing.
    passed: bool,
}

struct Partition {
    claim: Claim,
    /// The rules of the newest anchor that is written, or will be before anything that comes after
    /// it.
    anchored: Arc<SemanticSpec>,
    /// Where the growing batch starts.
    from: NextOffset,
    /// What comes next.
    next: NextOffset,
    clock: EventClock,
    skipped: i64,
    received: Option<EventTime>,
    heartbeats: Vec<EventTime>,
    /// Something other than heartbeats has come since the last flush.
    traffic: bool,
    at_end: bool,
    /// No record of it is taken any more.
    closed: bool,
    /// `at_end` as the last flush carried it.
    reported_end: bool,
    cold: u32,
    penalty: u32,
}

impl Engine {
    /// An engine without partitions. `filter_bytes` bounds the fingerprint filter, `filter_seed`
    /// comes from the system's random source.
    pub fn new(spec: &SemanticSpec, filter_bytes: usize, filter_seed: u64) -> Self {
        Self {
            rules: Arc::new(spec.clone()),
            changed: None,
            windows: TumblingWindow::new(spec.window_micros),
            lateness: lateness_of(spec),
            decoder: spec.decoder(),
            filter: FingerprintFilter::new(filter_bytes, filter_seed),
            partitions: HashMap::default(),
            batch: Batch::default(),
            spare: None,
            flushes: 0,
            beating: false,
            passed: false,
        }
    }

    /// Judges records by these rules from the next flush on; at once where no record waits. What
    /// the filter has learnt and where partitions stand does not change with them. Returns whether
    /// they are others than the newest ones.
    ///
    /// # Errors
    /// [`WindowsDiffer`]; then the rules stay as they are.
    pub fn change_rules(&mut self, rules: &SemanticSpec) -> Result<bool, WindowsDiffer> {
        if rules.window_micros != self.rules.window_micros {
            return Err(WindowsDiffer);
        }
        if *rules == **self.changed.as_ref().unwrap_or(&self.rules) {
            return Ok(false);
        }
        self.changed = Some(Arc::new(rules.clone()));
        // nothing that waits was judged: records without a value mean the same by any rules
        if self.batch.rows.is_empty() && self.batch.dead_letters.is_empty() && !self.passed {
            self.follow_changed();
        }
        Ok(true)
    }

    /// The rules by which the next record is judged.
    pub fn rules(&self) -> &Arc<SemanticSpec> {
        &self.rules
    }

    /// Goes over to the rules that were last asked for. No record that was judged by others waits.
    fn follow_changed(&mut self) {
        if let Some(rules) = self.changed.take() {
            self.lateness = lateness_of(&rules);
            self.decoder = rules.decoder();
            self.rules = rules;
        }
    }

    /// Starts to take records of a claimed partition, or starts anew after another claim.
    pub fn assign(&mut self, tp: TopicPartition, recovered: Recovered) {
        self.release(tp);
        let partition = Partition {
            claim: recovered.claim,
            anchored: recovered.rules,
            from: recovered.next,
            next: recovered.next,
            clock: recovered.clock,
            skipped: 0,
            received: None,
            heartbeats: Vec::new(),
            traffic: false,
            at_end: false,
            closed: false,
            reported_end: false,
            cold: if recovered.first { 0 } else { COLD_ROWS },
            penalty: 0,
        };
        self.partitions.insert(tp, partition);
    }

    /// Forgets a partition and what is buffered of it: revoked, fenced, or of unknown progress.
    pub fn release(&mut self, tp: TopicPartition) {
        if self.partitions.remove(&tp).is_some() {
            self.batch.remove(tp);
        }
    }

    /// Takes nothing more of a partition until it is assigned again: a batch of its log cannot be
    /// read, and nothing behind it may be taken for what comes next. What is buffered is flushed as
    /// ever.
    pub fn close(&mut self, tp: TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(&tp) {
            partition.closed = true;
            partition.at_end = false;
        }
    }

    /// Takes one record. Offsets may leave gaps (control records, compaction); what lies below the
    /// position is stale.
    pub fn record(&mut self, tp: TopicPartition, record: Record<'_>) -> Intake {
        let Some(partition) = self.partitions.get_mut(&tp) else {
            return Intake::Unassigned;
        };
        if partition.closed {
            return Intake::Unassigned;
        }
        if partition.next.covers(record.offset) {
            return Intake::Stale;
        }
        partition.next = NextOffset::after(record.offset);
        partition.received = Some(record.received_at);
        let Some(value) = record.value else {
            partition.skipped += 1;
            if let Some(sent) = record.heartbeat {
                // no traffic: it moves no clock, and a partition that is silent stays silent
                if partition.heartbeats.len() < HEARTBEATS_KEPT {
                    partition.heartbeats.push(sent);
                }
                self.beating = true;
                return Intake::Heartbeat;
            }
            partition.at_end = false;
            partition.traffic = true;
            return Intake::Skipped;
        };
        partition.at_end = false;
        partition.traffic = true;
        let mut held = false;
        let (windows, lateness) = (&self.windows, &self.lateness);
        let (filter, batch) = (&mut self.filter, &mut self.batch);
        self.decoder
            .decode_each(value, record.received_at, |element| {
                held = true;
                let place = Place {
                    source: tp,
                    offset: record.offset,
                    index: element.index,
                    received_at: record.received_at,
                };
                match element.verdict {
                    Ok(event) => {
                        let window = windows.containing(event.event_ts);
                        let late = lateness.is_late(window, &partition.clock);
                        partition.clock.observe(event.event_ts);
                        let judged = Judged {
                            window,
                            late,
                            suspect: partition.suspects(&event, filter),
                        };
                        batch.push_event(place, element.payload, &event, judged);
                    }
                    Err(rejected) => batch.push_dead_letter(place, rejected, element.payload),
                }
            });
        if !held {
            partition.skipped += 1;
            self.passed = true;
            return Intake::Skipped;
        }
        Intake::Buffered
    }

    /// The log goes on behind the position with what cannot be read yet (an open transaction): the
    /// partition is not at its end any more, and so not silent.
    pub fn left_end(&mut self, tp: TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(&tp) {
            partition.at_end = false;
        }
    }

    /// The reader has reached the end of the log at `next`: whatever lies between the last record
    /// and it (control records) is passed over, so that lag can be 0.
    pub fn end_of_log(&mut self, tp: TopicPartition, next: NextOffset) {
        if let Some(partition) = self.partitions.get_mut(&tp)
            && next >= partition.next
            && !partition.closed
        {
            partition.next = next;
            partition.at_end = true;
        }
    }

    /// Takes what is buffered, if there is anything to write. With `quiet_too` also the mere fact
    /// that the end of the log was reached or left; ask for that about once a second, not after
    /// every commit.
    pub fn take_flush(&mut self, quiet_too: bool) -> Option<Flush> {
        if self.is_empty() && !quiet_too {
            self.follow_changed();
            return None;
        }
        let spare = self.spare.take().unwrap_or_default();
        let mut batch = std::mem::replace(&mut self.batch, spare);
        self.flushes += 1;
        batch.number(self.flushes);
        batch.promote(self.decoder.promoted());
        self.beating = false;
        self.passed = false;
        let mut claims = BTreeMap::new();
        for (&tp, partition) in &mut self.partitions {
            if partition.from == partition.next && partition.at_end == partition.reported_end {
                continue;
            }
            // silence begins after the traffic: where a flush holds records and reaches the end,
            // the next one tells of the end
            let at_end = partition.at_end && !std::mem::take(&mut partition.traffic);
            let new_rules = partition.anchored != self.rules;
            if new_rules {
                // what comes after this span is committed after it, or not at all
                partition.anchored = Arc::clone(&self.rules);
            }
            let span = Span {
                from: partition.from,
                to: partition.next,
                clock: partition.clock.clone(),
                skipped: std::mem::take(&mut partition.skipped),
                received: partition.received.take(),
                heartbeats: std::mem::take(&mut partition.heartbeats),
                at_end,
                new_rules,
            };
            partition.from = partition.next;
            partition.reported_end = at_end;
            batch.spans.insert(tp, span);
            claims.insert(tp, partition.claim);
        }
        let rules = Arc::clone(&self.rules);
        self.follow_changed();
        (!batch.is_empty()).then(|| Flush::new(batch, claims, rules))
    }

    /// Fills this empty batch after the one that is growing: [`Batch::recycled`].
    pub fn reuse(&mut self, empty: Batch) {
        self.spare = Some(empty);
    }

    /// A row of each of these partitions was called new and was already there: until the filter has
    /// learnt the partition's ids, its rows are suspects.
    pub fn distrust(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for tp in partitions {
            if let Some(partition) = self.partitions.get_mut(&tp) {
                partition.cold = COLD_ROWS << partition.penalty;
                partition.penalty = (partition.penalty + 1).min(MAX_PENALTY);
            }
        }
    }

    /// Whether no record waits for the next flush.
    pub fn is_empty(&self) -> bool {
        self.batch.rows.is_empty()
            && self.batch.dead_letters.is_empty()
            && !self.beating
            && !self.passed
    }

    /// Bytes waiting for the next flush.
    pub fn buffered_bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// Rows waiting for the next flush.
    pub fn buffered_rows(&self) -> usize {
        self.batch.rows.len()
    }

    /// Whether the events that wait reach as far back as a flush may: over [`MOST_DAYS`], or over
    /// [`MOST_LATE_WINDOWS`]. Hostile clocks make flushes smaller by it, and neither larger nor
    /// dearer.
    pub fn is_scattered(&self) -> bool {
        self.batch.days() >= MOST_DAYS || self.batch.late_windows() >= MOST_LATE_WINDOWS
    }

    /// The filter that tells surely new events.
    pub fn filter(&self) -> &FingerprintFilter {
        &self.filter
    }

    /// Partitions of which every row is a suspect for now.
    pub fn cold_partitions(&self) -> usize {
        let cold = |partition: &&Partition| partition.cold > 0;
        self.partitions.values().filter(cold).count()
    }

    /// The partitions that are assigned, with their claims.
    pub fn assigned(&self) -> impl Iterator<Item = (TopicPartition, Claim)> + '_ {
        self.partitions
            .iter()
            .map(|(&tp, partition)| (tp, partition.claim))
    }

    /// The same with the rules that are in force from where their checkpoints stand on: those of a
    /// flush that was taken and is not committed; otherwise those of the newest anchor, which a
    /// change replaces with the flush that brings it.
    pub fn anchored(
        &self,
    ) -> impl Iterator<Item = (TopicPartition, Claim, &Arc<SemanticSpec>)> + '_ {
        self.partitions
            .iter()
            .map(|(&tp, partition)| (tp, partition.claim, &partition.anchored))
    }

    /// Whether something of the partition waits for the next flush.
    pub fn has_pending(&self, tp: TopicPartition) -> bool {
        self.partitions
            .get(&tp)
            .is_some_and(|partition| partition.from != partition.next)
    }

    /// What comes next of a partition at intake (ahead of what is committed).
    pub fn position(&self, tp: TopicPartition) -> Option<NextOffset> {
        self.partitions.get(&tp).map(|partition| partition.next)
    }

    /// Event time of a partition at intake.
    pub fn clock(&self, tp: TopicPartition) -> Option<&EventClock> {
        self.partitions.get(&tp).map(|partition| &partition.clock)
    }
}

impl Partition {
    /// Whether an event goes through `insert .. on conflict`.
    fn suspects(&mut self, event: &Event<'_>, filter: &mut FingerprintFilter) -> bool {
        let cold = self.cold > 0;
        if cold {
            self.cold -= 1;
            if self.cold == 0 {
                // a stretch without a surprise: the next one costs less again
                self.penalty = self.penalty.saturating_sub(1);
            }
        }
        if cfg!(feature = "unsafe-baseline") {
            return false;
        }
        // the filter learns every id, also while the partition is cold
        !filter.is_new(event.event_id.as_u128(), event.event_ts.day()) || cold
    }
}

fn lateness_of(rules: &SemanticSpec) -> Lateness {
    Lateness {
        delay_micros: rules.delay_micros,
        allowed_micros: rules.allowed_lateness_micros,
    }
}

/// Kafka's time stamp as an instant: milliseconds, kept within the years that PostgreSQL and chrono
/// can hold. A record without one gets the epoch, so that it is rejected as dated in the future
/// rather than given a made-up time.
pub fn received_at(timestamp_millis: Option<i64>) -> EventTime {
    /// 9999-12-31T23:59:59.999Z
    const LAST: i64 = 253_402_300_799_999;
    EventTime::from_micros(timestamp_millis.unwrap_or(0).clamp(0, LAST) * 1_000)
}

#[cfg(test)]
mod tests;
