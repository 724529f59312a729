//! Hits, distinct counts and sketches, recomputed from the accepted records and compared with what
//! is stored.
//!
//! Windows are compared through sums of keyed hashes: of hits times the hash of their page, and of
//! the hashes of the partitions' traffic. Two windows with the same sums hold the same, but for a
//! chance of 2^-128. So memory grows with the number of windows, not with that of pages, partitions
//! or events.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
};

use clickstream_pipeline::{
    admission::PageHash,
    event::{Event, EventTime},
    offset::TopicPartition,
    settle::page_hash,
    sketch::{SKETCH_FORMAT, Sketch},
    window::Window,
};

use super::{
    report::{Difference, Differences, Kind},
    stored::user_text,
};

/// `sketch_format` of rows that a processor of an earlier version wrote (also): their bits lack
/// values.
const OLDER_FORMAT: i16 = 1;
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
    bots: u128,
    traffic: u128,
}

/// A row of `clickstream_traffic_parts`, its sets by what is in them.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Part {
    /// Accepted events.
    pub hits: i64,
    /// Those of them that something speaks for being a program's.
    pub bot_hits: i64,
    /// Form of the sets of users and visits.
    pub sketch_format: i16,
    /// Fingerprints of the two sets.
    pub sets: [u128; 2],
}

/// What one window of one partition becomes while its records are read.
#[derive(Default, Debug)]
pub struct Traffic {
    hits: i64,
    bot_hits: i64,
    visitors: Sketch,
    sessions: Sketch,
}

/// Windows of one partition, recomputed: those that may still change are held, the others go into
/// the sums.
pub struct OpenWindows {
    tp: TopicPartition,
    open: BTreeMap<EventTime, (EventTime, Traffic)>,
    closed: HashSet<EventTime>,
    grace_micros: i64,
    /// Windows that are held although their grace is over, since late events may still be counted
    /// in them.
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
    /// Whether the partition's row of the window that starts there is of the older form.
    pub older: &'a dyn Fn(EventTime) -> bool,
}

impl Fingerprints {
    /// The hash of a page, given by its stored hash.
    pub fn of(&self, url_hash: &[u8; 16]) -> u128 {
        self.hash(url_hash)
    }

    /// The hash of a set of bits, however many empty bytes are at its end; of no set where there is
    /// none.
    pub fn of_bits(&self, bits: Option<&[u8]>) -> u128 {
        self.hash(bits.map(|bytes| {
            let used = bytes.iter().rposition(|byte| *byte != 0);
            &bytes[..used.map_or(0, |last| last + 1)]
        }))
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
            bots: 0,
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

    /// Says of so many hits of a page that something speaks for being a program's.
    pub fn mark(&mut self, page: u128, bot_hits: i64) {
        let weight = i128::from(bot_hits) as u128;
        self.bots = self.bots.wrapping_add(page.wrapping_mul(weight));
    }

    /// Adds the traffic of one partition.
    pub fn add_part(&mut self, fingerprints: &Fingerprints, tp: TopicPartition, part: &Part) {
        self.traffic_hits += part.hits;
        self.traffic = self.traffic.wrapping_add(fingerprints.hash((tp, part)));
    }

    /// Whether both hold the same hits for the same pages.
    pub fn same_pages(&self, other: &Self) -> bool {
        let of = |sum: &Self| (sum.end, sum.hits, sum.pages, sum.bots);
        of(self) == of(other)
    }
}

impl Part {
    /// A row whose sets say nothing.
    pub fn of_older_form(hits: i64, bot_hits: i64) -> Self {
        Self {
            hits,
            bot_hits,
            sketch_format: OLDER_FORMAT,
            sets: [0; 2],
        }
    }

    /// Whether its sets say nothing.
    pub fn is_of_older_form(&self) -> bool {
        self.sketch_format == OLDER_FORMAT
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
        let mut differ = |kind, detail: String| {
            let found = Difference::new(kind, detail);
            differences.add(Some(tp), found.of(topic, tp.partition).in_window(start));
        };
        let Some(stored) = stored else {
            if self.hits != 0 {
                let detail = format!("hits: stored 0, recomputed {}", self.hits);
                differ(Kind::TrafficHitsDiffer, detail);
            }
            return;
        };
        if stored.hits != self.hits {
            let (expected, found) = (self.hits, stored.hits);
            differ(
                Kind::TrafficHitsDiffer,
                format!("hits: stored {found}, recomputed {expected}"),
            );
        }
        if stored.bot_hits != self.bot_hits {
            let (expected, found) = (self.bot_hits, stored.bot_hits);
            differ(
                Kind::TrafficHitsDiffer,
                format!("bot_hits: stored {found}, recomputed {expected}"),
            );
        }
        if stored.is_of_older_form() {
            return;
        }
        if stored.sketch_format != self.sketch_format {
            let (expected, found) = (self.sketch_format, stored.sketch_format);
            differ(
                Kind::SketchDiffers,
                format!("sketch_format {found} instead of {expected}"),
            );
        }
        for (at, (column, values)) in [("visitors_bits", "users"), ("sessions_bits", "visits")]
            .into_iter()
            .enumerate()
        {
            if stored.sets[at] != self.sets[at] {
                differ(
                    Kind::SketchDiffers,
                    format!("{column}: not that of the window's {values}"),
                );
            }
        }
    }
}

impl Traffic {
    /// Counts an accepted event; `bot`: something speaks for being a program's.
    pub fn add(&mut self, user: &str, session: Option<&str>, bot: bool) {
        self.hits += 1;
        self.bot_hits += i64::from(bot);
        self.visitors.add(user);
        if let Some(session) = session {
            self.sessions.add(session);
        }
    }

    /// The row that must be stored.
    pub fn part(&self, fingerprints: &Fingerprints) -> Part {
        Part {
            hits: self.hits,
            bot_hits: self.bot_hits,
            sketch_format: SKETCH_FORMAT,
            sets: [&self.visitors, &self.sessions]
                .map(|sketch| fingerprints.of_bits(Some(sketch.bytes()))),
        }
    }
}

impl OpenWindows {
    /// `grace_micros` after the end of a window, on T's scale, it cannot change any more, unless
    /// late events are counted in their window: then the newest `held` are kept all the same.
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

    /// Counts an accepted event as a hit of this page.
    pub fn add(&mut self, window: Window, page: &PageHash, event: &Event<'_>, sums: &mut Sums<'_>) {
        let (page, bot) = (sums.fingerprints.of(page), is_bot(event));
        let sum = sums
            .windows
            .entry(window.start)
            .or_insert_with(|| WindowSum::ending(window.end));
        sum.add(page, 1);
        sum.mark(page, bot.into());
        if self.closed.contains(&window.start) {
            sums.reopened.insert(window.start);
            return;
        }
        let (_, traffic) = self
            .open
            .entry(window.start)
            .or_insert_with(|| (window.end, Traffic::default()));
        traffic.add(&user_text(event), event.session_id.as_deref(), bot);
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
        let part = if (sums.older)(window.start) {
            Part::of_older_form(traffic.hits, traffic.bot_hits)
        } else {
            traffic.part(sums.fingerprints)
        };
        sums.windows
            .entry(window.start)
            .or_insert_with(|| WindowSum::ending(window.end))
            .add_part(sums.fingerprints, self.tp, &part);
        if !(sums.excluded)(window) {
            self.compared += 1;
        }
    }
}

/// The windows whose hits or traffic differ, in order. Of those that were reopened, only the hits
/// are known.
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

/// What the hit of an event is counted by, if its page has a row of its own.
pub fn page_of(event: &Event<'_>) -> PageHash {
    let page = event.derived.as_deref().and_then(|d| d.page.as_deref());
    page_hash(
        page.unwrap_or(&event.url),
        event.event_name.as_deref(),
        event.site.as_deref(),
    )
}

fn is_bot(event: &Event<'_>) -> bool {
    event
        .derived
        .as_deref()
        .is_some_and(|derived| derived.bot != 0)
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

    use clickstream_pipeline::settle::url_hash;

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
    fn bits_are_equal_whatever_is_empty_behind_them_and_no_bits_are_not_none() {
        let fingerprints = Fingerprints::default();
        let of = |bits: Option<&[u8]>| fingerprints.of_bits(bits);
        assert_eq!(of(Some(&[4, 0, 1])), of(Some(&[4, 0, 1, 0, 0])));
        assert_eq!(of(Some(&[])), of(Some(&[0; 3_072])));
        assert_ne!(of(Some(&[4, 0, 1])), of(Some(&[4, 1])));
        assert_ne!(of(Some(&[])), of(None));
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
}
