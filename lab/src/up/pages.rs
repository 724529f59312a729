//! The pages with the most hits.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;

/// How many are shown.
const SHOWN: i64 = 8;

/// A page and its hits.
pub type Page = (String, i64);

/// The top pages of the last minute of event time: of the windows that it touches.
///
/// # Errors
/// The query fails.
pub async fn newest(client: &Client, clock: Option<DateTime<Utc>>) -> anyhow::Result<Vec<Page>> {
    let Some(clock) = clock else {
        return Ok(Vec::new());
    };
    let rows = client
        .query(
            "select url, sum(hits)::bigint from clickstream_agg_lanes \
             where window_start > $1::timestamptz - interval '1 minute' - \
               (select make_interval(secs => window_micros / 1e6) from clickstream_schema) \
             group by url order by 2 desc, 1 limit $2",
            &[&clock, &SHOWN],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The top pages of everything.
///
/// # Errors
/// The query fails.
pub async fn overall(client: &Client) -> anyhow::Result<Vec<Page>> {
    let rows = client
        .query(
            "select url, sum(hits)::bigint from clickstream_agg_minute group by url order by 2 desc, 1 limit $1",
            &[&SHOWN],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
