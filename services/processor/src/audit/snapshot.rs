//! What the target holds at one instant: progress, anchors and aggregates, copied in one short transaction. A long one
//! would keep PostgreSQL from reusing the many versions of the hot rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use anyhow::{Context, bail};
use clickstream_pipeline::{
    checkpoint::Counters,
    event::{Day, EventTime},
    offset::{NextOffset, TopicId, TopicPartition},
    spec::SemanticSpec,
};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

use super::{
    aggregates::{Fingerprints, Part, WindowSum},
    column::Instant,
};

/// A state that was written down on the way: an audit starts from one and passes the others.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// Everything below was done.
    pub next: NextOffset,
    /// The rules from there on.
    pub spec: SemanticSpec,
    /// The state there.
    pub state: State,
}

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
    /// In the order of their positions.
    pub anchors: Vec<Anchor>,
    /// Offsets that Kafka dropped before they were read.
    pub gaps: Vec<Range<i64>>,
}

/// Everything that must be seen at one instant.
#[derive(Debug)]
pub struct Snapshot {
    /// The server's clock.
    pub taken_at: EventTime,
    /// Size of the windows, once a processor has written it down.
    pub window_micros: Option<i64>,
    /// Everything before it was reported final.
    pub final_until: Option<EventTime>,
    /// The Kafka clusters that the topics were read from.
    pub kafka_clusters: BTreeSet<String>,
    /// In the order of topic number and partition.
    pub progress: Vec<Progress>,
    /// UTC days that have a partition of their own.
    pub days: BTreeSet<Day>,
    /// `clickstream_agg_lanes`, summed over lanes and pages, by the start of the window.
    pub windows: HashMap<EventTime, WindowSum>,
    /// `clickstream_traffic_parts`, in the order of the windows.
    pub parts: BTreeMap<TopicPartition, Vec<Part>>,
    /// Aggregate rows that contradict themselves.
    pub malformed: Vec<(EventTime, String)>,
}

impl Snapshot {
    /// Copies it.
    ///
    /// # Errors
    /// What the server says, or an anchor that this version cannot read.
    pub async fn take(client: &mut Client, fingerprints: &Fingerprints) -> anyhow::Result<Self> {
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let row = tx
            .query_one(
                "select now(), (select window_micros from clickstream_schema), (select final_until from clickstream_finality)",
                &[],
            )
            .await?;
        let taken_at = row.try_get::<_, Instant>(0)?.0;
        let window_micros = row.try_get(1)?;
        let final_until = instant(&row, 2)?;
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
        let mut snapshot = Self {
            taken_at,
            window_micros,
            final_until,
            kafka_clusters,
            progress,
            days: days(&tx).await?,
            windows: HashMap::new(),
            parts: BTreeMap::new(),
            malformed: Vec::new(),
        };
        snapshot.copy_parts(&tx, &ids).await?;
        snapshot.copy_lanes(&tx, fingerprints).await?;
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

    async fn copy_parts(
        &mut self,
        tx: &Transaction<'_>,
        ids: &HashMap<String, TopicId>,
    ) -> anyhow::Result<()> {
        let rows = tx
            .query_raw(
                "select topic, partition, window_start, window_end, hits, visitors, sessions from clickstream_traffic_parts
                 order by window_start",
                std::iter::empty::<i32>(),
            )
            .await?;
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            let topic: &str = row.try_get(0)?;
            let (start, end) = (
                row.try_get::<_, Instant>(2)?.0,
                row.try_get::<_, Instant>(3)?.0,
            );
            let Some(&topic) = ids.get(topic) else {
                self.malformed.push((
                    start,
                    format!("traffic of {topic}, which clickstream_topics does not know"),
                ));
                continue;
            };
            let tp = TopicPartition {
                topic,
                partition: row.try_get(1)?,
            };
            let part = Part {
                start,
                end,
                hits: row.try_get(4)?,
                visitors: row.try_get(5)?,
                sessions: row.try_get(6)?,
            };
            self.parts.entry(tp).or_default().push(part);
        }
        Ok(())
    }

    async fn copy_lanes(
        &mut self,
        tx: &Transaction<'_>,
        fingerprints: &Fingerprints,
    ) -> anyhow::Result<()> {
        let rows = tx
            .query_raw(
                "select window_start, window_end, url_hash, hits, url from clickstream_agg_lanes",
                std::iter::empty::<i32>(),
            )
            .await?;
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            let (start, end) = (
                row.try_get::<_, Instant>(0)?.0,
                row.try_get::<_, Instant>(1)?.0,
            );
            let (hash, hits, url): (&[u8], i64, &str) =
                (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            let expected = clickstream_pipeline::settle::url_hash(url);
            if hash != expected {
                self.malformed.push((
                    start,
                    format!(
                        "url_hash is not the hash of the page {}",
                        super::aggregates::shown(url)
                    ),
                ));
            }
            let sum = self
                .windows
                .entry(start)
                .or_insert_with(|| WindowSum::ending(end));
            if sum.end != end {
                self.malformed
                    .push((start, "the window has two ends".to_owned()));
            }
            sum.add(fingerprints.of(&expected), hits);
        }
        Ok(())
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
                skipped, revised
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
                    revised: row.try_get(12)?,
                    ..counters(&row, 6)?
                },
                ..clock(&row, 4)?
            },
            anchors: Vec::new(),
            gaps: Vec::new(),
            topic: topic.clone(),
        };
        all.insert((topic, progress.tp.partition), progress);
    }
    let rows = tx
        .query(
            "select topic, partition, next_offset, spec::text, clock_t, clock_times, consumed, accepted, duplicate, rejected,
                late, skipped
             from clickstream_anchors order by next_offset",
            &[],
        )
        .await?;
    for row in rows {
        let key = (row.try_get(0)?, row.try_get(1)?);
        let next: i64 = row.try_get(2)?;
        let spec = serde_json::from_str(row.try_get(3)?).with_context(|| {
            format!(
                "the anchor of {}[{}] at {next} holds rules that this version cannot read",
                key.0, key.1
            )
        })?;
        let anchor = Anchor {
            next: NextOffset::at(next),
            spec,
            state: State {
                counters: counters(&row, 6)?,
                ..clock(&row, 4)?
            },
        };
        if let Some(progress) = all.get_mut(&key) {
            progress.anchors.push(anchor);
        }
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

fn clock(row: &Row, first: usize) -> anyhow::Result<State> {
    let times: Vec<Instant> = row.try_get(first + 1)?;
    Ok(State {
        t: instant(row, first)?,
        times: times.into_iter().map(|time| time.0).collect(),
        counters: Counters::default(),
    })
}

fn counters(row: &Row, first: usize) -> anyhow::Result<Counters> {
    Ok(Counters {
        consumed: row.try_get(first)?,
        accepted: row.try_get(first + 1)?,
        duplicate: row.try_get(first + 2)?,
        rejected: row.try_get(first + 3)?,
        late: row.try_get(first + 4)?,
        skipped: row.try_get(first + 5)?,
        revised: 0,
    })
}

fn instant(row: &Row, at: usize) -> Result<Option<EventTime>, tokio_postgres::Error> {
    Ok(row
        .try_get::<_, Option<Instant>>(at)?
        .map(|instant| instant.0))
}
