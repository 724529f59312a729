//! Names the rows that no record explains, once the census has shown that there are some.

use std::{collections::HashMap, ops::Range, sync::Arc};

use clickstream_pipeline::{decode::Decoder, spec::SemanticSpec};
use futures_util::TryStreamExt;
use rdkafka::consumer::BaseConsumer;
use tokio_postgres::{Client, types::ToSql};
use uuid::Uuid;

use super::{
    anchors::{Anchor, Start},
    census::{Rows, Scope},
    column::Date,
    days::{Source, sources, tables},
    log,
    report::{Difference, Differences, Kind},
    snapshot::Progress,
    stored::Key,
};

/// Stretches that are read again to name rows; the rest is told as numbers.
const NAMED_STRETCHES: usize = 8;

/// Compares the rows that were found for records with those that are there.
///
/// # Errors
/// Kafka or PostgreSQL cannot be read.
pub async fn compare(
    client: &Client,
    consumer: &Arc<BaseConsumer>,
    progress: &Progress,
    start: &Start,
    scope: &Scope,
    rows: &Rows,
    differences: &mut Differences,
) -> anyhow::Result<()> {
    let mut stretches = 0;
    for (bucket, &matched) in (0i64..).zip(&scope.buckets.rows) {
        let stored = rows.buckets.get(&bucket).copied().unwrap_or(0);
        if stored == matched {
            continue;
        }
        let first = scope.buckets.from + (bucket << scope.buckets.shift);
        let stretch = first..(first + (1 << scope.buckets.shift)).min(scope.end);
        stretches += 1;
        let named = stored > matched
            && stretches <= NAMED_STRETCHES
            && name(
                client,
                consumer,
                progress,
                start,
                stretch.clone(),
                differences,
            )
            .await?;
        if !named {
            let detail = format!(
                "offsets {} to {}: {stored} rows, but {matched} belong to records",
                stretch.start, stretch.end
            );
            let kind = if stored > matched {
                Kind::StrayRow
            } else {
                Kind::MissingRow
            };
            let found = Difference::new(kind, detail).of(&progress.topic, progress.tp.partition);
            differences.add(Some(progress.tp), found);
        }
    }
    Ok(())
}

/// Names the rows of a stretch that no record explains. False if there is none by now.
async fn name(
    client: &Client,
    consumer: &Arc<BaseConsumer>,
    progress: &Progress,
    start: &Start,
    stretch: Range<i64>,
    differences: &mut Differences,
) -> anyhow::Result<bool> {
    let anchors = start.anchors(client, progress).await?;
    let keys = keys(consumer, progress, anchors, stretch.clone()).await?;
    let params: [&(dyn ToSql + Sync); 4] = [
        &progress.tp.topic.0,
        &progress.tp.partition,
        &stretch.start,
        &stretch.end,
    ];
    let mut strays = Vec::new();
    let tables = tables(client).await?;
    for Source {
        table, condition, ..
    } in sources(&tables, i64::MAX)
    {
        let rows = client
            .query_raw(
                &format!(
                    "select event_id, event_date, source_offset, source_index from {table} as rows
                     where {condition} and source_topic_id = $1 and source_partition = $2
                       and source_offset >= $3 and source_offset < $4"
                ),
                params,
            )
            .await?;
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            let (id, date): (Uuid, Date) = (row.try_get(0)?, row.try_get(1)?);
            let place: (i64, i16) = (row.try_get(2)?, row.try_get(3)?);
            if keys.get(&place) != Some(&(id, date.0)) {
                strays.push((place, date.0, id));
            }
        }
    }
    strays.sort_unstable();
    for &(place, day, id) in &strays {
        let why = if keys.contains_key(&place) {
            "the record there is another event"
        } else {
            "there is no valid event there"
        };
        let detail = format!("row of event {id} of {day} names this record, but {why}");
        let found =
            Difference::new(Kind::StrayRow, detail).of(&progress.topic, progress.tp.partition);
        differences.add(Some(progress.tp), found.at(place.0));
    }
    Ok(!strays.is_empty())
}

/// Keys of the valid events of a stretch of the log, by offset and place in the record.
async fn keys(
    consumer: &Arc<BaseConsumer>,
    progress: &Progress,
    anchors: Vec<Anchor>,
    stretch: Range<i64>,
) -> anyhow::Result<HashMap<(i64, i16), Key>> {
    let consumer = Arc::clone(consumer);
    let progress = progress.clone();
    tokio::task::spawn_blocking(move || {
        let mut keys = HashMap::new();
        // most anchors repeat the rules of the one before
        let rules: Vec<(i64, Decoder)> = anchors
            .chunk_by(|one, next| one.spec == next.spec)
            .map(|same| (same[0].next.get(), same[0].spec.decoder()))
            .collect();
        let before = SemanticSpec::default().decoder();
        let (topic, partition) = (&progress.topic, progress.tp.partition);
        log::read(&consumer, topic, partition, stretch, &[], |slice| {
            for record in &slice.records {
                let at = rules.partition_point(|(next, _)| *next <= record.offset);
                let decoder = at.checked_sub(1).map_or(&before, |at| &rules[at].1);
                let value = slice.value(record).unwrap_or_default();
                decoder.decode_each(value, record.received_at, |element| {
                    if let Ok(event) = element.verdict {
                        let key = (event.event_id, event.event_ts.day());
                        keys.insert((record.offset, element.index), key);
                    }
                });
            }
            true
        })?;
        anyhow::Ok(keys)
    })
    .await?
}
