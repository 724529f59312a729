//! Hits and distinct counts, recomputed from the accepted records and compared with what the snapshot holds.
//!
//! Hits per page are compared window by window through a sum of hits times a keyed hash of the page: two windows with the
//! same sum hold the same hits for the same pages, but for a chance of 2^-128. So memory grows with the number of windows,
//! not with the number of pages or events.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
};

use clickstream_pipeline::{
    event::{Event, EventTime},
    offset::TopicPartition,
    settle::url_hash,
    sketch::Sketch,
    window::Window,
};

use super::report::{Difference, Differences, Kind};

/// Characters of a page's address that a report shows.
const SHOWN: usize = 120;

/// Hashes pages under a key that is drawn anew for each audit.
#[derive(Default, Debug)]
pub struct Fingerprints {
    high: RandomState,
    low: RandomState,
}

/// Hits of all pages of one window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct WindowSum {
    /// First instant after the window.
    pub end: EventTime,
    /// Number of hits.
    pub hits: i64,
    fingerprint: u128,
}

/// A row of `clickstream_traffic_parts` without its sketches.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// First instant of the window.
    pub start: EventTime,
    /// First instant after it.
    pub end: EventTime,
    /// Accepted events.
    pub hits: i64,
    /// Estimate of distinct users.
    pub visitors: i64,
    /// Estimate of distinct visits.
    pub sessions: i64,
}

/// What one window of one partition becomes while its records are read.
#[derive(Default, Debug)]
pub struct Traffic {
    hits: i64,
    visitors: Sketch,
    sessions: Sketch,
}

/// Traffic of one partition: windows that may still change are held, the others are compared and forgotten.
pub struct TrafficAudit<'a> {
    tp: TopicPartition,
    topic: &'a str,
    stored: &'a [Part],
    seen: Vec<bool>,
    open: BTreeMap<EventTime, (EventTime, Traffic)>,
    grace_micros: i64,
}

impl Fingerprints {
    /// The hash of a page, given by its stored hash.
    pub fn of(&self, url_hash: &[u8; 16]) -> u128 {
        u128::from(self.high.hash_one(url_hash)) << 64 | u128::from(self.low.hash_one(url_hash))
    }
}

impl WindowSum {
    /// A window without hits.
    pub fn ending(end: EventTime) -> Self {
        Self {
            end,
            hits: 0,
            fingerprint: 0,
        }
    }

    /// Adds hits of one page.
    pub fn add(&mut self, page: u128, hits: i64) {
        self.hits += hits;
        // i128 -> u128 keeps arithmetic modulo 2^128, negative hits included
        let weight = i128::from(hits) as u128;
        self.fingerprint = self.fingerprint.wrapping_add(page.wrapping_mul(weight));
    }
}

impl Traffic {
    /// Counts an accepted event.
    pub fn add(&mut self, user: &str, session: Option<&str>) {
        self.hits += 1;
        self.visitors.add(user);
        if let Some(session) = session {
            self.sessions.add(session);
        }
    }

    /// Compares with the stored row, or with the fact that there is none.
    pub fn compare(
        &self,
        tp: TopicPartition,
        topic: &str,
        start: EventTime,
        stored: Option<&Part>,
        differences: &mut Differences,
    ) {
        let mut differ = |kind, what: &str, expected: i64, found: i64| {
            if expected != found {
                let detail = format!("{what}: stored {found}, recomputed {expected}");
                let found = Difference::new(kind, detail);
                differences.add(Some(tp), found.of(topic, tp.partition).in_window(start));
            }
        };
        differ(
            Kind::TrafficHitsDiffer,
            "hits",
            self.hits,
            stored.map_or(0, |part| part.hits),
        );
        if let Some(part) = stored {
            differ(
                Kind::EstimateDiffers,
                "visitors",
                self.visitors.estimate(),
                part.visitors,
            );
            differ(
                Kind::EstimateDiffers,
                "sessions",
                self.sessions.estimate(),
                part.sessions,
            );
        }
    }
}

impl<'a> TrafficAudit<'a> {
    /// `grace_micros` after the end of a window, on T's scale, it cannot change any more.
    pub fn new(tp: TopicPartition, topic: &'a str, stored: &'a [Part], grace_micros: i64) -> Self {
        Self {
            tp,
            topic,
            stored,
            seen: vec![false; stored.len()],
            open: BTreeMap::new(),
            grace_micros,
        }
    }

    /// Counts an accepted event.
    pub fn add(&mut self, window: Window, user: &str, session: Option<&str>) {
        let (_, traffic) = self
            .open
            .entry(window.start)
            .or_insert_with(|| (window.end, Traffic::default()));
        traffic.add(user, session);
    }

    /// Compares the windows that can get no more events, now that event time has come to `t`.
    pub fn close(
        &mut self,
        t: Option<EventTime>,
        excluded: &dyn Fn(Window) -> bool,
        differences: &mut Differences,
    ) {
        let Some(t) = t else { return };
        while let Some(first) = self.open.first_entry()
            && first.get().0.micros() + self.grace_micros <= t.micros()
        {
            let (start, (end, traffic)) = first.remove_entry();
            self.compare(Window { start, end }, &traffic, excluded, differences);
        }
    }

    /// Compares everything that is left, stored rows without a record included, and returns the number of windows.
    pub fn finish(mut self, excluded: &dyn Fn(Window) -> bool, differences: &mut Differences) {
        for (start, (end, traffic)) in std::mem::take(&mut self.open) {
            self.compare(Window { start, end }, &traffic, excluded, differences);
        }
        for (part, _) in self
            .stored
            .iter()
            .zip(&self.seen)
            .filter(|(_, seen)| !**seen)
        {
            let window = Window {
                start: part.start,
                end: part.end,
            };
            if !excluded(window) {
                Traffic::default().compare(
                    self.tp,
                    self.topic,
                    part.start,
                    Some(part),
                    differences,
                );
            }
        }
    }

    fn compare(
        &mut self,
        window: Window,
        traffic: &Traffic,
        excluded: &dyn Fn(Window) -> bool,
        differences: &mut Differences,
    ) {
        let found = self
            .stored
            .binary_search_by_key(&window.start, |part| part.start)
            .ok();
        if let Some(at) = found {
            self.seen[at] = true;
        }
        if !excluded(window) {
            traffic.compare(
                self.tp,
                self.topic,
                window.start,
                found.map(|at| &self.stored[at]),
                differences,
            );
        }
    }
}

/// Adds an accepted event to the sums of its window.
pub fn count(
    windows: &mut HashMap<EventTime, WindowSum>,
    fingerprints: &Fingerprints,
    window: Window,
    event: &Event<'_>,
) {
    windows
        .entry(window.start)
        .or_insert_with(|| WindowSum::ending(window.end))
        .add(fingerprints.of(&url_hash(&event.url)), 1);
}

/// The windows whose hits differ, in order.
pub fn differing(
    stored: &HashMap<EventTime, WindowSum>,
    recomputed: &HashMap<EventTime, WindowSum>,
) -> Vec<Window> {
    let mut windows: Vec<Window> = stored
        .iter()
        .filter(|(start, sum)| recomputed.get(start) != Some(sum))
        .chain(
            recomputed
                .iter()
                .filter(|(start, _)| !stored.contains_key(start)),
        )
        .map(|(&start, sum)| Window {
            start,
            end: sum.end,
        })
        .collect();
    windows.sort_unstable();
    windows
}

/// A page's address as a report shows it.
pub fn shown(url: &str) -> String {
    match url.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &url[..end]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn window(minute: i64) -> Window {
        let start = EventTime::from_micros(minute * 60_000_000);
        Window {
            start,
            end: EventTime::from_micros((minute + 1) * 60_000_000),
        }
    }

    #[test]
    fn sums_are_equal_only_for_the_same_hits_of_the_same_pages() {
        let fingerprints = Fingerprints::default();
        let sum = |pages: &[(&str, i64)]| {
            let mut sum = WindowSum::ending(window(0).end);
            for (page, hits) in pages {
                sum.add(fingerprints.of(&url_hash(page)), *hits);
            }
            sum
        };
        assert_eq!(
            sum(&[("/a", 2), ("/b", 1)]),
            sum(&[("/b", 1), ("/a", 1), ("/a", 1)])
        );
        assert_ne!(sum(&[("/a", 2), ("/b", 1)]), sum(&[("/a", 1), ("/b", 2)]));
        assert_ne!(sum(&[("/a", 2)]), sum(&[("/c", 2)]));
        assert_eq!(sum(&[("/a", 2), ("/a", -2)]), sum(&[]));
    }

    #[test]
    fn windows_differ_when_either_side_lacks_them() {
        let only = |minute: i64| {
            HashMap::from([(window(minute).start, WindowSum::ending(window(minute).end))])
        };
        assert_eq!(differing(&only(1), &only(1)), []);
        assert_eq!(differing(&only(2), &only(1)), [window(1), window(2)]);
    }

    #[test]
    fn estimates_depend_on_the_set_of_values_alone() {
        // as the processor does it: flushes of any size, each in key order, stored and loaded in between
        let users: Vec<String> = (0..20_000).map(|i| format!("user-{}", i % 7_000)).collect();
        for (taken, flush) in [
            (31, 7),
            (500, 13),
            (7_000, 61),
            (20_000, 1_009),
            (20_000, 9_973),
        ] {
            let mut in_log_order = Sketch::default();
            let mut in_flushes = Sketch::default();
            for batch in users[..taken].chunks(flush) {
                batch.iter().for_each(|user| in_log_order.add(user));
                let mut sorted: Vec<&String> = batch.iter().collect();
                sorted.sort_by_key(|user| url_hash(user));
                sorted.into_iter().for_each(|user| in_flushes.add(user));
                in_flushes = Sketch::from_bytes(&in_flushes.to_bytes()).unwrap();
            }
            assert_eq!(
                in_log_order.estimate(),
                in_flushes.estimate(),
                "{taken} in flushes of {flush}"
            );
        }
    }
}
