//! What the aggregates hold, read in slices of time. Each slice has a short snapshot of its own,
//! since a long one would keep PostgreSQL from cleaning up behind the hot rows, and notes how far
//! every partition was in that snapshot: hits and offsets move in one transaction, so a window
//! holds exactly the records below the offsets of its slice. Nothing has to stand still.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use clickstream_pipeline::{
    event::EventTime,
    offset::{TopicId, TopicPartition},
    settle::page_hash,
    window::{TumblingWindow, Window},
};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction, types::Timestamp};

use super::{
    aggregates::{Fingerprints, Part, WindowSum, shown},
    column::{Bits, Instant},
    forms::Forms,
    report::{Difference, Differences, Kind},
    unions::{self, Unions},
};
use crate::failpoints::stall;

/// Rows of `clickstream_agg_lanes` in a slice, unless a single window has more: a second of reading
/// or less.
pub const SLICE_ROWS: i64 = 200_000;
/// Rows of `clickstream_traffic_parts` weigh more: each has two sets of 3 KiB, which the view
/// unites once more.
const PARTS_WEIGH: i64 = 20;

/// An end of a slice; all time lies between the first and the last.
pub type Bound = Timestamp<DateTime<Utc>>;

/// The aggregates by windows, and how far each partition was when its slice was read.
#[derive(Default, Debug)]
pub struct Slices {
    /// Sums by the start of the window.
    pub windows: HashMap<EventTime, WindowSum>,
    /// Rows of `clickstream_traffic_parts` by partition.
    pub totals: HashMap<TopicPartition, Total>,
    /// First instant of each slice but the first, ascending.
    cuts: Vec<EventTime>,
    /// Next offsets, from this slice on.
    nexts: HashMap<TopicPartition, Vec<(usize, i64)>>,
    /// `revised` of the checkpoints when the first slice was read.
    revised_before: HashMap<TopicPartition, i64>,
    /// Which rows' users and visits can be compared.
    pub forms: Forms,
    /// Whether the role may read the view of all partitions' traffic.
    pub sees_view: bool,
}

/// Traffic of one partition.
#[derive(Copy, Clone, Default, Debug)]
pub struct Total {
    /// Hits of all windows, each as of its slice.
    pub hits: i64,
    /// Number of windows.
    pub windows: u64,
    /// Hits that came after their window had been reported final.
    pub revised: i64,
    /// Whether a processor of an earlier version wrote one of the windows, which may have counted
    /// such hits nowhere else than in the checkpoint.
    pub older: bool,
}

/// How far one partition was, by windows.
#[derive(Copy, Clone, Debug)]
pub struct Reach<'a> {
    cuts: &'a [EventTime],
    nexts: &'a [(usize, i64)],
}

impl Slices {
    /// Reads all aggregates, `rows` at a time. What rows say of themselves is compared at once.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(
        client: &mut Client,
        fingerprints: &Fingerprints,
        windows: TumblingWindow,
        rows: i64,
        differences: &mut Differences,
    ) -> anyhow::Result<Self> {
        let mut slices = Self {
            sees_view: unions::may_read(client).await?,
            ..Self::default()
        };
        let mut from = Bound::NegInfinity;
        loop {
            let to = end_of_slice(client, &from, rows).await?;
            let tx = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start()
                .await?;
            let mut slice = Slice {
                tx: &tx,
                bounds: [&from, &to],
                fingerprints,
                size: windows,
                final_until: None,
                slices: &mut slices,
                differences,
            };
            slice.positions().await?;
            slice.lanes().await?;
            let unions = slice.parts().await?;
            if slice.slices.sees_view {
                unions
                    .compare(&tx, [&from, &to], fingerprints, slice.differences)
                    .await?;
            }
            tx.commit().await?;
            stall("audit_slice");
            let Timestamp::Value(cut) = to else {
                return Ok(slices);
            };
            let micros = cut.timestamp_micros();
            slices.cuts.push(EventTime::from_micros(micros));
            from = to;
        }
    }

    /// The least that all windows of `tp` together can have in `revised`, if each of them was
    /// counted.
    pub fn revised_before(&self, tp: TopicPartition) -> i64 {
        self.revised_before.get(&tp).copied().unwrap_or(0)
    }

    /// How far `tp` was when its windows were read.
    pub fn reach(&self, tp: TopicPartition) -> Reach<'_> {
        Reach {
            cuts: &self.cuts,
            nexts: self.nexts.get(&tp).map_or(&[], Vec::as_slice),
        }
    }

    fn note(&mut self, tp: TopicPartition, next: i64) {
        let slice = self.cuts.len();
        let nexts = self.nexts.entry(tp).or_default();
        if nexts.last().is_none_or(|(_, last)| *last != next) {
            nexts.push((slice, next));
        }
    }
}

impl Reach<'_> {
    /// Every window holds the records below this offset, and some may hold more.
    pub fn least(&self) -> i64 {
        match self.nexts.first() {
            Some((0, next)) => *next,
            _ => 0,
        }
    }

    /// Whether the window that starts at `start` holds what came of the record at `offset`.
    pub fn covers(&self, start: EventTime, offset: i64) -> bool {
        if offset < self.least() {
            return true;
        }
        let slice = self.cuts.partition_point(|cut| *cut <= start);
        let at = self.nexts.partition_point(|(since, _)| *since <= slice);
        at > 0 && offset < self.nexts[at - 1].1
    }
}

/// The first window behind a slice that begins at `from`, so that the slice has at most `rows` rows
/// or one window.
async fn end_of_slice(
    client: &Client,
    from: &Bound,
    rows: i64,
) -> Result<Bound, tokio_postgres::Error> {
    let parts = (rows / PARTS_WEIGH).max(1);
    let found = client
        .query_one(
            "select least(
                (select window_start from clickstream_agg_lanes where window_start >= $1 order by window_start offset $2 limit 1),
                (select window_start from clickstream_traffic_parts where window_start >= $1 order by window_start offset $3 limit 1))",
            &[from, &rows, &parts],
        )
        .await?;
    let mut to: Option<Bound> = found.try_get(0)?;
    if to.as_ref() == Some(from) {
        let next = client
            .query_one(
                "select least(
                    (select min(window_start) from clickstream_agg_lanes where window_start > $1),
                    (select min(window_start) from clickstream_traffic_parts where window_start > $1))",
                &[from],
            )
            .await?;
        to = next.try_get(0)?;
    }
    Ok(to.unwrap_or(Bound::PosInfinity))
}

/// A slice while it is read.
struct Slice<'a> {
    tx: &'a Transaction<'a>,
    bounds: [&'a Bound; 2],
    fingerprints: &'a Fingerprints,
    size: TumblingWindow,
    final_until: Option<EventTime>,
    slices: &'a mut Slices,
    differences: &'a mut Differences,
}

impl Slice<'_> {
    async fn positions(&mut self) -> anyhow::Result<()> {
        let rows = self
            .tx
            .query(
                "select topics.topic_id, points.partition, points.next_offset, points.revised,
                    (select final_until from clickstream_finality)
                 from clickstream_checkpoints as points join clickstream_topics as topics using (topic)",
                &[],
            )
            .await?;
        for row in rows {
            let tp = TopicPartition {
                topic: TopicId(row.try_get(0)?),
                partition: row.try_get(1)?,
            };
            self.slices.note(tp, row.try_get(2)?);
            if self.slices.cuts.is_empty() {
                self.slices.revised_before.insert(tp, row.try_get(3)?);
            }
            self.final_until = row.try_get::<_, Option<Instant>>(4)?.map(|until| until.0);
        }
        Ok(())
    }

    async fn lanes(&mut self) -> anyhow::Result<()> {
        let rows = self
            .tx
            .query_raw(
                "select window_start, window_end, url_hash, hits, url, event_name, site, bot_hits
                 from clickstream_agg_lanes
                 where window_start >= $1 and window_start < $2",
                self.bounds,
            )
            .await?;
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            let Some(window) = self.window(&row)? else {
                continue;
            };
            let (hash, hits, url): (&[u8], i64, &str) =
                (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            let expected = page_hash(url, Some(row.try_get(5)?), row.try_get(6)?);
            if hash != expected {
                let detail = format!("url_hash is not the hash of the page {}", shown(url));
                self.malformed(window.start, detail);
            }
            let sum = self
                .slices
                .windows
                .entry(window.start)
                .or_insert_with(|| WindowSum::ending(window.end));
            let page = self.fingerprints.of(&expected);
            sum.add(page, hits);
            sum.mark(page, row.try_get(7)?);
        }
        Ok(())
    }

    /// In the order of time, as [`Forms`] and [`Unions`] take them.
    async fn parts(&mut self) -> anyhow::Result<Unions> {
        let mut unions = Unions::default();
        let rows = self
            .tx
            .query_raw(
                &format!(
                    "select window_start, window_end,
                        (select topic_id from clickstream_topics as topics where topics.topic = parts.topic),
                        parts.partition, parts.topic, parts.revised, {PART}
                     from clickstream_traffic_parts as parts
                     where window_start >= $1 and window_start < $2
                     order by window_start, window_end"
                ),
                self.bounds,
            )
            .await?;
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            let Some(window) = self.window(&row)? else {
                continue;
            };
            let (part, revised) = (part(&row, 6, self.fingerprints)?, row.try_get(5)?);
            unions.add(window, &part, revised, &row, 8, self.fingerprints)?;
            let Some(topic) = row.try_get::<_, Option<i16>>(2)? else {
                let topic: &str = row.try_get(4)?;
                let detail = format!("traffic of {topic}, which clickstream_topics does not know");
                self.malformed(window.start, detail);
                continue;
            };
            let tp = TopicPartition {
                topic: TopicId(topic),
                partition: row.try_get(3)?,
            };
            self.slices
                .forms
                .note(tp, window.start, part.is_of_older_form());
            let total = self.slices.totals.entry(tp).or_default();
            total.hits += part.hits;
            total.windows += 1;
            total.revised += revised;
            total.older |= part.is_of_older_form();
            if let Some(detail) = self.impossible(window, part.hits, revised) {
                let found = Difference::new(Kind::RevisedDiffers, detail)
                    .of(row.try_get(4)?, tp.partition)
                    .in_window(window.start);
                self.differences.add(Some(tp), found);
            }
            self.slices
                .windows
                .entry(window.start)
                .or_insert_with(|| WindowSum::ending(window.end))
                .add_part(self.fingerprints, tp, &part);
        }
        unions.close(self.fingerprints);
        Ok(unions)
    }

    /// The window of a row, which must be one of the schema's; `None` far outside of all that
    /// events can have.
    fn window(&mut self, row: &Row) -> Result<Option<Window>, tokio_postgres::Error> {
        let window = Window {
            start: row.try_get::<_, Instant>(0)?.0,
            end: row.try_get::<_, Instant>(1)?.0,
        };
        let far = 2 * EventTime::MAX.micros();
        let is_far = |time: EventTime| !(-far..=far).contains(&time.micros());
        if is_far(window.start) || is_far(window.end) {
            self.malformed(window.start, "no event can be in this window".to_owned());
            return Ok(None);
        }
        let known = self.slices.windows.get(&window.start);
        if known.is_none_or(|sum| sum.end != window.end)
            && self.size.containing(window.start) != window
        {
            let detail = format!("no window of the schema ends at {}", window.end);
            self.malformed(window.start, detail);
        }
        Ok(Some(window))
    }

    /// What is wrong with so many of a window's hits having come after it was reported final.
    fn impossible(&self, window: Window, hits: i64, revised: i64) -> Option<String> {
        if !(0..=hits).contains(&revised) {
            return Some(format!("revised: {revised} of {hits} hits"));
        }
        (revised > 0 && self.final_until.is_none_or(|until| until < window.end)).then(|| {
            let until = self
                .final_until
                .map_or_else(|| "none".to_owned(), |until| until.to_string());
            format!(
                "revised: {revised} hits came after the window was final, but final_until is {until}: did it move back?"
            )
        })
    }

    fn malformed(&mut self, start: EventTime, detail: String) {
        let found = Difference::new(Kind::AggregateMalformed, detail);
        self.differences.add(None, found.in_window(start));
    }
}

/// What [`part`] reads. Bits that lack values are left where they are.
pub const PART: &str = "hits, sketch_format, case when sketch_format <> 1 then visitors_bits end, \
     case when sketch_format <> 1 then sessions_bits end, bot_hits";

/// Hits, form and bits of a row, from this column on.
///
/// # Errors
/// A column of another type.
pub fn part(
    row: &Row,
    first: usize,
    fingerprints: &Fingerprints,
) -> Result<Part, tokio_postgres::Error> {
    let part = Part {
        hits: row.try_get(first)?,
        bot_hits: row.try_get(first + 4)?,
        sketch_format: row.try_get(first + 1)?,
        sets: [0; 2],
    };
    if part.is_of_older_form() {
        return Ok(Part::of_older_form(part.hits, part.bot_hits));
    }
    let set = |column| {
        let bits: Option<Bits<'_>> = row.try_get(column)?;
        Ok::<_, tokio_postgres::Error>(fingerprints.of_bits(bits.map(|bits| bits.0)))
    };
    Ok(Part {
        sets: [set(first + 2)?, set(first + 3)?],
        ..part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TP: TopicPartition = TopicPartition {
        topic: TopicId(1),
        partition: 0,
    };

    fn time(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    #[test]
    fn a_window_reaches_as_far_as_the_partition_was_when_its_slice_was_read() {
        let mut slices = Slices::default();
        slices.note(TP, 10);
        for (cut, next) in [(100, 10), (200, 25), (300, 25), (400, 40)] {
            slices.cuts.push(time(cut));
            slices.note(TP, next);
        }
        let reach = slices.reach(TP);
        assert_eq!(reach.least(), 10);
        for (start, next) in [
            (0, 10),
            (99, 10),
            (100, 10),
            (200, 25),
            (399, 25),
            (400, 40),
        ] {
            assert!(reach.covers(time(start), next - 1), "{start}");
            assert!(!reach.covers(time(start), next), "{start}");
        }
    }

    #[test]
    fn a_partition_that_came_while_slices_were_read_is_in_the_later_ones_only() {
        let mut slices = Slices::default();
        slices.cuts.push(time(100));
        slices.note(TP, 5);
        let reach = slices.reach(TP);
        assert_eq!(reach.least(), 0);
        assert!(!reach.covers(time(99), 0));
        assert!(reach.covers(time(100), 4));
        assert!(
            !slices
                .reach(TopicPartition { partition: 7, ..TP })
                .covers(time(100), 0)
        );
    }
}
