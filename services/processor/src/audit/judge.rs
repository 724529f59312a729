//! What the log and the rules alone say of each record: the part of a verdict that needs no
//! database.

use std::{collections::BTreeSet, sync::Arc};

use clickstream_pipeline::{
    decode::Decoder,
    event::EventTime,
    offset::NextOffset,
    spec::{LatePolicy, SemanticSpec},
    watermark::EventClock,
    window::{Lateness, TumblingWindow, Window},
};

use super::{
    anchors::Anchor,
    log::{LoggedRecord, Slice},
    stored::{Key, Request},
};

/// Verdict of the log on one record, or on one element of the batch in it.
#[derive(Debug)]
pub enum Outcome {
    /// The record has no value, or holds an empty batch.
    Skipped,
    /// No event.
    Rejected,
    /// An event.
    Event {
        /// Its identity.
        key: Key,
        /// Its window.
        window: Window,
        /// Whether it came behind the end of grace.
        late: bool,
    },
}

/// A slice with the log's verdicts.
pub struct JudgedSlice {
    /// The records.
    pub slice: Slice,
    /// One verdict for each, or for each event that they hold.
    pub outcomes: Vec<Outcome>,
    /// Where the verdicts of each record end.
    ends: Vec<usize>,
    /// The rules that were in force.
    pub spec: SemanticSpec,
    /// The decoder that follows them.
    pub decoder: Arc<Decoder>,
    /// Event time at the end of the slice.
    pub clock: EventClock,
    /// The anchor that stands at the end of the slice, by its place in the partition's list.
    pub anchor: Option<usize>,
}

/// Judges the slices of one partition in log order.
pub struct Judge<'a> {
    anchors: &'a [Anchor],
    spec: SemanticSpec,
    decoder: Arc<Decoder>,
    clock: EventClock,
}

impl<'a> Judge<'a> {
    /// Begins at the first of `anchors`; `None` without any.
    pub fn new(anchors: &'a [Anchor]) -> Option<Self> {
        let begin = anchors.first()?;
        Some(Self {
            anchors,
            spec: begin.spec.clone(),
            decoder: Arc::new(begin.spec.decoder()),
            clock: EventClock::restore(begin.state.t, &begin.state.times),
        })
    }

    /// Judges the next slice. It must not reach over an anchor.
    pub fn slice(&mut self, slice: Slice) -> JudgedSlice {
        // the newest anchor at or below the slice holds the rules of the slice
        let rules = self
            .anchors
            .iter()
            .rev()
            .find(|anchor| anchor.next.get() <= slice.offsets.start);
        if let Some(anchor) = rules
            && anchor.spec != self.spec
        {
            self.spec = anchor.spec.clone();
            self.decoder = Arc::new(self.spec.decoder());
        }
        let spec = &self.spec;
        let windows = TumblingWindow::new(spec.window_micros);
        let lateness = Lateness {
            delay_micros: spec.delay_micros,
            allowed_micros: spec.allowed_lateness_micros,
        };
        let mut outcomes = Vec::with_capacity(slice.records.len());
        let mut ends = Vec::with_capacity(slice.records.len());
        for record in &slice.records {
            let begins = outcomes.len();
            if let Some(value) = slice.value(record) {
                self.decoder
                    .decode_each(value, record.received_at, |element| {
                        outcomes.push(match element.verdict {
                            Ok(event) => {
                                let window = windows.containing(event.event_ts);
                                let late = lateness.is_late(window, &self.clock);
                                self.clock.observe(event.event_ts);
                                let key = (event.event_id, event.event_ts.day());
                                Outcome::Event { key, window, late }
                            }
                            Err(_) => Outcome::Rejected,
                        });
                    });
            }
            if outcomes.len() == begins {
                outcomes.push(Outcome::Skipped);
            }
            ends.push(outcomes.len());
        }
        let end = NextOffset::at(slice.offsets.end);
        JudgedSlice {
            anchor: self.anchors.iter().position(|anchor| anchor.next == end),
            clock: self.clock.clone(),
            outcomes,
            ends,
            spec: self.spec.clone(),
            decoder: Arc::clone(&self.decoder),
            slice,
        }
    }
}

impl JudgedSlice {
    /// The records, each with the verdicts on what it holds.
    pub fn records(&self) -> impl Iterator<Item = (&LoggedRecord, &[Outcome])> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let places = begins.zip(&self.ends);
        let outcomes = places.map(|(begins, &end)| &self.outcomes[begins..end]);
        self.slice.records.iter().zip(outcomes)
    }

    /// Windows of the slice's events, where the rules bound their pages.
    fn windows_with_a_bound(&self) -> Vec<EventTime> {
        if self.spec.events.derived.most_pages().is_none() {
            return Vec::new();
        }
        let starts = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Event { window, .. } => Some(window.start),
            Outcome::Skipped | Outcome::Rejected => None,
        });
        starts.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What has to be looked up.
    pub fn request(&self, topic: &str, partition: i32) -> Request {
        let events = || {
            self.outcomes.iter().filter_map(|outcome| match outcome {
                Outcome::Event { key, late, .. } => Some((*key, *late)),
                Outcome::Skipped | Outcome::Rejected => None,
            })
        };
        let diverted = self.spec.late_policy == LatePolicy::Divert;
        Request {
            topic: topic.to_owned(),
            partition,
            offsets: self.slice.offsets.clone(),
            keys: events().map(|(key, _)| key).collect(),
            late_keys: events()
                .filter(|(_, late)| *late && diverted)
                .map(|(key, _)| key)
                .collect(),
            windows: self.windows_with_a_bound(),
            promoted: self.spec.events.columns.clone(),
        }
    }
}
