//! Progress as PostgreSQL holds it: one row a Kafka partition, moved in the transaction that writes
//! its rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clickstream_pipeline::checkpoint::Counters;
use tokio_postgres::{Client, NoTls};

/// A connection to the target's schema.
///
/// # Errors
/// The server refuses.
pub async fn connect(url: &str, schema: &str) -> anyhow::Result<Client> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config
        .application_name("cargo xtask")
        .options(format!(
            "-c search_path=\"{schema}\",pg_catalog -c timezone=UTC"
        ))
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await?;
    // ends with the client; what went wrong, the client's calls say
    tokio::spawn(connection);
    Ok(client)
}

/// Every partition's checkpoint, by partition.
pub type Checkpoints = BTreeMap<i32, Checkpoint>;

/// One partition's progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Counts the claims.
    pub epoch: i64,
    /// Everything below is done.
    pub next_offset: i64,
    /// The clock of event time, before the watermark's delay.
    pub clock: Option<DateTime<Utc>>,
    /// Verdicts so far.
    pub counts: Counters,
}

/// The checkpoints of a topic.
///
/// # Errors
/// The query fails.
pub async fn read(client: &Client, topic: &str) -> anyhow::Result<Checkpoints> {
    let rows = client
        .query(
            "select partition, epoch, next_offset, clock_t, consumed, accepted, duplicate, rejected, late, skipped \
             from clickstream_checkpoints where topic = $1",
            &[&topic],
        )
        .await?;
    let checkpoint = |row: &tokio_postgres::Row| Checkpoint {
        epoch: row.get(1),
        next_offset: row.get(2),
        clock: row.get(3),
        counts: Counters {
            consumed: row.get(4),
            accepted: row.get(5),
            duplicate: row.get(6),
            rejected: row.get(7),
            late: row.get(8),
            skipped: row.get(9),
            ..Counters::default()
        },
    };
    Ok(rows
        .iter()
        .map(|row| (row.get(0), checkpoint(row)))
        .collect())
}

/// The verdicts of all partitions together.
#[must_use]
pub fn total(checkpoints: &Checkpoints) -> Counters {
    checkpoints
        .values()
        .map(|checkpoint| checkpoint.counts)
        .sum()
}

/// The time that no partition's events are behind: the smallest clock; `None` until every partition
/// has one.
#[must_use]
pub fn slowest_clock(checkpoints: &Checkpoints) -> Option<DateTime<Utc>> {
    let clocks: Option<Vec<_>> = checkpoints
        .values()
        .map(|checkpoint| checkpoint.clock)
        .collect();
    clocks?.into_iter().min()
}

/// Records between the checkpoints and the log's ends.
#[must_use]
pub fn lag(checkpoints: &Checkpoints, ends: &BTreeMap<i32, i64>) -> i64 {
    ends.iter()
        .map(|(partition, end)| {
            let next = checkpoints
                .get(partition)
                .map_or(0, |checkpoint| checkpoint.next_offset);
            (end - next).max(0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next_offset: i64, seconds: Option<i64>) -> Checkpoint {
        Checkpoint {
            epoch: 1,
            next_offset,
            clock: seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            counts: Counters {
                consumed: next_offset,
                accepted: next_offset,
                ..Counters::default()
            },
        }
    }

    #[test]
    fn a_partition_that_nobody_has_claimed_lags_by_its_whole_log() {
        let checkpoints = Checkpoints::from([(0, at(7, None))]);
        assert_eq!(lag(&checkpoints, &BTreeMap::from([(0, 10), (1, 5)])), 3 + 5);
    }

    #[test]
    fn a_checkpoint_past_a_stale_end_is_no_negative_lag() {
        let checkpoints = Checkpoints::from([(0, at(12, None)), (1, at(1, None))]);
        assert_eq!(lag(&checkpoints, &BTreeMap::from([(0, 10), (1, 5)])), 4);
    }

    #[test]
    fn the_slowest_clock_waits_for_every_partition() {
        let mut checkpoints = Checkpoints::from([(0, at(1, Some(50))), (1, at(1, None))]);
        assert_eq!(slowest_clock(&checkpoints), None);
        checkpoints.insert(1, at(1, Some(40)));
        assert_eq!(slowest_clock(&checkpoints), DateTime::from_timestamp(40, 0));
    }

    #[test]
    fn verdicts_add_up_over_partitions() {
        let checkpoints = Checkpoints::from([(0, at(7, None)), (1, at(4, None))]);
        assert_eq!(total(&checkpoints).accepted, 11);
    }
}
