//! One partition: every record of the log against what is stored of it, slice by slice, in log
//! order.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use clickstream_pipeline::{
    admission::PageHash,
    decode::{
        Rejected,
        properties::{ListedKey, UnlistedKeys},
    },
    event::{Event, EventTime},
    offset::{NextOffset, TopicPartition},
    spec::LatePolicy,
    window::{TumblingWindow, Window},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::mpsc;

mod event;
mod held;

use event::{EventRecord, Found};
use held::{Held, late_event_of};

use super::{
    admissions::{Admissions, Admitted, other_pages},
    aggregates::{OpenWindows, Sums, page_of},
    anchors::{Anchor, Start, rules_in_force},
    census::Buckets,
    judge::{Judge, JudgedSlice, Outcome},
    log::{self, LoggedRecord, Slice},
    progress::Progress as Done,
    report::{Difference, Differences, Kind, RulesReport},
    retained::Retained,
    slices::Reach,
    snapshot::{Progress, State},
    stored::{Letter, Lookup, Stored, StoredRow},
    tally::{Tally, Verdict},
};

/// Slices that are read ahead of the look-ups.
const READ_AHEAD: usize = 2;

/// What all partitions share.
pub struct Shared<'a> {
    /// Where records come from.
    pub consumer: &'a Arc<BaseConsumer>,
    /// Sessions for look-ups, used in turn.
    pub lookups: &'a [Lookup],
    /// Next offsets of the snapshot.
    pub positions: &'a HashMap<TopicPartition, NextOffset>,
    /// What retention may have dropped.
    pub retained: &'a Retained,
    /// For the line that shows how far it is.
    pub done: &'a Done,
}

/// What was found out about one partition.
pub struct Recomputed {
    /// Counts of the stretch.
    pub tally: Tally,
    /// Rows that were found for records of the stretch, by buckets of `1 << shift` offsets.
    pub matched: Buckets,
    /// Hits that came after their window was read; `None` when retention makes that undecidable.
    pub hits_after: Option<i64>,
    /// Windows that could be compared with the log.
    pub windows: u64,
    /// The rules that records were judged by.
    pub rules: Vec<RulesReport>,
    /// Keys that properties of stored events have, and that are not listed.
    pub unlisted: BTreeSet<ListedKey>,
}

/// What an audit of a partition starts from.
pub struct Given<'a> {
    /// Where to read.
    pub start: &'a Start,
    /// The anchor to start from and those that are passed.
    pub anchors: &'a [Anchor],
    /// How far the windows reach.
    pub reach: Reach<'a>,
    /// Whether its windows are compared with the log, which is then there from its beginning.
    pub windows: bool,
    /// How many windows are held for late events, where a policy counts those in their window.
    pub held: usize,
    /// All windows.
    pub size: TumblingWindow,
    /// Whether admitted pages can be read.
    pub admitted: bool,
}

/// The audit of one partition.
pub struct PartitionAudit<'a> {
    shared: &'a Shared<'a>,
    progress: &'a Progress,
    given: Given<'a>,
    before: State,
    tally: Tally,
    matched: Buckets,
    hits_after: Option<i64>,
    windows: Option<OpenWindows>,
    admissions: Admissions,
    unlisted: UnlistedKeys,
    sums: Sums<'a>,
    differences: &'a mut Differences,
}

impl<'a> PartitionAudit<'a> {
    /// An audit that starts with nothing counted.
    pub fn new(
        shared: &'a Shared<'a>,
        progress: &'a Progress,
        given: Given<'a>,
        sums: Sums<'a>,
        differences: &'a mut Differences,
    ) -> Self {
        let before = given
            .anchors
            .first()
            .map_or(&progress.state, |anchor| &anchor.state)
            .clone();
        // a window cannot change any more once it is closed by every rule that was or comes in
        // force
        let grace =
            |anchor: &Anchor| anchor.spec.allowed_lateness_micros + anchor.spec.delay_micros;
        let grace = given.anchors.iter().map(grace).max().unwrap_or(0);
        let merges = |anchor: &Anchor| anchor.spec.late_policy == LatePolicy::Merge;
        let held = if given.anchors.iter().any(merges) {
            given.held
        } else {
            0
        };
        Self {
            shared,
            progress,
            before,
            tally: Tally::default(),
            matched: Buckets::spanning(&given.start.offsets),
            hits_after: Some(0),
            windows: given
                .windows
                .then(|| OpenWindows::new(progress.tp, grace, held)),
            admissions: Admissions::default(),
            unlisted: UnlistedKeys::default(),
            given,
            sums,
            differences,
        }
    }

    /// Reads the stretch and compares everything.
    ///
    /// # Errors
    /// Kafka or PostgreSQL cannot be read.
    pub async fn run(mut self) -> anyhow::Result<Recomputed> {
        let mut state = self.before.clone();
        if let Some(judge) = Judge::new(self.given.anchors) {
            let client = self.shared.lookups[0].client();
            let progress = self.progress;
            if let Some(anchor) = self.given.anchors.first()
                && !self.given.start.is_whole()
                && self.given.admitted
            {
                self.admissions = Admissions::before(client, progress, anchor.next.get()).await?;
            }
            if let Some(end) = self.compare_log(judge).await? {
                state = end;
            }
            let reached = NextOffset::at(self.given.start.offsets.end);
            // a log that ends early is told as such; the counters beyond its end cannot fit
            if reached == self.progress.next {
                self.compare_state("checkpoint", reached, &state, &self.progress.state);
                let (retained, windows) = (self.shared.retained, self.given.size);
                let is_gone = |start| retained.window_is_gone(windows.starting_at(start));
                let admissions = std::mem::take(&mut self.admissions);
                if self.given.admitted {
                    admissions
                        .compare(client, progress, reached.get(), is_gone, self.differences)
                        .await?;
                }
            }
        }
        let windows = self
            .windows
            .take()
            .map_or(0, |windows| windows.finish(&mut self.sums));
        Ok(Recomputed {
            rules: rules_in_force(self.given.anchors, &self.given.start.offsets),
            tally: self.tally,
            matched: self.matched,
            hits_after: self.hits_after,
            windows,
            unlisted: self.unlisted.new,
        })
    }

    /// Returns the clock at the end of the stretch, if it has a record.
    async fn compare_log(&mut self, mut judge: Judge<'_>) -> anyhow::Result<Option<State>> {
        let (slices, reader) = self.read();
        let (shared, progress) = (self.shared, self.progress);
        let sessions = shared.lookups.len();
        let mut answered = slices
            .enumerate()
            .map(|(at, slice)| {
                let judged = judge.slice(slice);
                let lookup = &shared.lookups[at % sessions];
                async move {
                    let request = judged.request(&progress.topic, progress.tp.partition);
                    let stored = lookup.fetch(request).await?;
                    anyhow::Ok((judged, stored))
                }
            })
            .buffered(sessions);
        let mut end = None;
        while let Some((judged, stored)) = answered.try_next().await? {
            let read = judged.slice.records.len() as u64;
            self.settle(&judged, stored)?;
            end = Some(self.state(&judged));
            self.shared.done.add(read);
        }
        drop(answered);
        reader.await??;
        Ok(end)
    }

    fn read(
        &self,
    ) -> (
        impl stream::Stream<Item = Slice> + use<>,
        tokio::task::JoinHandle<anyhow::Result<()>>,
    ) {
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
        let consumer = Arc::clone(self.shared.consumer);
        let (topic, partition) = (self.progress.topic.clone(), self.progress.tp.partition);
        let offsets = self.given.start.offsets.clone();
        let stops: Vec<i64> = self
            .given
            .anchors
            .iter()
            .map(|anchor| anchor.next.get())
            .collect();
        let reader = tokio::task::spawn_blocking(move || {
            log::read(&consumer, &topic, partition, offsets, &stops, |slice| {
                sender.blocking_send(slice).is_ok()
            })
        });
        (
            stream::poll_fn(move |context| receiver.poll_recv(context)),
            reader,
        )
    }

    fn settle(
        &mut self,
        judged: &JudgedSlice,
        mut stored: Stored,
    ) -> Result<(), tokio_postgres::Error> {
        for (record, outcomes) in judged.records() {
            let Some(value) = judged.slice.value(record) else {
                self.skip(&mut stored, record.offset, "the record has no value");
                continue;
            };
            let mut outcome = outcomes.iter();
            let mut settled = Ok(());
            judged
                .decoder
                .decode_each(value, record.received_at, |element| {
                    // whatever comes behind an error of the database is not looked at
                    if let (Ok(()), Some(outcome)) = (&settled, outcome.next()) {
                        let held = Held {
                            record,
                            element,
                            outcome,
                            siblings: outcomes,
                        };
                        settled = self.settle_event(judged, &mut stored, held);
                    }
                });
            settled?;
            if let [Outcome::Skipped] = outcomes {
                self.skip(&mut stored, record.offset, "the record holds no event");
            }
        }
        let why = |offset: i64| {
            let records = &judged.slice.records;
            match records.binary_search_by_key(&offset, |record| record.offset) {
                Ok(_) => "the record holds no such event",
                Err(_) => "the log holds no such record",
            }
        };
        for ((offset, _), letter) in stored.letters {
            self.no_letter(Some(letter), offset, why(offset));
        }
        for ((offset, _), late_event) in stored.late_events {
            self.no_late_event(Some(late_event), offset, why(offset));
        }
        self.compare_gaps(&judged.slice);
        if let Some(anchor) = judged.anchor {
            let state = self.state(judged);
            let anchor = &self.given.anchors[anchor];
            self.compare_state("anchor", anchor.next, &state, &anchor.state);
        }
        if let Some(windows) = &mut self.windows {
            windows.close(judged.clock.t(), &mut self.sums);
        }
        Ok(())
    }

    /// Counts a record that holds no event: nothing may be stored of it.
    fn skip(&mut self, stored: &mut Stored, offset: i64, why: &str) {
        self.tally.skipped += 1;
        let places = (offset, i16::MIN)..=(offset, i16::MAX);
        for (_, letter) in stored.letters.extract_if(places.clone(), |_, _| true) {
            self.no_letter(Some(letter), offset, why);
        }
        for (_, row) in stored.late_events.extract_if(places, |_, _| true) {
            self.no_late_event(Some(row), offset, why);
        }
    }

    /// Compares one event, or what is none.
    fn settle_event(
        &mut self,
        judged: &JudgedSlice,
        stored: &mut Stored,
        held: Held<'_>,
    ) -> Result<(), tokio_postgres::Error> {
        let (record, index) = (held.record, held.element.index);
        let value = held.element.payload;
        let letter = stored.letters.remove(&(record.offset, index));
        match (&held.element.verdict, held.outcome) {
            (Err(rejected), _) => {
                self.tally.count(&[Verdict::Rejected]);
                self.compare_letter(letter, record, value, rejected);
                let late_event = stored.late_events.remove(&(record.offset, index));
                self.no_late_event(late_event, record.offset, "the record is no event");
            }
            (Ok(event), Outcome::Event { key, window, late }) => {
                let is_home = |at: i16| held.is_home(*key, at);
                let found = Found {
                    row: stored.rows.get(key),
                    late_event: late_event_of(
                        &mut stored.late_events,
                        (record.offset, index),
                        *key,
                        &is_home,
                    ),
                    ledger: stored.late_keys.get(key),
                    letter,
                };
                let record = EventRecord {
                    offset: record.offset,
                    index,
                    is_home: &is_home,
                    received_at: record.received_at,
                    value,
                    event,
                    key: *key,
                    late: *late,
                    policy: judged.spec.late_policy,
                    promoted: &stored.promoted,
                };
                let verdict = self.compare_event(&record, found)?;
                self.tally.count(verdict);
                if let [Verdict::Accepted | Verdict::Merged] = verdict
                    && let Some(json) = event.properties.as_deref()
                    && let Some(keys) = &self.shared.lookups[0].keys
                {
                    keys.look(json, &mut self.unlisted);
                }
                let bound = judged.spec.events.derived.most_pages();
                let admitted = stored.admitted.get(&window.start);
                let page = self.page(verdict, &record, *window, bound, admitted);
                self.count(verdict, record.offset, *window, &page, event);
            }
            // the same decoder said otherwise a moment ago
            (Ok(_), Outcome::Skipped | Outcome::Rejected) => {}
        }
        Ok(())
    }

    /// What the hit of a valid event is counted by, if it is one.
    fn page(
        &mut self,
        verdict: &[Verdict],
        record: &EventRecord<'_>,
        window: Window,
        bound: Option<usize>,
        admitted: Option<&Admitted>,
    ) -> PageHash {
        let page = page_of(record.event);
        let Some(bound) = bound else { return page };
        match verdict {
            [Verdict::Accepted | Verdict::Merged] => {}
            [_] => return page,
            // whether it was accepted is not known any more: nor is what came of the pages behind
            // it
            _ => self.admissions.leave(window.start),
        }
        if self.shared.retained.window_is_gone(window) {
            self.admissions.leave(window.start);
        }
        let offset = record.offset;
        let (is_own, wrong) =
            self.admissions
                .has_own_row(window.start, offset, bound, &page, admitted);
        if let Some(wrong) = wrong {
            let found = Difference::new(Kind::AdmittedPagesDiffer, wrong)
                .of(&self.progress.topic, self.progress.tp.partition)
                .at(offset)
                .in_window(window.start);
            self.differences.add(Some(self.progress.tp), found);
        }
        if is_own { page } else { other_pages() }
    }

    /// Counts a valid event in its window, unless it came after the window was read.
    fn count(
        &mut self,
        verdict: &[Verdict],
        offset: i64,
        window: Window,
        page: &PageHash,
        event: &Event<'_>,
    ) {
        let covered = self.given.reach.covers(window.start, offset);
        match verdict {
            [Verdict::Accepted | Verdict::Merged] if covered => {
                if let Some(windows) = &mut self.windows {
                    windows.add(window, page, event, &mut self.sums);
                }
            }
            [Verdict::Accepted | Verdict::Merged] => {
                self.hits_after = self.hits_after.map(|hits| hits + 1)
            }
            verdict
                if !covered
                    && (verdict.contains(&Verdict::Accepted)
                        || verdict.contains(&Verdict::Merged)) =>
            {
                self.hits_after = None;
            }
            _ => {}
        }
    }

    fn compare_letter(
        &mut self,
        letter: Option<Letter>,
        record: &LoggedRecord,
        value: &[u8],
        rejected: &Rejected,
    ) {
        let Some(letter) = letter else {
            if !self
                .shared
                .retained
                .dead_letter_may_be_gone(record.received_at)
            {
                let detail = format!(
                    "rejected ({}), but not in the dead letters",
                    rejected.reason
                );
                self.differ(Kind::MissingDeadLetter, Some(record.offset), detail);
            }
            return;
        };
        let mut differing = letter.differing(record.received_at, value);
        if letter.reason != rejected.reason.as_str() {
            differing.push(format!(
                "reason {} instead of {}",
                letter.reason, rejected.reason
            ));
        }
        if letter.detail != rejected.detail {
            differing.push("detail".to_owned());
        }
        self.letter_differs(record.offset, &differing);
    }

    fn compare_refused(&mut self, letter: &Letter, record: &EventRecord<'_>, stored: bool) {
        let mut differing = letter.differing(record.received_at, record.value);
        if stored {
            differing.push("the record is stored as well".to_owned());
            self.matched.count(record.offset);
        }
        self.letter_differs(record.offset, &differing);
    }

    fn letter_differs(&mut self, offset: i64, differing: &[String]) {
        if !differing.is_empty() {
            self.differ(Kind::DeadLetterDiffers, Some(offset), differing.join(", "));
        }
    }

    fn no_letter(&mut self, letter: Option<Letter>, offset: i64, why: &str) {
        if let Some(letter) = letter {
            self.differ(
                Kind::StrayDeadLetter,
                Some(offset),
                format!("dead letter ({}), but {why}", letter.reason),
            );
        }
    }

    fn no_late_event(&mut self, row: Option<StoredRow>, offset: i64, why: &str) {
        if row.is_some() {
            self.differ(
                Kind::StrayLateEvent,
                Some(offset),
                format!("in the late ledger, but {why}"),
            );
        }
    }

    /// A gap says that the log had lost these offsets before they were read: then it cannot hold
    /// them now.
    fn compare_gaps(&mut self, slice: &Slice) {
        for gap in &self.progress.gaps {
            let lost = |record: &&LoggedRecord| gap.contains(&record.offset);
            if let Some(record) = slice.records.iter().find(lost) {
                let detail = format!(
                    "recorded as lost: {} to {}, but the log has this record",
                    gap.start, gap.end
                );
                self.differ(Kind::GapContradicted, Some(record.offset), detail);
            }
        }
    }

    fn compare_state(&mut self, what: &str, at: NextOffset, recomputed: &State, stored: &State) {
        for misfit in self.tally.misfits(&self.before.counters, &stored.counters) {
            self.differ(
                Kind::CounterDiffers,
                Some(at.get()),
                format!("{what}: {misfit}"),
            );
        }
        if recomputed.t != stored.t {
            let shown =
                |t: Option<EventTime>| t.map_or_else(|| "none".to_owned(), |t| t.to_string());
            let detail = format!(
                "{what}: T stored {}, recomputed {}",
                shown(stored.t),
                shown(recomputed.t)
            );
            self.differ(Kind::ClockDiffers, Some(at.get()), detail);
        }
        if recomputed.times != stored.times {
            self.differ(
                Kind::ClockDiffers,
                Some(at.get()),
                format!("{what}: the last event times are not those of the log"),
            );
        }
    }

    fn state(&self, judged: &JudgedSlice) -> State {
        State {
            t: judged.clock.t(),
            times: judged.clock.times().collect(),
            ..State::default()
        }
    }

    pub(super) fn differ(&mut self, kind: Kind, offset: Option<i64>, detail: impl Into<String>) {
        let mut found =
            Difference::new(kind, detail).of(&self.progress.topic, self.progress.tp.partition);
        found.offset = offset;
        self.differences.add(Some(self.progress.tp), found);
    }
}

impl Letter {
    fn differing(&self, received_at: EventTime, value: &[u8]) -> Vec<String> {
        let mut differing = Vec::new();
        if self.payload != value {
            differing.push("payload".to_owned());
        }
        if self.received_at != received_at {
            differing.push("received_at".to_owned());
        }
        differing
    }
}
