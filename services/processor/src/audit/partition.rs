//! One partition: every record of the log against what is stored of it, slice by slice, in log order.

use std::{collections::HashMap, sync::Arc};

use clickstream_pipeline::{
    decode::{Rejected, decode},
    event::EventTime,
    offset::{NextOffset, TopicPartition},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::mpsc;

mod event;

use event::{EventRecord, Found};

use super::{
    aggregates::{Fingerprints, TrafficAudit, WindowSum, count},
    census::Buckets,
    judge::{Judge, JudgedSlice, Outcome, Start},
    log::{self, LoggedRecord, Slice},
    progress::Progress as Done,
    report::{Difference, Differences, Kind},
    retained::Retained,
    snapshot::{Progress, State},
    stored::{Letter, Lookup, Stored, StoredRow, user_text},
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
    /// Keys of the windows' sums.
    pub fingerprints: &'a Fingerprints,
    /// For the line that shows how far it is.
    pub done: &'a Done,
}

/// What was found out about one partition.
pub struct Recomputed {
    /// Counts of the stretch.
    pub tally: Tally,
    /// Rows that were found for records of the stretch, by buckets of `1 << shift` offsets.
    pub matched: Buckets,
}

/// The audit of one partition.
pub struct PartitionAudit<'a> {
    shared: &'a Shared<'a>,
    progress: &'a Progress,
    before: State,
    tally: Tally,
    matched: Buckets,
    windows: &'a mut HashMap<EventTime, WindowSum>,
    traffic: Option<TrafficAudit<'a>>,
    differences: &'a mut Differences,
}

impl<'a> PartitionAudit<'a> {
    /// An audit that starts with nothing counted. With `traffic` the partition's windows are compared as well; that needs
    /// the log from its beginning.
    pub fn new(
        shared: &'a Shared<'a>,
        progress: &'a Progress,
        start: &Start,
        windows: &'a mut HashMap<EventTime, WindowSum>,
        traffic: Option<TrafficAudit<'a>>,
        differences: &'a mut Differences,
    ) -> Self {
        let before = start
            .anchor
            .map_or(&progress.state, |at| &progress.anchors[at].state);
        Self {
            shared,
            progress,
            before: before.clone(),
            tally: Tally::default(),
            matched: Buckets::spanning(&start.offsets),
            windows,
            traffic,
            differences,
        }
    }

    /// Reads the stretch and compares everything.
    ///
    /// # Errors
    /// Kafka or PostgreSQL cannot be read.
    pub async fn run(mut self, start: &Start) -> anyhow::Result<Recomputed> {
        let mut state = self.before.clone();
        if let Some(anchor) = start.anchor {
            let judge = Judge::new(&self.progress.anchors, anchor);
            if let Some(end) = self.compare_log(judge, start).await? {
                state = end;
            }
            let reached = NextOffset::at(start.offsets.end);
            // a log that ends early is told as such; the counters beyond its end cannot fit
            if reached == self.progress.next {
                self.compare_state("checkpoint", reached, &state, &self.progress.state);
            }
        }
        if let Some(traffic) = self.traffic.take() {
            let retained = self.shared.retained;
            traffic.finish(&|window| retained.window_is_gone(window), self.differences);
        }
        Ok(Recomputed {
            tally: self.tally,
            matched: self.matched,
        })
    }

    /// Returns the clock at the end of the stretch, if it has a record.
    async fn compare_log(
        &mut self,
        mut judge: Judge<'_>,
        start: &Start,
    ) -> anyhow::Result<Option<State>> {
        let (slices, reader) = self.read(start);
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
        start: &Start,
    ) -> (
        impl stream::Stream<Item = Slice> + use<>,
        tokio::task::JoinHandle<anyhow::Result<()>>,
    ) {
        let (sender, mut receiver) = mpsc::channel(READ_AHEAD);
        let consumer = Arc::clone(self.shared.consumer);
        let (topic, partition) = (self.progress.topic.clone(), self.progress.tp.partition);
        let offsets = start.offsets.clone();
        let stops: Vec<i64> = self
            .progress
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
        for (record, outcome) in judged.slice.records.iter().zip(&judged.outcomes) {
            let letter = stored.letters.remove(&record.offset);
            let late_event = stored.late_events.remove(&record.offset);
            let value = judged.slice.value(record).unwrap_or_default();
            match outcome {
                Outcome::Skipped => {
                    self.tally.skipped += 1;
                    self.no_letter(letter, record.offset, "the record has no value");
                    self.no_late_event(late_event, record.offset, "the record has no value");
                }
                Outcome::Rejected(rejected) => {
                    self.tally.count(&[Verdict::Rejected]);
                    self.compare_letter(letter, record, value, rejected);
                    self.no_late_event(late_event, record.offset, "the record is no event");
                }
                Outcome::Event { key, window, late } => {
                    let Ok(event) = decode(value, record.received_at, &judged.spec.limits()) else {
                        continue;
                    };
                    let found = Found {
                        row: stored.rows.get(key),
                        late_event,
                        ledger: stored.late_keys.get(key),
                        letter,
                    };
                    let record = EventRecord {
                        offset: record.offset,
                        received_at: record.received_at,
                        value,
                        event: &event,
                        key: *key,
                        late: *late,
                        policy: judged.spec.late_policy,
                    };
                    let verdict = self.compare_event(&record, found)?;
                    self.tally.count(verdict);
                    if verdict == [Verdict::Accepted] {
                        count(self.windows, self.shared.fingerprints, *window, &event);
                        if let Some(traffic) = &mut self.traffic {
                            traffic.add(*window, &user_text(&event), event.session_id.as_deref());
                        }
                    }
                }
            }
        }
        for (offset, letter) in stored.letters {
            self.no_letter(Some(letter), offset, "the log holds no such record");
        }
        for (offset, late_event) in stored.late_events {
            self.no_late_event(Some(late_event), offset, "the log holds no such record");
        }
        self.compare_gaps(&judged.slice);
        if let Some(anchor) = judged.anchor {
            let state = self.state(judged);
            let anchor = &self.progress.anchors[anchor];
            self.compare_state("anchor", anchor.next, &state, &anchor.state);
        }
        if let Some(traffic) = &mut self.traffic {
            let retained = self.shared.retained;
            traffic.close(
                judged.clock.t(),
                &|window| retained.window_is_gone(window),
                self.differences,
            );
        }
        Ok(())
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

    /// A gap says that the log had lost these offsets before they were read: then it cannot hold them now.
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
