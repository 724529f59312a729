//! Which pages of a window have rows of their own where the rules bound their number: the first
//! ones of each Kafka partition, in the order of the log. Hits of all others are counted as the
//! page [`OTHER_PAGES`].
//!
//! ```text
//!   accepted rows of a window and partition, by offset      bound 2
//!   /a   /b   /a   /x   /b   /y   /a
//!   own  own       (o)       (o)            (o): counted as `(other)`
//! ```
//! What is admitted is committed with the offset that it comes from. So it is the same wherever
//! flushes are cut and whoever writes them, and all that a process keeps in memory can be read
//! again.

use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::{
    checkpoint::CheckpointDelta,
    engine::{Claim, Flush},
    event::EventTime,
    offset::{NextOffset, TopicPartition},
    settle::{Page, PartKey, page_hash},
};

/// A page with what happened there and the site, as keys hold it: see [`page_hash`].
pub type PageHash = [u8; 16];

/// What all pages beyond the bound are counted as. No event has an empty name, so no page of
/// people's own is this one, one with the same text included.
pub const OTHER_PAGES: Page<&str> = ("(other)", Some(""), None);

/// Parts that are looked up at once: each may have as many pages as a bound can be, 160 KiB of
/// hashes.
pub const LOOKED_UP_AT_ONCE: usize = 64;

/// Hashes that are kept between flushes: some 40 MiB of tables.
const MOST_KEPT: usize = 1 << 20;
/// Commits after which a window that none of them touched is forgotten.
const KEPT_FOR: u64 = 1_000;

/// Pages that a flush gives rows of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// In which window of which partition.
    pub part: PartKey,
    /// Where the flush begins.
    pub from: NextOffset,
    /// The pages, in the order of the log.
    pub pages: Vec<PageHash>,
}

/// What a process knows of admitted pages: as committed at a position, under the claim that reached
/// it.
#[derive(Default, Debug)]
pub struct AdmittedPages {
    partitions: HashMap<TopicPartition, Known, RandomState>,
    commits: u64,
}

#[derive(Debug)]
struct Known {
    claim: Claim,
    at: NextOffset,
    windows: HashMap<EventTime, Pages, RandomState>,
}

#[derive(Default, Debug)]
struct Pages {
    hashes: HashSet<PageHash, RandomState>,
    /// The number of the commit that needed them last.
    used: u64,
}

/// Admits pages for one attempt to write a flush.
pub struct Folding<'a> {
    bound: usize,
    known: &'a mut AdmittedPages,
    admitted: BTreeMap<PartKey, New>,
}

#[derive(Default)]
struct New {
    order: Vec<PageHash>,
    hashes: HashSet<PageHash, RandomState>,
}

impl AdmittedPages {
    /// Begins to admit pages of a flush whose claims and positions the database has confirmed. What
    /// is known from another claim or at another position is forgotten.
    pub fn fold(&mut self, bound: usize, flush: &Flush) -> Folding<'_> {
        for (tp, claim) in &flush.claims {
            let Some(span) = flush.batch.spans.get(tp) else {
                continue;
            };
            let (claim, at) = (*claim, span.from);
            let known = self.partitions.get(tp);
            if known.is_none_or(|known| (known.claim, known.at) != (claim, at)) {
                let windows = HashMap::default();
                self.partitions.insert(*tp, Known { claim, at, windows });
            }
        }
        Folding {
            bound,
            known: self,
            admitted: BTreeMap::new(),
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Takes over what a flush admitted, now that it is committed.
    pub fn committed(
        &mut self,
        admissions: Vec<Admission>,
        deltas: &BTreeMap<TopicPartition, CheckpointDelta>,
    ) {
        self.commits += 1;
        for admission in admissions {
            let (tp, start) = admission.part;
            let known = self.partitions.get_mut(&tp);
            // a window that had to make room is looked up the next time
            if let Some(pages) = known.and_then(|known| known.windows.get_mut(&start)) {
                pages.hashes.extend(admission.pages);
            }
        }
        for (tp, delta) in deltas {
            if let Some(known) = self.partitions.get_mut(tp) {
                known.at = delta.to;
            }
        }
        if self.commits.is_multiple_of(KEPT_FOR) {
            let since = self.commits - KEPT_FOR;
            for known in self.partitions.values_mut() {
                known.windows.retain(|_, pages| pages.used >= since);
            }
            self.partitions.retain(|_, known| !known.windows.is_empty());
        }
    }

    /// Forgets what was needed longest ago while too much is kept.
    fn make_room(&mut self, most: usize) {
        let windows = self.partitions.values().flat_map(|known| &known.windows);
        // a window without pages takes room as well
        let size = |pages: &Pages| 1 + pages.hashes.len();
        let mut kept: usize = windows.map(|(_, pages)| size(pages)).sum();
        if kept <= most {
            return;
        }
        let mut by_use: Vec<(u64, TopicPartition, EventTime)> = Vec::new();
        for (tp, known) in &self.partitions {
            by_use.extend(
                known
                    .windows
                    .iter()
                    .map(|(&at, pages)| (pages.used, *tp, at)),
            );
        }
        by_use.sort_unstable();
        for (_, tp, at) in by_use {
            if kept <= most / 2 {
                return;
            }
            let known = self.partitions.get_mut(&tp);
            if let Some(pages) = known.and_then(|known| known.windows.remove(&at)) {
                kept -= size(&pages);
            }
        }
    }
}

impl Folding<'_> {
    /// Those of the parts whose pages have to be looked up. What other flushes needed is forgotten
    /// where it takes too much room; what is known of these parts then stays until the next call.
    pub fn unknown(&mut self, mut parts: Vec<PartKey>) -> Vec<PartKey> {
        self.known.make_room(MOST_KEPT);
        parts.retain(|(tp, start)| {
            let known = self.known.partitions.get(tp);
            known.is_none_or(|known| !known.windows.contains_key(start))
        });
        parts
    }

    /// Takes what a look-up of these parts has found.
    pub fn learn(&mut self, parts: &[PartKey], found: Vec<(PartKey, Vec<PageHash>)>) {
        for &(tp, start) in parts {
            if let Some(known) = self.known.partitions.get_mut(&tp) {
                known.windows.entry(start).or_default();
            }
        }
        for ((tp, start), hashes) in found {
            let known = self.known.partitions.get_mut(&tp);
            if let Some(pages) = known.and_then(|known| known.windows.get_mut(&start)) {
                pages.hashes.extend(hashes);
            }
        }
    }

    /// Whether the page has a row of its own, from this hit on or before. To be asked in the order
    /// of the log, of a part that is known.
    pub fn admits(&mut self, part: PartKey, page: Page<&str>) -> bool {
        let (tp, start) = part;
        let used = self.known.commits;
        let known = self.known.partitions.get_mut(&tp);
        let pages = known
            .and_then(|known| known.windows.get_mut(&start))
            .expect("a part is looked up before its pages are admitted");
        pages.used = used;
        let hash = page_hash(page.0, page.1, page.2);
        if pages.hashes.contains(&hash) {
            return true;
        }
        let new = self.admitted.entry(part).or_default();
        if new.hashes.contains(&hash) {
            return true;
        }
        if pages.hashes.len() + new.order.len() >= self.bound {
            return false;
        }
        new.hashes.insert(hash);
        new.order.push(hash);
        true
    }

    /// What was admitted, in the order of its key; `from` says where each partition's stretch of
    /// the flush begins.
    pub fn into_admissions(self, from: impl Fn(TopicPartition) -> NextOffset) -> Vec<Admission> {
        self.admitted
            .into_iter()
            .filter(|(_, new)| !new.order.is_empty())
            .map(|(part, new)| Admission {
                part,
                from: from(part.0),
                pages: new.order,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::{batch::Batch, checkpoint::Counters, offset::TopicId, spec::SemanticSpec};

    const TP: TopicPartition = TopicPartition {
        topic: TopicId(1),
        partition: 0,
    };
    const BOUND: usize = 3;

    fn flush(from: usize, to: usize, claims: u128) -> Flush {
        let claim = Claim {
            token: Uuid::from_u128(claims),
            epoch: 1,
        };
        let span = crate::batch::Span {
            from: NextOffset::at(from as i64),
            to: NextOffset::at(to as i64),
            clock: Default::default(),
            skipped: 0,
            received: None,
            heartbeats: Vec::new(),
            at_end: false,
            new_rules: false,
        };
        let mut batch = Batch::default();
        batch.spans.insert(TP, span);
        let rules = Arc::new(SemanticSpec::default());
        Flush::new(batch, [(TP, claim)].into(), rules)
    }

    fn delta(flush: &Flush) -> BTreeMap<TopicPartition, CheckpointDelta> {
        let span = &flush.batch.spans[&TP];
        let delta = CheckpointDelta {
            from: span.from,
            to: span.to,
            clock: span.clock.clone(),
            counters: Counters::default(),
        };
        [(TP, delta)].into()
    }

    fn part(window: u8) -> PartKey {
        (TP, EventTime::from_micros(i64::from(window)))
    }

    /// Which hits came to rows of their pages' own, by the book.
    fn expected(hits: &[(u8, u8)]) -> Vec<bool> {
        let mut admitted: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        hits.iter()
            .map(|(window, page)| {
                let pages = admitted.entry(*window).or_default();
                if !pages.contains(page) && pages.len() < BOUND {
                    pages.push(*page);
                }
                pages.contains(page)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn which_pages_have_rows_depends_on_neither_flushes_nor_claims_nor_what_was_forgotten(
            hits in prop::collection::vec((0u8..4, 0u8..8), 1..60),
            // how long each flush is, and whether it is claimed anew, not committed the first time,
            // or much was forgotten
            cuts in prop::collection::vec((1usize..9, any::<bool>(), any::<bool>(), any::<bool>()), 60),
        ) {
            let mut stored: BTreeMap<PartKey, Vec<PageHash>> = BTreeMap::new();
            let mut pages = AdmittedPages::default();
            let mut own = Vec::new();
            let (mut from, mut claims) = (0, 1);
            for (len, claimed, fails, forgets) in cuts {
                let to = (from + len).min(hits.len());
                claims += u128::from(claimed);
                if forgets {
                    pages.make_room(2);
                }
                for attempt in 0..=usize::from(fails) {
                    let flush = flush(from, to, claims);
                    let mut folding = pages.fold(BOUND, &flush);
                    let mut parts: Vec<PartKey> = hits[from..to].iter().map(|hit| part(hit.0)).collect();
                    parts.sort_unstable();
                    parts.dedup();
                    let unknown = folding.unknown(parts);
                    let found = unknown.iter().filter_map(|part| Some((*part, stored.get(part)?.clone())));
                    let found = found.collect();
                    folding.learn(&unknown, found);
                    let is_own: Vec<bool> = hits[from..to]
                        .iter()
                        .map(|(window, page)| folding.admits(part(*window), (&page.to_string(), None, None)))
                        .collect();
                    let admissions = folding.into_admissions(|_| NextOffset::at(from as i64));
                    if attempt == usize::from(fails) {
                        for admission in &admissions {
                            stored.entry(admission.part).or_default().extend(&admission.pages);
                        }
                        pages.committed(admissions, &delta(&flush));
                        own.extend(is_own);
                    }
                }
                from = to;
            }
            prop_assert_eq!(own, expected(&hits[..from]));
        }
    }

    #[test]
    fn a_window_that_no_flush_touches_is_forgotten_and_so_is_all_that_takes_too_much_room() {
        let mut pages = AdmittedPages::default();
        let count = |pages: &AdmittedPages| -> usize {
            let known = pages.partitions.values();
            known.map(|known| known.windows.len()).sum()
        };
        let visit = |pages: &mut AdmittedPages, at: usize, window: u8| {
            let flush = flush(at, at + 1, 1);
            let mut folding = pages.fold(BOUND, &flush);
            let unknown = folding.unknown(vec![part(window)]);
            folding.learn(&unknown, Vec::new());
            assert!(folding.admits(part(window), ("/", None, None)));
            let admissions = folding.into_admissions(|_| NextOffset::at(at as i64));
            pages.committed(admissions, &delta(&flush));
        };
        for window in 0..8 {
            visit(&mut pages, window.into(), window);
        }
        assert_eq!(count(&pages), 8);
        // each of them is one window and one page
        pages.make_room(16);
        assert_eq!(count(&pages), 8);
        pages.make_room(15);
        assert_eq!(count(&pages), 3, "no more than half of it is left");
        for at in 8..8 + 2 * KEPT_FOR as usize {
            visit(&mut pages, at, 7);
        }
        assert_eq!(count(&pages), 1);
    }

    #[test]
    fn no_page_of_an_event_is_the_one_of_other_pages() {
        let (text, name, site) = OTHER_PAGES;
        let other = page_hash(text, name, site);
        for (name, site) in [
            (None, None),
            (Some("page_view"), None),
            (Some("(other)"), None),
            (None, Some("shop.example")),
            (Some("(other)"), Some("(other)")),
        ] {
            assert_ne!(page_hash(text, name, site), other, "{name:?} {site:?}");
        }
    }
}
