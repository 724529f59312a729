//! What a flush means: which rows are written in which way, and, once the database has judged the
//! suspects, what every partition's counters, hits and distinct counts gain.

use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    admission::{Folding, OTHER_PAGES, PageHash},
    batch::{Batch, Row},
    checkpoint::{CheckpointDelta, Counters},
    event::{Day, EventTime, PAGE_VIEW},
    offset::TopicPartition,
    sketch::Sketch,
    spec::LatePolicy,
    window::{TumblingWindow, Window},
};

/// Which way each row of a batch goes. Numbers are places in `batch.rows`; each list is in the
/// primary key's order, which keeps writes to neighbouring index leaves and locks in one order.
#[derive(Clone, Default, Debug)]
pub struct Plan {
    /// Surely new: COPY.
    pub new: Vec<u32>,
    /// Perhaps there already: `insert .. on conflict do nothing`.
    pub suspects: Vec<u32>,
    /// Late and not to be stored: judged against the stored rows and (with `Divert`) kept in the
    /// late ledger.
    pub late: Vec<u32>,
}

/// What the database said.
#[derive(Default, Debug)]
pub struct Judgement {
    /// Suspects that were inserted.
    pub inserted: Vec<u32>,
    /// Late rows that are no duplicates.
    pub late: Vec<u32>,
}

/// Additional hits of one page in one window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HitDelta {
    /// The window.
    pub window: Window,
    /// The page.
    pub url: String,
    /// What happened there; `None`: a page view.
    pub event_name: Option<String>,
    /// The site, where it is known.
    pub site: Option<String>,
    /// See [`page_hash`]: what keys hold, since a long page does not fit a btree.
    pub url_hash: PageHash,
    /// How many hits to add.
    pub hits: i64,
    /// Those of them that something speaks for being a program's.
    pub bot_hits: i64,
}

/// Key of a [`PartDelta`]: the partition and the start of the window.
pub type PartKey = (TopicPartition, EventTime);

/// What one row of `clickstream_traffic_parts` gains: all of it is added to what is stored, which
/// need not be known.
#[derive(Clone, Default, Debug)]
pub struct PartDelta {
    /// Hits.
    pub hits: i64,
    /// Those of them that something speaks for being a program's.
    pub bot_hits: i64,
    /// Those of them that came after the window had been reported final.
    pub revised: i64,
    /// Users.
    pub visitors: Sketch,
    /// Visits.
    pub sessions: Sketch,
}

/// A page, what happened there, and the site: what hits are counted by within a window.
pub type Page<S> = (S, Option<S>, Option<S>);

/// How many hits, and how many of them something speaks for being a program's.
type Hits = (i64, i64);

/// Everything that follows from the accepted rows.
pub struct Aggregates {
    windows: TumblingWindow,
    policy: LatePolicy,
    /// Hits by window and page.
    hits: HashMap<(EventTime, Page<String>), Hits, RandomState>,
    parts: BTreeMap<PartKey, PartDelta>,
    counters: BTreeMap<TopicPartition, Counters>,
    /// Hits that were counted as those of other pages.
    folded: BTreeMap<TopicPartition, u64>,
    final_until: Option<EventTime>,
}

impl Plan {
    /// Resolves duplicates within the batch, over all its partitions, in (topic, partition, offset)
    /// order, and chooses a writer for what remains. With `distrust`, every row is a suspect.
    pub fn of(batch: &Batch, policy: LatePolicy, distrust: bool) -> Self {
        let apart = |row: &Row| row.late && !policy.stores();
        // only keys that some row is doubtful about can occur twice: everything else was new to the
        // filter when it came. With `distrust` that is no longer believed: the filter may have
        // forgotten a key since the batch began
        let doubtful: HashSet<(Day, Uuid), RandomState> = batch
            .rows
            .iter()
            .filter(|row| !distrust && (row.suspect || apart(row)))
            .map(Row::key)
            .collect();
        let mut plan = Self::default();
        let mut contested = Vec::new();
        for (at, row) in (0u32..).zip(&batch.rows) {
            if row.duplicate {
                continue;
            }
            if distrust || !doubtful.is_empty() && doubtful.contains(&row.key()) {
                contested.push(at);
            } else {
                plan.new.push(at);
            }
        }
        contested.sort_unstable_by_key(|&at| batch.rows[at as usize].place());
        let mut stored: HashSet<(Day, Uuid), RandomState> = HashSet::default();
        let mut diverted: HashSet<(Day, Uuid), RandomState> = HashSet::default();
        for at in contested {
            let row = &batch.rows[at as usize];
            if stored.contains(&row.key()) {
                continue;
            }
            if !apart(row) {
                stored.insert(row.key());
                plan.suspects.push(at);
            } else if policy == LatePolicy::Drop || diverted.insert(row.key()) {
                plan.late.push(at);
            }
        }
        for list in [&mut plan.new, &mut plan.suspects, &mut plan.late] {
            list.sort_unstable_by_key(|&at| batch.rows[at as usize].key());
        }
        plan
    }
}

impl Aggregates {
    /// Nothing yet; `final_until` is the end of the time that was already reported final.
    pub fn new(
        windows: TumblingWindow,
        policy: LatePolicy,
        final_until: Option<EventTime>,
    ) -> Self {
        Self {
            windows,
            policy,
            hits: HashMap::default(),
            parts: BTreeMap::new(),
            counters: BTreeMap::new(),
            folded: BTreeMap::new(),
            final_until,
        }
    }

    /// Counts rows that are stored. A late one touches no aggregate with policy `Store`, and its
    /// own window's with `Merge`: hits add up whenever they come.
    pub fn add(&mut self, batch: &Batch, rows: &[u32]) {
        self.count(batch, rows, |_, _| true);
    }

    /// The same where the rules bound the pages that have rows of their own. The rows come as
    /// [`in_parts`] sorts them, and their parts are known.
    pub fn add_folded(&mut self, batch: &Batch, rows: &[u32], folding: &mut Folding<'_>) {
        let mut part = None;
        let mut is_own: HashMap<Page<&str>, bool, RandomState> = HashMap::default();
        self.count(batch, rows, |row, page| {
            let key = part_key(row);
            if part.replace(key) != Some(key) {
                is_own.clear();
            }
            // a page that was refused once is refused in the rest of the flush
            *is_own
                .entry(page)
                .or_insert_with(|| folding.admits(key, page))
        });
    }

    fn count<'b>(
        &mut self,
        batch: &'b Batch,
        rows: &[u32],
        mut is_own: impl FnMut(&Row, Page<&'b str>) -> bool,
    ) {
        let mut hits: HashMap<(EventTime, Page<&str>), Hits, RandomState> = HashMap::default();
        for &at in rows {
            let row = &batch.rows[at as usize];
            let counters = self.counters.entry(row.source).or_default();
            if !is_counted(row, self.policy) {
                counters.late += 1;
                continue;
            }
            counters.accepted += 1;
            counters.merged += i64::from(row.late);
            let end = self.windows.starting_at(row.window_start).end;
            let revised = i64::from(self.final_until.is_some_and(|until| end <= until));
            counters.revised += revised;
            let texts = batch.texts(row);
            let mut page = (batch.page(row), texts.event_name, texts.site);
            if !is_own(row, page) {
                page = OTHER_PAGES;
                *self.folded.entry(row.source).or_default() += 1;
            }
            let bot = i64::from(row.bot != 0);
            add(hits.entry((row.window_start, page)).or_default(), (1, bot));
            let part = self.parts.entry(part_key(row)).or_default();
            part.hits += 1;
            part.bot_hits += bot;
            part.revised += revised;
            part.visitors.add(texts.user_id);
            if let Some(session) = texts.session_id {
                part.sessions.add(session);
            }
        }
        for ((window, (url, event_name, site)), n) in hits {
            let page = (
                url.to_owned(),
                event_name.map(str::to_owned),
                site.map(str::to_owned),
            );
            add(self.hits.entry((window, page)).or_default(), n);
        }
    }

    /// How many hits of each partition were counted as those of other pages.
    pub fn into_folded(self) -> BTreeMap<TopicPartition, u64> {
        self.folded
    }

    /// Hits to add, in the order of their key.
    pub fn hits(&self) -> Vec<HitDelta> {
        let mut hits: Vec<_> = self
            .hits
            .iter()
            .map(
                |((start, (url, event_name, site)), &(hits, bot_hits))| HitDelta {
                    window: self.windows.starting_at(*start),
                    url_hash: page_hash(url, event_name.as_deref(), site.as_deref()),
                    url: url.clone(),
                    event_name: event_name.clone(),
                    site: site.clone(),
                    hits,
                    bot_hits,
                },
            )
            .collect();
        hits.sort_unstable_by_key(|delta| (delta.window, delta.url_hash));
        hits
    }

    /// Parts that change, in the order of their key.
    pub fn parts(&self) -> impl Iterator<Item = (PartKey, Window, &PartDelta)> {
        self.parts
            .iter()
            .map(|(&key, part)| (key, self.windows.starting_at(key.1), part))
    }

    /// What each partition's checkpoint becomes. Every row of the batch that is neither stored nor
    /// late is a duplicate.
    pub fn deltas(
        &self,
        batch: &Batch,
        judgement: &Judgement,
    ) -> BTreeMap<TopicPartition, CheckpointDelta> {
        let mut totals: BTreeMap<TopicPartition, Counters> = batch
            .spans
            .iter()
            .map(|(&tp, span)| {
                (
                    tp,
                    Counters {
                        skipped: span.skipped,
                        ..Counters::default()
                    },
                )
            })
            .collect();
        let mut count = |tp: TopicPartition, change: Counters| {
            if let Some(total) = totals.get_mut(&tp) {
                *total += change;
            }
        };
        for (&tp, counters) in &self.counters {
            count(tp, *counters);
        }
        for &at in &judgement.late {
            count(
                batch.rows[at as usize].source,
                Counters {
                    late: 1,
                    ..Counters::default()
                },
            );
        }
        for run in batch.rows.chunk_by(|a, b| a.source == b.source) {
            count(
                run[0].source,
                Counters {
                    consumed: i64::try_from(run.len()).unwrap_or(i64::MAX),
                    ..Counters::default()
                },
            );
        }
        for letter in &batch.dead_letters {
            count(
                letter.source,
                Counters {
                    consumed: 1,
                    rejected: 1,
                    ..Counters::default()
                },
            );
        }
        totals
            .into_iter()
            .map(|(tp, mut counters)| {
                counters.duplicate =
                    counters.consumed - counters.accepted - counters.rejected - counters.late;
                let span = &batch.spans[&tp];
                (
                    tp,
                    CheckpointDelta {
                        from: span.from,
                        to: span.to,
                        clock: span.clock.clone(),
                        counters,
                    },
                )
            })
            .collect()
    }
}

/// The first 16 bytes of SHA-256 of a page's address; in SQL: `substr(sha256(convert_to(url,
/// 'UTF8')), 1, 16)`.
pub fn url_hash(url: &str) -> PageHash {
    let digest = Sha256::digest(url.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest[..16]);
    hash
}

/// The key of a page within a window: [`url_hash`] of a page view on no site of its own, which is
/// what the first releases counted by; otherwise the same of page, name and site, each behind a
/// zero byte that none of them holds.
pub fn page_hash(url: &str, event_name: Option<&str>, site: Option<&str>) -> PageHash {
    let event_name = event_name.unwrap_or(PAGE_VIEW);
    if event_name == PAGE_VIEW && site.is_none() {
        return url_hash(url);
    }
    let mut digest = Sha256::new();
    for part in [url, "\0", event_name, "\0", site.unwrap_or_default()] {
        digest.update(part.as_bytes());
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest.finalize()[..16]);
    hash
}

fn add(sum: &mut Hits, more: Hits) {
    sum.0 += more.0;
    sum.1 += more.1;
}

/// Whether a stored row counts in its window.
fn is_counted(row: &Row, policy: LatePolicy) -> bool {
    !row.late || policy == LatePolicy::Merge
}

fn part_key(row: &Row) -> PartKey {
    (row.source, row.window_start)
}

/// The parts in which some of the rows count.
pub fn parts_of(batch: &Batch, rows: &[u32], policy: LatePolicy) -> Vec<PartKey> {
    let mut last = None;
    let mut parts: HashSet<PartKey, RandomState> = HashSet::default();
    for &at in rows {
        let row = &batch.rows[at as usize];
        if is_counted(row, policy) && last.replace(part_key(row)) != Some(part_key(row)) {
            parts.insert(part_key(row));
        }
    }
    parts.into_iter().collect()
}

/// Rows in the order in which they lie in memory, which is that in which they came: in that of their
/// keys each one would have to be fetched from another place, which takes longer than to look at it.
pub fn in_order_of_arrival(rows: &[u32]) -> Vec<u32> {
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    rows
}

/// Sorts rows by part, and within a part in the order of the log.
pub fn in_parts(batch: &Batch, rows: &mut [u32]) {
    rows.sort_unstable_by_key(|&at| {
        let row = &batch.rows[at as usize];
        (part_key(row), row.place())
    });
}

/// The rows, sorted by part, in pieces of so many parts.
pub fn pieces<'r>(
    batch: &'r Batch,
    rows: &'r [u32],
    parts: usize,
) -> impl Iterator<Item = &'r [u32]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let of = |at: &u32| part_key(&batch.rows[*at as usize]);
        let by_part = rest.chunk_by(|one, next| of(one) == of(next));
        let len: usize = by_part.take(parts).map(<[u32]>::len).sum();
        let (piece, more) = rest.split_at(len);
        rest = more;
        (len > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Judged, Place, Said},
        offset::TopicId,
        spec::SemanticSpec,
    };

    #[test]
    fn of_two_rows_that_a_forgetful_filter_called_new_the_first_in_the_log_is_tried() {
        let event = br#"{"event_id":"018e2f00-0000-7000-8000-000000000001","user_id":1,"event_ts":1710114600000,"url":"/"}"#;
        let decoder = SemanticSpec::default().decoder();
        let received_at = EventTime::from_micros(1_710_114_600_000_000);
        let event = decoder
            .decode(event, received_at)
            .map(|decoded| (event, decoded));
        let (payload, event) = event.expect("a valid event");
        let mut batch = Batch::default();
        for (partition, offset) in [(1, 4), (0, 9), (0, 7)] {
            let place = Place {
                source: TopicPartition {
                    topic: TopicId(1),
                    partition,
                },
                offset,
                index: 0,
                received_at,
            };
            let judged = Judged {
                window: TumblingWindow::new(60).containing(event.event_ts),
                late: false,
                suspect: false,
            };
            batch.push_event(place, payload, &event, judged);
        }
        let plan = Plan::of(&batch, LatePolicy::Divert, true);
        assert_eq!((plan.new.len(), &plan.suspects[..]), (0, &[2][..]));
    }

    #[test]
    fn hits_are_counted_by_page_name_and_site_and_a_page_view_is_one_whether_it_says_so_or_not() {
        let payload = br#"{"event_id":"018e2f00-0000-7000-8000-000000000001","user_id":1,"event_ts":1710114600000,"url":"/"}"#;
        let received_at = EventTime::from_micros(1_710_114_600_000_000);
        let decoder = SemanticSpec::default().decoder();
        let mut batch = Batch::default();
        let windows = TumblingWindow::new(60_000_000);
        let said = [
            (None, None),
            (Some("page_view"), None),
            (Some("signup"), None),
            (None, Some("shop")),
            (Some("signup"), Some("shop")),
        ];
        for (offset, (event_name, site)) in (0..).zip(said) {
            let mut event = decoder.decode(payload, received_at).expect("a valid event");
            event.event_name = event_name.map(Into::into);
            event.site = site.map(Into::into);
            let place = Place {
                source: TopicPartition {
                    topic: TopicId(1),
                    partition: 0,
                },
                offset,
                index: 0,
                received_at,
            };
            let judged = Judged {
                window: windows.containing(event.event_ts),
                late: false,
                suspect: false,
            };
            batch.push_event(place, payload, &event, judged);
            assert_eq!(batch.said() != Said::NOTHING, offset > 1);
        }
        let mut aggregates = Aggregates::new(windows, LatePolicy::Merge, None);
        aggregates.add(&batch, &[0, 1, 2, 3, 4]);
        let hits = aggregates.hits();
        let hashes: HashSet<[u8; 16]> = hits.iter().map(|delta| delta.url_hash).collect();
        assert_eq!((hits.len(), hashes.len()), (4, 4));
        let of = |event_name: Option<&str>, site: Option<&str>| {
            let found = hits.iter().find(|delta| {
                delta.event_name.as_deref() == event_name && delta.site.as_deref() == site
            });
            found.map(|delta| (delta.hits, delta.url_hash))
        };
        assert_eq!(of(None, None), Some((2, url_hash("/"))));
        let hash = Sha256::digest("/\0signup\0shop");
        assert_eq!(
            of(Some("signup"), Some("shop")).map(|(n, hash)| (n, hash.to_vec())),
            Some((1, hash[..16].to_vec()))
        );
    }
}
