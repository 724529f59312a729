//! Which pages of a window have rows of their own where the rules bound their number: what
//! `clickstream_admitted_pages` says, against the log in its order.
//!
//! The table lists each window's pages in the order in which they must have come. So one number is
//! enough to follow it: how many of them have been met. A page that comes anew is the next one of
//! the list, or the bound is reached.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::bail;
use clickstream_pipeline::{
    admission::{OTHER_PAGES, PageHash},
    event::EventTime,
    settle::page_hash,
};
use tokio_postgres::{Client, Row};

use super::{
    column::Instant,
    report::{Difference, Differences, Kind},
    snapshot::Progress,
};

/// Columns of the table as [`Admitted::add`] takes them.
pub const COLUMNS: &str = "window_start, source_offset, url_hashes";

/// The pages of one window of one partition.
#[derive(Clone, Default, Debug)]
pub struct Admitted {
    places: HashMap<PageHash, Place>,
    /// Where the flushes began that brought them, ascending.
    flushes: Vec<i64>,
    is_malformed: bool,
}

#[derive(Copy, Clone, Debug)]
struct Place {
    /// How many pages stand before it.
    before: usize,
    /// Where the flush began that brought it.
    from: i64,
}

/// How far the pages of a partition's windows have been met.
#[derive(Default, Debug)]
pub struct Admissions {
    met: HashMap<EventTime, usize>,
    /// Windows of which nothing more can be said.
    left: HashSet<EventTime>,
}

/// Whether the role may read the list. A role without the right can audit what was never bounded.
///
/// # Errors
/// It may not, and some pages were; or what the server says.
pub async fn may_read(client: &Client) -> anyhow::Result<bool> {
    let row = client
        .query_one(
            "select has_table_privilege('clickstream_admitted_pages', 'select'),
                exists (select from clickstream_anchors where spec #>> '{events,derived,page,max_per_window}' is not null)",
            &[],
        )
        .await?;
    let (may, bounded): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    if bounded && !may {
        bail!(
            "spec.events.page.maxPerWindow is or was set, and the role may not read clickstream_admitted_pages: grant it select"
        );
    }
    Ok(may)
}

/// What hits of pages beyond the bound are counted as.
pub fn other_pages() -> PageHash {
    page_hash(OTHER_PAGES.0, OTHER_PAGES.1, OTHER_PAGES.2)
}

impl Admitted {
    /// Adds a row of the table; rows come in the order of their offsets.
    ///
    /// # Errors
    /// A column of another type.
    pub fn add(&mut self, row: &Row) -> Result<(), tokio_postgres::Error> {
        let (from, hashes): (i64, &[u8]) = (row.try_get(1)?, row.try_get(2)?);
        let (hashes, rest) = hashes.as_chunks::<16>();
        self.is_malformed |= !rest.is_empty();
        self.flushes.push(from);
        for hash in hashes {
            let before = self.places.len();
            let again = self.places.insert(*hash, Place { before, from });
            self.is_malformed |= again.is_some();
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a hit at this offset came to a row of the page's own.
    pub fn has_own_row(&self, page: &PageHash, offset: i64) -> bool {
        let place = self.places.get(page);
        // within a flush a page is admitted by its first hit or not at all
        place.is_some_and(|place| place.from <= offset)
    }

    /// Whether the page is listed.
    pub fn lists(&self, page: &PageHash) -> bool {
        self.places.contains_key(page)
    }

    fn is_within_flush(&self, from: i64, offset: i64) -> bool {
        let next = self.flushes.partition_point(|flush| *flush <= from);
        from <= offset && self.flushes.get(next).is_none_or(|next| offset < *next)
    }
}

impl Admissions {
    /// Those that a partition has before `offset`, which cannot be compared with the log.
    ///
    /// # Errors
    /// What the server says.
    pub async fn before(client: &Client, progress: &Progress, offset: i64) -> anyhow::Result<Self> {
        Ok(Self {
            met: counts(client, progress, offset).await?,
            left: HashSet::new(),
        })
    }

    /// Whether an accepted hit came to a row of its page's own; `bound` is that of the rules at its
    /// offset. What the table says otherwise than the log comes as a sentence, once for each
    /// window.
    pub fn has_own_row(
        &mut self,
        window: EventTime,
        offset: i64,
        bound: usize,
        page: &PageHash,
        stored: Option<&Admitted>,
    ) -> (bool, Option<String>) {
        let none = Admitted::default();
        let stored = stored.unwrap_or(&none);
        if self.left.contains(&window) {
            return (stored.has_own_row(page, offset), None);
        }
        let met = self.met.entry(window).or_default();
        let place = stored.places.get(page);
        if place.is_some_and(|place| place.before < *met) && !stored.is_malformed {
            return (true, None);
        }
        let wrong = match place {
            _ if stored.is_malformed => {
                "the list of admitted pages names one twice, or half of one".to_owned()
            }
            // whatever comes later in the list
            _ if *met >= bound => return (false, None),
            Some(place) if place.before == *met && stored.is_within_flush(place.from, offset) => {
                *met += 1;
                return (true, None);
            }
            Some(place) if place.before == *met => format!(
                "page {} of the window came at offset {offset}, but its flush is said to begin at {}",
                *met + 1,
                place.from
            ),
            Some(place) => format!(
                "the page at offset {offset} is the {} of the window, but listed as the {}",
                ordinal(*met + 1),
                ordinal(place.before + 1)
            ),
            None => format!(
                "the page at offset {offset} is the {} of at most {bound}, but not admitted",
                ordinal(*met + 1)
            ),
        };
        self.left.insert(window);
        (stored.has_own_row(page, offset), Some(wrong))
    }

    /// Leaves a window out, since retention has taken what would decide.
    pub fn leave(&mut self, window: EventTime) {
        self.left.insert(window);
    }

    /// Compares how many pages were met with how many the table has below `end`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn compare(
        self,
        client: &Client,
        progress: &Progress,
        end: i64,
        is_gone: impl Fn(EventTime) -> bool,
        differences: &mut Differences,
    ) -> anyhow::Result<()> {
        let mut stored = counts(client, progress, end).await?;
        for start in self.met.keys() {
            stored.entry(*start).or_default();
        }
        let stored: BTreeMap<EventTime, usize> = stored.into_iter().collect();
        for (start, listed) in stored {
            let met = self.met.get(&start).copied().unwrap_or(0);
            if listed != met && !self.left.contains(&start) && !is_gone(start) {
                let detail = format!("{listed} pages are admitted, but {met} by the log");
                let found = Difference::new(Kind::AdmittedPagesDiffer, detail)
                    .of(&progress.topic, progress.tp.partition)
                    .in_window(start);
                differences.add(Some(progress.tp), found);
            }
        }
        Ok(())
    }
}

/// How many pages each window of a partition has from flushes that began before `offset`.
async fn counts(
    client: &Client,
    progress: &Progress,
    offset: i64,
) -> anyhow::Result<HashMap<EventTime, usize>> {
    let rows = client
        .query(
            "select window_start, sum(octet_length(url_hashes) / 16)::bigint from clickstream_admitted_pages
             where topic = $1 and partition = $2 and source_offset < $3 group by window_start",
            &[&progress.topic, &progress.tp.partition, &offset],
        )
        .await?;
    let mut counts = HashMap::with_capacity(rows.len());
    for row in rows {
        let start = row.try_get::<_, Instant>(0)?.0;
        counts.insert(start, usize::try_from(row.try_get::<_, i64>(1)?)?);
    }
    Ok(counts)
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
