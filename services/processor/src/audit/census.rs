//! Counts the stored rows by the place they come from, so that a row without a record shows
//! although every record has been found: the rows that were found are the rows that are there if
//! both are equally many.
//!
//! The table is walked in pieces of its heap, each in a statement of its own: no index is needed,
//! and none of them keeps PostgreSQL from cleaning up for long.

use std::collections::BTreeMap;

use clickstream_pipeline::offset::{NextOffset, TopicId, TopicPartition};
use tokio_postgres::Client;

use super::days::{Source, Table, sources, tables};

/// Pages of a piece: 512 MiB, a second or two.
const PIECE_PAGES: i64 = 65_536;
/// How often the walk begins anew when a day's partition came or went meanwhile.
const ATTEMPTS: usize = 3;

/// Counts by stretches of offsets, so that rows without a record can be found without holding every
/// offset.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// First offset of the first bucket.
    pub from: i64,
    /// A bucket spans `1 << shift` offsets.
    pub shift: u32,
    /// Rows in each.
    pub rows: Vec<i64>,
}

/// What is counted of one partition.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Which partition.
    pub tp: TopicPartition,
    /// The stretch that was read from the log.
    pub buckets: Buckets,
    /// End of that stretch.
    pub end: i64,
    /// The checkpoint's position; rows above it came after the snapshot.
    pub next: NextOffset,
    /// From where on late rows below the stretch are counted.
    pub late_from: i64,
}

/// Rows of one partition.
#[derive(Clone, Default, Debug)]
pub struct Rows {
    /// Rows by bucket of the stretch that was read.
    pub buckets: BTreeMap<i64, i64>,
    /// Rows below the checkpoint that are not marked late.
    pub on_time: i64,
    /// Rows below the checkpoint that are.
    pub late: i64,
    /// Late rows from `late_from` on, below the stretch that was read.
    pub late_below: i64,
    /// Rows at or above the checkpoint that the server held at the same instant.
    pub ahead: i64,
}

/// Rows by partition, those of partitions without a checkpoint included.
pub type Census = BTreeMap<TopicPartition, Rows>;

impl Buckets {
    /// At most 4,096 buckets for these offsets.
    pub fn spanning(offsets: &std::ops::Range<i64>) -> Self {
        let length = u64::try_from(offsets.end - offsets.start).unwrap_or(0);
        let shift = (u64::BITS - length.leading_zeros()).saturating_sub(12);
        let buckets = usize::try_from(length >> shift).map_or(0, |full| full + 1);
        Self {
            from: offsets.start,
            shift,
            rows: vec![0; buckets],
        }
    }

    /// Counts a row.
    pub fn count(&mut self, offset: i64) {
        let bucket = usize::try_from((offset - self.from) >> self.shift).unwrap_or(usize::MAX);
        if let Some(rows) = self.rows.get_mut(bucket) {
            *rows += 1;
        }
    }
}

/// Counts.
///
/// # Errors
/// What the server says, or day partitions that keep coming and going.
pub async fn take(client: &Client, scopes: &[Scope]) -> anyhow::Result<Census> {
    for _ in 0..ATTEMPTS {
        let before = tables(client).await?;
        let mut census = Census::new();
        for source in sources(&before, PIECE_PAGES) {
            let mut from = 0;
            while from < source.pages {
                let pages = from..from + PIECE_PAGES;
                count(client, scopes, &source, pages, &mut census).await?;
                from += PIECE_PAGES;
            }
        }
        // rows move when a day gets its partition, and go when it is dropped
        let names = |tables: &[Table]| {
            tables
                .iter()
                .map(|table| table.name.clone())
                .collect::<Vec<_>>()
        };
        if names(&tables(client).await?) == names(&before) {
            return Ok(census);
        }
    }
    anyhow::bail!(
        "day partitions came or went during each of {ATTEMPTS} attempts to count rows; run the audit again"
    )
}

async fn count(
    client: &Client,
    scopes: &[Scope],
    source: &Source<'_>,
    pages: std::ops::Range<i64>,
    census: &mut Census,
) -> anyhow::Result<()> {
    let topics: Vec<i16> = scopes.iter().map(|scope| scope.tp.topic.0).collect();
    let partitions: Vec<i32> = scopes.iter().map(|scope| scope.tp.partition).collect();
    let lows: Vec<i64> = scopes.iter().map(|scope| scope.buckets.from).collect();
    let ends: Vec<i64> = scopes.iter().map(|scope| scope.end).collect();
    let nexts: Vec<i64> = scopes.iter().map(|scope| scope.next.get()).collect();
    let shifts: Vec<i32> = scopes
        .iter()
        .map(|scope| i32::try_from(scope.buckets.shift).unwrap_or(0))
        .collect();
    let late_froms: Vec<i64> = scopes.iter().map(|scope| scope.late_from).collect();
    let Source {
        table, condition, ..
    } = source;
    let rows = client
        .query(
            &format!(
                "select rows.source_topic_id, rows.source_partition,
                    case when rows.source_offset >= scope.low and rows.source_offset < scope.high
                         then (rows.source_offset - scope.low) >> scope.shift end as bucket,
                    count(*) filter (where not rows.is_late and rows.source_offset < scope.next),
                    count(*) filter (where rows.is_late and rows.source_offset < scope.next),
                    count(*) filter (where points.next_offset is null or rows.source_offset >= points.next_offset),
                    count(*),
                    count(*) filter (where rows.is_late and rows.source_offset >= scope.late_from and rows.source_offset < scope.low)
                 from {table} as rows
                 left join unnest($1::smallint[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::int[],
                     $7::bigint[]) as scope (topic, partition, low, high, next, shift, late_from)
                   on scope.topic = rows.source_topic_id and scope.partition = rows.source_partition
                 left join clickstream_topics as topics on topics.topic_id = rows.source_topic_id
                 left join clickstream_checkpoints as points
                   on points.topic = topics.topic and points.partition = rows.source_partition
                 where {condition} and rows.ctid >= '({},0)'::tid and rows.ctid < '({},0)'::tid
                 group by 1, 2, 3",
                pages.start, pages.end
            ),
            &[&topics, &partitions, &lows, &ends, &nexts, &shifts, &late_froms],
        )
        .await?;
    for row in rows {
        let tp = TopicPartition {
            topic: TopicId(row.try_get(0)?),
            partition: row.try_get(1)?,
        };
        let found: &mut Rows = census.entry(tp).or_default();
        if let Some(bucket) = row.try_get::<_, Option<i64>>(2)? {
            *found.buckets.entry(bucket).or_default() += row.try_get::<_, i64>(6)?;
        }
        found.on_time += row.try_get::<_, i64>(3)?;
        found.late += row.try_get::<_, i64>(4)?;
        found.ahead += row.try_get::<_, i64>(5)?;
        found.late_below += row.try_get::<_, i64>(7)?;
    }
    Ok(())
}
