//! Hits, distinct counts and sketches, recomputed from the accepted records and compared with what is stored.
//!
//! Windows are compared through sums of keyed hashes: of hits times the hash of their page, and of the hashes of the
//! partitions' traffic. Two windows with the same sums hold the same, but for a chance of 2^-128. So memory grows with the
//! number of windows, not with that of pages, partitions or events.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
};

use clickstream_pipeline::{
    event::{Event, EventTime},
    offset::TopicPartition,
    settle::url_hash,
    sketch::{SKETCH_FORMAT, Sketch},
    window::Window,
};

use super::{
    report::{Difference, Differences, Kind},
    sketches::canonical,
    stored::user_text,
};

/// Characters of a page's address that a report shows.
const SHOWN: usize = 120;

/// Hashes pages and traffic under a key that is drawn anew for each audit.
#[derive(Default, Debug)]
pub struct Fingerprints {
    high: RandomState,
    low: RandomState,
}

/// Hits of all pages and traffic of all partitions of one window.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct WindowSum {
    /// First instant after the window.
    pub end: EventTime,
    /// Number of hits, by pages.
    pub hits: i64,
    /// Number of hits, by partitions.
    pub traffic_hits: i64,
    pages: u128,
    traffic: u128,
}

/// A row of `clickstream_traffic_parts`, its sketches by what they say.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Part {
    /// Accepted events.
    pub hits: i64,
    /// Estimate of distinct users.
    pub visitors: i64,
    /// Estimate of distinct visits.
    pub sessions: i64,
    /// Form of the sketches.
    pub sketch_format: i16,
    /// Fingerprints of the two sketches.
    pub sketches: [u128; 2],
}

/// What one window of one partition becomes while its records are read.
#[derive(Default, Debug)]
pub struct Traffic {
    hits: i64,
    visitors: Sketch,
    sessions: Sketch,
}

/// Windows of one partition, recomputed: those that may still change are held, the others go into the sums.
pub struct OpenWindows {
    tp: TopicPartition,
    open: BTreeMap<EventTime, (EventTime, Traffic)>,
    closed: HashSet<EventTime>,
    grace_micros: i64,
    /// Windows that are held although their grace is over, since late events may still be counted in them.
    held: usize,
    /// Windows that could be compared.
    compared: u64,
}

/// Where recomputed windows go, and which of them count.
pub struct Sums<'a> {
    /// The keys.
    pub fingerprints: &'a Fingerprints,
    /// By the start of the window.
    pub windows: &'a mut HashMap<EventTime, WindowSum>,
    /// Windows that got a hit after they had been summed up: their traffic is not in the sums.
    pub reopened: &'a mut HashSet<EventTime>,
    /// Whether what is stored of a window may have expired.
    pub excluded: &'a dyn Fn(Window) -> bool,
}

impl Fingerprints {
    /// The hash of a page, given by its stored hash.
    pub fn of(&self, url_hash: &[u8; 16]) -> u128 {
        self.hash(url_hash)
    }

    /// The hash of what a sketch says.
    pub fn of_sketch(&self, bytes: Vec<u8>) -> u128 {
        self.hash(canonical(bytes))
    }

    fn hash(&self, value: impl Hash) -> u128 {
        u128::from(self.high.hash_one(&value)) << 64 | u128::from(self.low.hash_one(&value))
    }
}

impl WindowSum {
    /// A window without hits.
    pub fn ending(end: EventTime) -> Self {
        Self {
            end,
            hits: 0,
            traffic_hits: 0,
            pages: 0,
            traffic: 0,
        }
    }

    /// Adds hits of one page.
    pub fn add(&mut self, page: u128, hits: i64) {
        self.hits += hits;
        // i128 -> u128 keeps arithmetic modulo 2^128, negative hits included
        let weight = i128::from(hits) as u128;
        self.pages = self.pages.wrapping_add(page.wrapping_mul(weight));
    }

    /// Adds the traffic of one partition.
    pub fn add_part(&mut self, fingerprints: &Fingerprints, tp: TopicPartition, part: &Part) {
        self.traffic_hits += part.hits;
        self.traffic = self.traffic.wrapping_add(fingerprints.hash((tp, part)));
    }

    /// Whether both hold the same hits for the same pages.
    pub fn same_pages(&self, other: &Self) -> bool {
        (self.end, self.hits, self.pages) == (other.end, other.hits, other.pages)
    }
}

impl Part {
    /// Compares with the stored row, or with the fact that there is none.
    pub fn compare(
        &self,
        tp: TopicPartition,
        topic: &str,
        start: EventTime,
        stored: Option<&Part>,
        differences: &mut Differences,
    ) {
        let mut differ = |kind, detail: String| {
            let found = Difference::new(kind, detail);
            differences.add(Some(tp), found.of(topic, tp.partition).in_window(start));
        };
        let numbers = |part: &Part| {
            [
                (Kind::TrafficHitsDiffer, "hits", part.hits),
                (Kind::EstimateDiffers, "visitors", part.visitors),
                (Kind::EstimateDiffers, "sessions", part.sessions),
            ]
        };
        let Some(stored) = stored else {
            if self.hits != 0 {
                let detail = format!("hits: stored 0, recomputed {}", self.hits);
                differ(Kind::TrafficHitsDiffer, detail);
            }
            return;
        };
        for ((kind, what, expected), (_, _, found)) in
            numbers(self).into_iter().zip(numbers(stored))
        {
            if expected != found {
                differ(
                    kind,
                    format!("{what}: stored {found}, recomputed {expected}"),
                );
            }
        }
        if stored.sketch_format != self.sketch_format {
            let (expected, found) = (self.sketch_format, stored.sketch_format);
            differ(
                Kind::SketchDiffers,
                format!("sketch_format {found} instead of {expected}"),
            );
        }
        for (at, (column, values)) in [("visitors_sketch", "users"), ("sessions_sketch", "visits")]
            .into_iter()
            .enumerate()
        {
            if stored.sketches[at] != self.sketches[at] {
                differ(
                    Kind::SketchDiffers,
                    format!("{column}: not that of the window's {values}"),
                );
            }
        }
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

    /// The row that must be stored.
    pub fn part(&self, fingerprints: &Fingerprints) -> Part {
        Part {
            hits: self.hits,
            visitors: self.visitors.estimate(),
            sessions: self.sessions.estimate(),
            sketch_format: SKETCH_FORMAT,
            sketches: [&self.visitors, &self.sessions]
                .map(|sketch| fingerprints.of_sketch(sketch.to_bytes())),
        }
    }
}

impl OpenWindows {
    /// `grace_micros` after the end of a window, on T's scale, it cannot change any more, unless late events are counted in
    /// their window: then the newest `held` are kept all the same.
    pub fn new(tp: TopicPartition, grace_micros: i64, held: usize) -> Self {
        Self {
            tp,
            open: BTreeMap::new(),
            closed: HashSet::new(),
            grace_micros,
            held,
            compared: 0,
        }
    }

    /// Counts an accepted event.
    pub fn add(&mut self, window: Window, event: &Event<'_>, sums: &mut Sums<'_>) {
        sums.windows
            .entry(window.start)
            .or_insert_with(|| WindowSum::ending(window.end))
            .add(sums.fingerprints.of(&url_hash(&event.url)), 1);
        if self.closed.contains(&window.start) {
            sums.reopened.insert(window.start);
            return;
        }
        let (_, traffic) = self
            .open
            .entry(window.start)
            .or_insert_with(|| (window.end, Traffic::default()));
        traffic.add(&user_text(event), event.session_id.as_deref());
    }

    /// Sums the windows up that can get no more events, now that event time has come to `t`.
    pub fn close(&mut self, t: Option<EventTime>, sums: &mut Sums<'_>) {
        let Some(t) = t else { return };
        while self.open.len() > self.held
            && let Some(first) = self.open.first_entry()
            && first.get().0.micros() + self.grace_micros <= t.micros()
        {
            let (start, (end, traffic)) = first.remove_entry();
            self.sum_up(Window { start, end }, &traffic, sums);
            self.closed.insert(start);
        }
    }

    /// Sums everything up that is left, and returns how many windows could be compared.
    pub fn finish(mut self, sums: &mut Sums<'_>) -> u64 {
        for (start, (end, traffic)) in std::mem::take(&mut self.open) {
            self.sum_up(Window { start, end }, &traffic, sums);
        }
        self.compared
    }

    fn sum_up(&mut self, window: Window, traffic: &Traffic, sums: &mut Sums<'_>) {
        let part = traffic.part(sums.fingerprints);
        sums.windows
            .entry(window.start)
            .or_insert_with(|| WindowSum::ending(window.end))
            .add_part(sums.fingerprints, self.tp, &part);
        if !(sums.excluded)(window) {
            self.compared += 1;
        }
    }
}

/// The windows whose hits or traffic differ, in order. Of those that were reopened, only the hits are known.
pub fn differing(
    stored: &HashMap<EventTime, WindowSum>,
    recomputed: &HashMap<EventTime, WindowSum>,
    reopened: &HashSet<EventTime>,
) -> Vec<Window> {
    let mut windows: Vec<Window> = stored
        .iter()
        .filter(|(start, sum)| match recomputed.get(start) {
            Some(log) if reopened.contains(start) => !sum.same_pages(log),
            log => log != Some(sum),
        })
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
        let none = HashSet::new();
        assert_eq!(differing(&only(1), &only(1), &none), []);
        assert_eq!(differing(&only(2), &only(1), &none), [window(1), window(2)]);
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
