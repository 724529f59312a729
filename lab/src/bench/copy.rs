//! The yardstick: PostgreSQL's own binary COPY, one stream, of the rows that a drain has stored.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio_postgres::Client;

use super::load::Load;
use super::stand::{Stand, Trial};

/// Bytes sent at a time.
const CHUNK: usize = 1 << 20;

/// A measured COPY.
#[derive(Clone, Copy, Debug)]
pub struct CopyRun {
    /// From the command to the acknowledged commit, in seconds.
    pub seconds: f64,
    /// Rows.
    pub rows: u64,
    /// Others' part of the CPU.
    pub foreign_cpu: f64,
}

/// The rows of a trial in memory, in the order in which they lie in the table.
pub struct Rows {
    data: Bytes,
    days: Vec<chrono::NaiveDate>,
}

impl Rows {
    /// Reads the rows of a trial.
    ///
    /// # Errors
    /// A query fails.
    pub async fn of(trial: &Trial) -> anyhow::Result<Self> {
        let days = trial
            .client
            .query("select distinct event_date from clickstream_events", &[])
            .await?;
        let days = days.iter().map(|row| row.get(0)).collect();
        let stored = trial
            .client
            .copy_out(
                "copy (select * from clickstream_events order by tableoid, ctid) to stdout (format binary)",
            )
            .await?;
        let data: Vec<u8> = stored
            .try_fold(Vec::new(), |mut all, part| async move {
                all.extend_from_slice(&part);
                Ok(all)
            })
            .await?;
        Ok(Self {
            data: Bytes::from(data),
            days,
        })
    }

    /// Copies them into the same table of a fresh schema, whose days exist already.
    ///
    /// # Errors
    /// A statement fails.
    pub async fn copy(&self, stand: &Stand, topic: &str) -> anyhow::Result<CopyRun> {
        let trial = stand.trial(topic).await?;
        for day in &self.days {
            trial
                .client
                .execute("select clickstream_create_day($1)", &[day])
                .await?;
        }
        trial.client.batch_execute("checkpoint").await?;
        let load = Load::now()?;
        let begun = Instant::now();
        let rows = self.send(&trial.client).await?;
        let run = CopyRun {
            seconds: begun.elapsed().as_secs_f64(),
            rows,
            foreign_cpu: load.foreign_since()?,
        };
        trial.end(None).await?;
        Ok(run)
    }

    async fn send(&self, client: &Client) -> anyhow::Result<u64> {
        let sink = client
            .copy_in("copy clickstream_events from stdin (format binary)")
            .await?;
        let mut sink = std::pin::pin!(sink);
        let mut rest = self.data.clone();
        while !rest.is_empty() {
            let part = rest.split_to(CHUNK.min(rest.len()));
            sink.send(part).await?;
        }
        Ok(sink.as_mut().finish().await?)
    }
}
