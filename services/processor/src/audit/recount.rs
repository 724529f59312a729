//! Aggregates against the stored rows, page by page and partition by partition: to name what
//! differs where a window's sums are not the log's, and for windows whose records the log no longer
//! has.
//!
//! Rows and aggregates of a window are read in one short transaction, so they agree while the
//! pipeline runs on. Different windows need not be: a stretch of many days is read in pieces.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    ops::Range,
};

use chrono::{DateTime, TimeDelta, Utc};
use clickstream_pipeline::{
    admission::{OTHER_PAGES, PageHash},
    event::EventTime,
    offset::{TopicId, TopicPartition},
    settle::page_hash,
    window::{TumblingWindow, Window},
};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, IsolationLevel, Transaction, types::ToSql};

use super::{
    admissions::{self, Admitted, other_pages},
    aggregates::{Fingerprints, Part, Traffic, WindowSum, shown},
    bounds::{Bound, Bounds},
    column::Instant,
    days::end_of_piece,
    report::{Difference, Differences, Kind},
    retained::Retained,
    slices::{self, PART},
};
use crate::sink::columns::{Column, names};

/// Hits after which a stretch ends: about a second of reading, and some ten MiB of pages in memory.
const STRETCH_HITS: i64 = 200_000;

/// What is read of a row.
const READ: [Column; 11] = [
    Column::EventTs,
    Column::Url,
    Column::EventName,
    Column::Site,
    Column::Page,
    Column::Bot,
    Column::UserId,
    Column::SessionId,
    Column::SourceTopicId,
    Column::SourcePartition,
    Column::SourceOffset,
];

/// What is compared, and with what left out.
pub struct Recount<'a> {
    /// Names of the topics.
    pub topics: &'a BTreeMap<TopicId, String>,
    /// Size of the windows.
    pub windows: TumblingWindow,
    /// What retention may have dropped.
    pub retained: &'a Retained,
    /// Keys of the sets' fingerprints.
    pub fingerprints: &'a Fingerprints,
    /// Whether admitted pages can be read.
    pub admitted: bool,
}

/// What was compared.
#[derive(Default, Debug)]
pub struct Counted {
    /// Windows that have pages.
    pub windows: usize,
    /// Stored traffic, by partition.
    pub parts: HashMap<TopicPartition, u64>,
    /// Windows of which nothing tells any more by which bound their pages were counted.
    pub undecided: usize,
}

/// Hits of one page in one window, and those of them that something speaks for being a program's:
/// as they are stored, and as rows were counted.
struct Page {
    url: String,
    stored: [i64; 2],
    rows: [i64; 2],
    /// Those rows that may have been hits of other pages, and for those the other way round.
    unsure: i64,
}

/// Admitted pages by window and partition, while rows are counted.
#[derive(Default)]
struct Parts {
    by_key: HashMap<(EventTime, TopicPartition), (Admitted, HashSet<PageHash>)>,
    /// Pages that have no row of their own although the bound was not reached.
    left_out: BTreeMap<(EventTime, TopicPartition), i64>,
    bounds: Bounds,
}

/// To which row a hit came.
enum CameTo {
    OwnPage,
    OtherPages,
    /// To that of other pages if its rules had a bound.
    Unsure,
}

impl Parts {
    fn came_to(
        &mut self,
        start: EventTime,
        (tp, offset): (TopicPartition, i64),
        page: &PageHash,
    ) -> CameTo {
        let bound = || self.bounds.at(tp, offset);
        let Some((admitted, met)) = self.by_key.get_mut(&(start, tp)) else {
            if let Bound::Known(Some(_)) = bound() {
                *self.left_out.entry((start, tp)).or_default() += 1;
            }
            return CameTo::OwnPage;
        };
        if admitted.has_own_row(page, offset) {
            met.insert(*page);
            return CameTo::OwnPage;
        }
        match bound() {
            Bound::Known(None) => CameTo::OwnPage,
            Bound::Known(Some(most)) => {
                if admitted.len() < most && !admitted.lists(page) {
                    *self.left_out.entry((start, tp)).or_default() += 1;
                }
                CameTo::OtherPages
            }
            Bound::Unknown => CameTo::Unsure,
        }
    }
}

/// Stretches of all time, cut between windows so that each holds a bounded number of hits.
pub fn stretches(windows: &HashMap<EventTime, WindowSum>) -> Vec<Range<EventTime>> {
    // wider than any event time
    let (first, last) = (
        EventTime::from_micros(0),
        EventTime::from_micros(2 * EventTime::MAX.micros()),
    );
    let mut starts: Vec<_> = windows
        .iter()
        .map(|(&start, sum)| (start, sum.hits))
        .collect();
    starts.sort_unstable();
    let mut stretches = Vec::new();
    let (mut from, mut hits) = (first, 0);
    for (start, more) in starts {
        if hits > 0 && hits + more > STRETCH_HITS && start > from {
            stretches.push(from..start);
            (from, hits) = (start, 0);
        }
        hits += more;
    }
    stretches.push(from..last);
    stretches
}

/// Stretches of these windows and of no others, each of a bounded number of hits.
pub fn neighbours(windows: &HashMap<EventTime, WindowSum>) -> Vec<Range<EventTime>> {
    let mut sorted: Vec<_> = windows.iter().collect();
    sorted.sort_unstable_by_key(|(start, _)| **start);
    let mut stretches: Vec<Range<EventTime>> = Vec::new();
    let mut hits = 0;
    for (&start, sum) in sorted {
        match stretches.last_mut() {
            Some(last) if last.end == start && hits + sum.hits <= STRETCH_HITS => {
                last.end = sum.end;
                hits += sum.hits;
            }
            _ => {
                stretches.push(start..sum.end);
                hits = sum.hits;
            }
        }
    }
    stretches
}

impl Recount<'_> {
    /// Compares the windows that start within `stretch`, whose bounds lie between windows.
    ///
    /// # Errors
    /// What the server says.
    pub async fn run(
        &self,
        client: &mut Client,
        mut stretch: Range<EventTime>,
        counted: &mut Counted,
        differences: &mut Differences,
    ) -> anyhow::Result<()> {
        while stretch.start < stretch.end {
            let tx = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .await?;
            let end = end_of_piece(&tx, &stretch).await?;
            self.piece(tx, stretch.start..end, counted, differences)
                .await?;
            stretch.start = end;
        }
        Ok(())
    }

    async fn piece(
        &self,
        tx: Transaction<'_>,
        stretch: Range<EventTime>,
        counted: &mut Counted,
        differences: &mut Differences,
    ) -> anyhow::Result<()> {
        let bounds: [DateTime<Utc>; 2] = [instant(stretch.start), instant(stretch.end)];
        let mut pages = self.lanes(&tx, bounds).await?;
        let mut admitted = self.admitted(&tx, bounds).await?;
        let mut traffic = self.rows(&tx, bounds, &mut pages, &mut admitted).await?;
        let parts = self.parts(&tx, bounds).await?;
        tx.commit().await?;

        let windows: HashSet<EventTime> = pages.keys().map(|(start, _)| *start).collect();
        counted.windows += windows
            .into_iter()
            .filter(|start| !self.is_gone(*start))
            .count();
        self.compare_admitted(&admitted, differences);
        let undecided = undecided(&pages);
        counted.undecided += undecided.len();
        let mut differing: Vec<_> = pages
            .into_iter()
            .filter(|((start, _), page)| page.stored != page.rows && !undecided.contains(start))
            .collect();
        differing.sort_unstable_by_key(|(key, _)| *key);
        for ((start, _), page) in differing {
            if !self.is_gone(start) {
                let [stored, stored_bots] = page.stored;
                let [rows, row_bots] = page.rows;
                let mut detail = format!("page {}: stored {stored}, rows {rows}", shown(&page.url));
                if stored_bots != row_bots {
                    let _ = write!(detail, "; bot_hits {stored_bots}, rows {row_bots}");
                }
                differences.add(
                    None,
                    Difference::new(Kind::HitsDiffer, detail).in_window(start),
                );
            }
        }
        for ((start, tp), part) in &parts {
            let recomputed = traffic.remove(&(*start, *tp)).unwrap_or_default();
            if !self.is_gone(*start) {
                *counted.parts.entry(*tp).or_default() += 1;
                self.compare_traffic(*start, *tp, &recomputed, Some(part), differences);
            }
        }
        for ((start, tp), recomputed) in &traffic {
            if !self.is_gone(*start) {
                self.compare_traffic(*start, *tp, recomputed, None, differences);
            }
        }
        Ok(())
    }

    /// Every admitted page must have a hit, and every page must be admitted while the bound is not
    /// reached.
    fn compare_admitted(&self, parts: &Parts, differences: &mut Differences) {
        let mut wrong: BTreeMap<(EventTime, TopicPartition), String> = BTreeMap::new();
        for (&key, (admitted, met)) in &parts.by_key {
            if met.len() != admitted.len() {
                let (listed, met) = (admitted.len(), met.len());
                wrong.insert(key, format!("{listed} pages are admitted, {met} by rows"));
            }
        }
        for (&key, hits) in &parts.left_out {
            let detail = format!("{hits} hits of pages that are not admitted, below the bound");
            wrong.insert(key, detail);
        }
        for ((start, tp), detail) in wrong {
            if !self.is_gone(start) {
                let topic = self.topics.get(&tp.topic).map_or("", String::as_str);
                let found = Difference::new(Kind::AdmittedPagesDiffer, detail);
                let found = found.of(topic, tp.partition).in_window(start);
                differences.add(Some(tp), found);
            }
        }
    }

    fn compare_traffic(
        &self,
        start: EventTime,
        tp: TopicPartition,
        recomputed: &Traffic,
        stored: Option<&Part>,
        differences: &mut Differences,
    ) {
        let topic = self.topics.get(&tp.topic).map_or("", String::as_str);
        let expected = recomputed.part(self.fingerprints);
        expected.compare(tp, topic, start, stored, differences);
    }

    fn is_gone(&self, start: EventTime) -> bool {
        self.retained
            .window_is_gone(self.windows.starting_at(start))
    }

    async fn lanes(
        &self,
        tx: &Transaction<'_>,
        bounds: [DateTime<Utc>; 2],
    ) -> anyhow::Result<HashMap<(EventTime, PageHash), Page>> {
        let rows = tx
            .query(
                "select window_start, url_hash, sum(hits)::bigint as hits, min(url) as url,
                     sum(bot_hits)::bigint as bot_hits
                 from clickstream_agg_lanes
                 where window_start >= $1 and window_start < $2 group by window_start, url_hash",
                &[&bounds[0], &bounds[1]],
            )
            .await?;
        let mut pages = HashMap::with_capacity(rows.len());
        for row in rows {
            let hash: &[u8] = row.try_get("url_hash")?;
            let page = Page {
                url: row.try_get("url")?,
                stored: [row.try_get("hits")?, row.try_get("bot_hits")?],
                rows: [0; 2],
                unsure: 0,
            };
            let start = row.try_get::<_, Instant>("window_start")?.0;
            pages.insert((start, hash.try_into()?), page);
        }
        Ok(pages)
    }

    async fn rows(
        &self,
        tx: &Transaction<'_>,
        bounds: [DateTime<Utc>; 2],
        pages: &mut HashMap<(EventTime, PageHash), Page>,
        admitted: &mut Parts,
    ) -> anyhow::Result<BTreeMap<(EventTime, TopicPartition), Traffic>> {
        let last = bounds[1] - TimeDelta::microseconds(1);
        let (first, last) = (bounds[0].date_naive(), last.date_naive());
        let params: [&(dyn ToSql + Sync); 4] = [&bounds[0], &bounds[1], &first, &last];
        let rows = tx
            .query_raw(
                // a late row is counted where the rules of its time say so: those of the newest
                // anchor at or below it, or of the oldest that is left
                &format!("select {} from clickstream_events as rows
                 where event_ts >= $1 and event_ts < $2 and event_date >= $3 and event_date <= $4
                   and (not is_late or 'Merge' = coalesce(
                       (select spec->>'late_policy' from clickstream_anchors
                        where topic = (select topic from clickstream_topics where topic_id = rows.source_topic_id)
                          and partition = rows.source_partition and next_offset <= rows.source_offset
                        order by next_offset desc limit 1),
                       (select spec->>'late_policy' from clickstream_anchors
                        where topic = (select topic from clickstream_topics where topic_id = rows.source_topic_id)
                          and partition = rows.source_partition
                        order by next_offset limit 1)))", names(READ)),
                params,
            )
            .await?;
        futures_util::pin_mut!(rows);
        let mut traffic: BTreeMap<_, Traffic> = BTreeMap::new();
        while let Some(row) = rows.try_next().await? {
            // rows that were written without rules for pages have none
            let page: Option<&str> = row.try_get(Column::Page.name())?;
            let url = match page {
                Some(page) => page,
                None => row.try_get(Column::Url.name())?,
            };
            let bot = row.try_get::<_, i32>(Column::Bot.name())? != 0;
            let event_ts: Instant = row.try_get(Column::EventTs.name())?;
            let Window { start, .. } = self.windows.containing(event_ts.0);
            let page = page_hash(
                url,
                Some(row.try_get(Column::EventName.name())?),
                row.try_get(Column::Site.name())?,
            );
            let tp = TopicPartition {
                topic: TopicId(row.try_get(Column::SourceTopicId.name())?),
                partition: row.try_get(Column::SourcePartition.name())?,
            };
            let place = (tp, row.try_get(Column::SourceOffset.name())?);
            let came_to = admitted.came_to(start, place, &page);
            let unsure = i64::from(matches!(came_to, CameTo::Unsure));
            if unsure != 0 {
                entry(pages, start, page, url).unsure += unsure;
            }
            let counted = match came_to {
                CameTo::OwnPage => entry(pages, start, page, url),
                CameTo::OtherPages | CameTo::Unsure => {
                    entry(pages, start, other_pages(), OTHER_PAGES.0)
                }
            };
            counted.unsure += unsure;
            counted.rows[0] += 1;
            counted.rows[1] += i64::from(bot);
            traffic.entry((start, tp)).or_default().add(
                row.try_get(Column::UserId.name())?,
                row.try_get(Column::SessionId.name())?,
                bot,
            );
        }
        Ok(traffic)
    }

    async fn admitted(
        &self,
        tx: &Transaction<'_>,
        bounds: [DateTime<Utc>; 2],
    ) -> anyhow::Result<Parts> {
        if !self.admitted {
            return Ok(Parts::default());
        }
        let rows = tx
            .query(
                &format!(
                    "select {}, topics.topic_id, pages.partition
                     from clickstream_admitted_pages as pages join clickstream_topics as topics using (topic)
                     where window_start >= $1 and window_start < $2
                     order by window_start, topic, partition, source_offset",
                    admissions::COLUMNS
                ),
                &[&bounds[0], &bounds[1]],
            )
            .await?;
        let mut parts = Parts {
            bounds: Bounds::read(tx).await?,
            ..Parts::default()
        };
        for row in rows {
            let start = row.try_get::<_, Instant>(0)?.0;
            let tp = TopicPartition {
                topic: TopicId(row.try_get(3)?),
                partition: row.try_get(4)?,
            };
            let (admitted, _) = parts.by_key.entry((start, tp)).or_default();
            admitted.add(&row)?;
        }
        Ok(parts)
    }

    async fn parts(
        &self,
        tx: &Transaction<'_>,
        bounds: [DateTime<Utc>; 2],
    ) -> anyhow::Result<BTreeMap<(EventTime, TopicPartition), Part>> {
        let rows = tx
            .query_raw(
                &format!(
                    "select window_start, topics.topic_id, parts.partition, {PART}
                     from clickstream_traffic_parts as parts join clickstream_topics as topics on topics.topic = parts.topic
                     where window_start >= $1 and window_start < $2"
                ),
                bounds,
            )
            .await?;
        futures_util::pin_mut!(rows);
        let mut parts = BTreeMap::new();
        while let Some(row) = rows.try_next().await? {
            let start = row.try_get::<_, Instant>(0)?.0;
            let tp = TopicPartition {
                topic: TopicId(row.try_get(1)?),
                partition: row.try_get(2)?,
            };
            parts.insert((start, tp), slices::part(&row, 3, self.fingerprints)?);
        }
        Ok(parts)
    }
}

fn entry<'p>(
    pages: &'p mut HashMap<(EventTime, PageHash), Page>,
    start: EventTime,
    hash: PageHash,
    url: &str,
) -> &'p mut Page {
    pages.entry((start, hash)).or_insert_with(|| Page {
        url: url.to_owned(),
        stored: [0; 2],
        rows: [0; 2],
        unsure: 0,
    })
}

/// Windows that would differ if all hits of which it is not known had come to the row of other
/// pages, and that may be right all the same.
fn undecided(pages: &HashMap<(EventTime, PageHash), Page>) -> HashSet<EventTime> {
    let mut windows: HashMap<EventTime, (bool, bool, [i64; 2])> = HashMap::new();
    let other = other_pages();
    for ((start, hash), page) in pages {
        let (differs, may_be_right, more) = windows.entry(*start).or_insert((false, true, [0; 2]));
        *differs |= page.stored != page.rows;
        // of hits, and of those of them that are bots'
        for (at, more) in more.iter_mut().enumerate() {
            // what is missing among the other pages is more at pages of their own
            let at_page = page.stored[at] - page.rows[at];
            *more += at_page;
            let moved = if *hash == other { -at_page } else { at_page };
            *may_be_right &= (0..=page.unsure).contains(&moved);
        }
    }
    let undecided = windows
        .into_iter()
        .filter(|(_, (differs, may_be_right, more))| *differs && *may_be_right && *more == [0; 2]);
    undecided.map(|(start, _)| start).collect()
}

fn instant(time: EventTime) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.micros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_these_windows_and_no_others() {
        let start = |minute: i64| EventTime::from_micros(minute * 60_000_000);
        let windows: HashMap<_, _> = [1, 2, 4, 5, 6]
            .into_iter()
            .map(|minute| {
                let mut sum = WindowSum::ending(start(minute + 1));
                sum.add(7, 90_000);
                (start(minute), sum)
            })
            .collect();
        assert_eq!(
            neighbours(&windows),
            [start(1)..start(3), start(4)..start(6), start(6)..start(7)]
        );
    }

    #[test]
    fn stretches_leave_no_time_out_and_hold_a_bounded_number_of_hits() {
        let start =
            |minute: i64| EventTime::from_micros(EventTime::MIN.micros() + minute * 60_000_000);
        let windows: HashMap<_, _> = (0..10)
            .map(|minute| {
                let mut sum = WindowSum::ending(start(minute + 1));
                sum.add(7, 90_000);
                (start(minute), sum)
            })
            .collect();
        let stretches = stretches(&windows);
        assert_eq!(stretches.len(), 5, "two windows each");
        assert!(
            stretches
                .windows(2)
                .all(|pair| pair[0].end == pair[1].start)
        );
        assert!(stretches[0].start <= EventTime::MIN && stretches[4].end > EventTime::MAX);
    }
}
