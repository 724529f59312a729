//! How far the target is at one instant, in one short transaction. A long one would keep PostgreSQL
//! from reusing the many versions of the hot rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use anyhow::bail;
use clickstream_pipeline::{
    checkpoint::Counters,
    event::{Day, EventTime},
    offset::{NextOffset, TopicId, TopicPartition},
};
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::column::Instant;

/// What a checkpoint or an anchor says of a position.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct State {
    /// T.
    pub t: Option<EventTime>,
    /// The last event times, in log order.
    pub times: Vec<EventTime>,
    /// Totals.
    pub counters: Counters,
}

/// One partition's progress.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which partition, by its topic's number.
    pub tp: TopicPartition,
    /// Its topic's name.
    pub topic: String,
    /// Everything below is done.
    pub next: NextOffset,
    /// The state there.
    pub state: State,
    /// Accepted rows that retention has dropped.
    pub expired: i64,
    /// Offsets that Kafka dropped before they were read.
    pub gaps: Vec<Range<i64>>,
}

/// Everything that must be seen at one instant.
#[derive(Debug)]
pub struct Snapshot {
    /// The server's clock.
    pub taken_at: EventTime,
    /// Everything before it was reported final.
    pub final_until: Option<EventTime>,
    /// Start of the newest window that anything was counted in.
    pub newest_window: Option<EventTime>,
    /// The Kafka clusters that the topics were read from.
    pub kafka_clusters: BTreeSet<String>,
    /// In the order of topic number and partition.
    pub progress: Vec<Progress>,
    /// UTC days that have a partition of their own.
    pub days: BTreeSet<Day>,
    /// What retention has taken.
    pub expiry: Expiry,
}

/// How far retention is. Where it has moved on, rows are missing that the counters of a snapshot
/// still count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// Events that have expired, in all.
    pub expired: i64,
    /// A day that is on its way out: detached, and not counted yet.
    pub leaving: Option<String>,
}

impl Snapshot {
    /// Copies it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn take(client: &mut Client) -> anyhow::Result<Self> {
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let row = tx
            .query_one(
                "select now(), (select final_until from clickstream_finality),
                    (select max(window_start) from clickstream_traffic_parts)",
                &[],
            )
            .await?;
        let taken_at = row.try_get::<_, Instant>(0)?.0;
        let final_until = instant(&row, 1)?;
        let newest_window = instant(&row, 2)?;
        let topics = tx
            .query(
                "select topic_id, topic, kafka_cluster from clickstream_topics",
                &[],
            )
            .await?;
        let mut ids = HashMap::new();
        let mut kafka_clusters = BTreeSet::new();
        for row in &topics {
            ids.insert(row.try_get::<_, String>(1)?, TopicId(row.try_get(0)?));
            kafka_clusters.extend(row.try_get::<_, Option<String>>(2)?);
        }
        let progress = progress(&tx, &ids).await?;
        let snapshot = Self {
            taken_at,
            final_until,
            newest_window,
            kafka_clusters,
            progress,
            days: days(&tx).await?,
            expiry: expiry(&tx).await?,
        };
        tx.commit().await?;
        Ok(snapshot)
    }

    /// Next offsets by partition.
    pub fn positions(&self) -> HashMap<TopicPartition, NextOffset> {
        self.progress
            .iter()
            .map(|progress| (progress.tp, progress.next))
            .collect()
    }
}

async fn progress(
    tx: &Transaction<'_>,
    ids: &HashMap<String, TopicId>,
) -> anyhow::Result<Vec<Progress>> {
    let mut all = BTreeMap::new();
    let rows = tx
        .query(
            "select topic, partition, next_offset, expired, clock_t, clock_times, consumed, accepted, duplicate, rejected, late,
                skipped, merged, revised
             from clickstream_checkpoints",
            &[],
        )
        .await?;
    for row in rows {
        let topic: String = row.try_get(0)?;
        let Some(&id) = ids.get(&topic) else {
            bail!(
                "clickstream_checkpoints names topic {topic}, which clickstream_topics does not know"
            );
        };
        let progress = Progress {
            tp: TopicPartition {
                topic: id,
                partition: row.try_get(1)?,
            },
            next: NextOffset::at(row.try_get(2)?),
            expired: row.try_get(3)?,
            state: State {
                counters: Counters {
                    revised: row.try_get(13)?,
                    ..counters(&row, 6)?
                },
                ..clock(&row, 4)?
            },
            gaps: Vec::new(),
            topic: topic.clone(),
        };
        all.insert((topic, progress.tp.partition), progress);
    }
    let rows = tx
        .query("select topic, partition, first_offset, next_offset from clickstream_gaps order by first_offset", &[])
        .await?;
    for row in rows {
        if let Some(progress) = all.get_mut(&(row.try_get(0)?, row.try_get(1)?)) {
            progress.gaps.push(row.try_get(2)?..row.try_get(3)?);
        }
    }
    let mut progress: Vec<_> = all.into_values().collect();
    progress.sort_unstable_by_key(|progress| progress.tp);
    Ok(progress)
}

/// What retention has taken so far.
///
/// # Errors
/// What the server says.
pub async fn expiry(tx: &Transaction<'_>) -> anyhow::Result<Expiry> {
    let row = tx
        .query_one(
            "select coalesce(sum(expired + expired_late), 0)::bigint,
                (select to_date(right(leaving.relname, 8), 'YYYYMMDD')::text from pg_class as leaving
                 join pg_class as events on events.relnamespace = leaving.relnamespace
                 where events.oid = 'clickstream_events'::regclass and leaving.relkind = 'r'
                   and leaving.relname ~ '^clickstream_leaving_[0-9]{8}$' order by 1 limit 1)
             from clickstream_checkpoints",
            &[],
        )
        .await?;
    Ok(Expiry {
        expired: row.try_get(0)?,
        leaving: row.try_get(1)?,
    })
}

/// The UTC days that have a partition of their own, from the catalog, which every role may read.
pub async fn days(tx: &Transaction<'_>) -> anyhow::Result<BTreeSet<Day>> {
    let rows = tx
        .query(
            "select to_date(right(child.relname, 8), 'YYYYMMDD')
             from pg_inherits join pg_class as child on child.oid = inhrelid
             where inhparent = 'clickstream_events'::regclass and child.relname ~ '^clickstream_events_[0-9]{8}$'",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(row.try_get::<_, super::column::Date>(0)?.0))
        .collect()
}

/// T and the last event times, from this column on.
///
/// # Errors
/// A column of another type.
pub fn clock(row: &Row, first: usize) -> anyhow::Result<State> {
    let times: Vec<Instant> = row.try_get(first + 1)?;
    Ok(State {
        t: instant(row, first)?,
        times: times.into_iter().map(|time| time.0).collect(),
        counters: Counters::default(),
    })
}

/// The seven totals, from this column on.
///
/// # Errors
/// A column of another type.
pub fn counters(row: &Row, first: usize) -> anyhow::Result<Counters> {
    Ok(Counters {
        consumed: row.try_get(first)?,
        accepted: row.try_get(first + 1)?,
        duplicate: row.try_get(first + 2)?,
        rejected: row.try_get(first + 3)?,
        late: row.try_get(first + 4)?,
        skipped: row.try_get(first + 5)?,
        merged: row.try_get(first + 6)?,
        ..Counters::default()
    })
}

fn instant(row: &Row, at: usize) -> Result<Option<EventTime>, tokio_postgres::Error> {
    Ok(row
        .try_get::<_, Option<Instant>>(at)?
        .map(|instant| instant.0))
}
