//! What a writer does for the target beside its flushes: day partitions, retention, anchors, finality.

use chrono::{DateTime, NaiveDate, Utc};
use clickstream_pipeline::{
    event::{Day, EventTime},
    offset::TopicPartition,
    spec::{RetentionSpec, SemanticSpec},
};
use serde_json::json;
use tracing::{info, warn};

use super::{PostgresSink, SinkFault, claim::ANCHOR, transaction::answered};

/// While nothing is final yet every window is open: where one partition holds years of them back, counting must not take long.
const WINDOWS_COUNTED: i64 = 10_000;

/// Instants before which rows may go; `None` keeps them.
#[derive(Copy, Clone, Debug)]
pub struct Retention {
    events: Option<DateTime<Utc>>,
    aggregates: Option<DateTime<Utc>>,
    dead_letters: Option<DateTime<Utc>>,
    late_events: Option<DateTime<Utc>>,
}

impl Retention {
    /// What the spec keeps, seen from `now`.
    pub fn at(now: DateTime<Utc>, spec: &RetentionSpec) -> Self {
        let before = |keep: Option<clickstream_pipeline::spec::Duration>| {
            keep.and_then(|keep| {
                now.checked_sub_signed(chrono::TimeDelta::microseconds(keep.micros()))
            })
        };
        Self {
            events: before(spec.events),
            aggregates: before(spec.aggregates),
            dead_letters: before(spec.dead_letters),
            late_events: before(spec.late_events),
        }
    }

    fn is_off(&self) -> bool {
        self.aggregates.is_none() && self.dead_letters.is_none() && self.late_events.is_none()
    }
}

/// What retention did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expired {
    /// Days whose partition was dropped.
    pub dropped: u64,
    /// Days whose partition could not be dropped yet, because of somebody's lock.
    pub lock_missed: u64,
}

impl PostgresSink {
    /// The days that have a partition of their own.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn days(&self) -> Result<Vec<Day>, SinkFault> {
        let rows = answered(
            self.connection
                .client
                .query("select day from clickstream_days()", &[]),
        )
        .await?;
        Ok(rows.iter().map(|row| day(row.get(0))).collect())
    }

    /// Creates one day's partition. `false`: a lock was not to be had; events of that day go to the default partition
    /// until a later attempt moves them.
    ///
    /// # Errors
    /// [`SinkFault`] other than a lock.
    pub async fn create_day(&self, day: Day) -> Result<bool, SinkFault> {
        let created = answered(
            self.connection
                .client
                .execute("select clickstream_create_day($1)", &[&day.date()]),
        )
        .await;
        match created {
            Ok(_) => {
                info!(%day, "created the partition of a day");
                Ok(true)
            }
            Err(fault) if lock_missed(&fault) => {
                warn!(%day, error = %fault, "cannot create the partition of a day yet");
                Ok(false)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Drops what retention no longer keeps. A day goes only when it is past its time by the wall clock and by the smallest
    /// watermark as well, so that replaying an old log never drops what it writes.
    ///
    /// # Errors
    /// [`SinkFault`] other than a lock, which is tried again next time.
    pub async fn expire(
        &self,
        retention: Retention,
        spec: &SemanticSpec,
    ) -> Result<Expired, SinkFault> {
        let mut done = Expired::default();
        let client = &self.connection.client;
        if let Some(before) = retention.events {
            let row = answered(client.query_one(
                "select min(clock_t - $1 * interval '1 microsecond'), count(*) filter (where clock_t is null) from clickstream_checkpoints",
                &[&micros_as_f64(spec.delay_micros)],
            ))
            .await?;
            let watermark: Option<DateTime<Utc>> = row.get(0);
            let without: i64 = row.get(1);
            if let (Some(watermark), 0) = (watermark, without) {
                let oldest = before.min(watermark).date_naive();
                for day in self
                    .days()
                    .await?
                    .into_iter()
                    .filter(|day| day.date() < oldest)
                {
                    match answered(
                        client.query_one("select clickstream_drop_day($1)", &[&day.date()]),
                    )
                    .await
                    {
                        Ok(row) => {
                            done.dropped += 1;
                            info!(%day, rows = row.get::<_, i64>(0), "dropped a day past its retention")
                        }
                        Err(fault) if lock_missed(&fault) => {
                            done.lock_missed += 1;
                            warn!(%day, error = %fault, "cannot drop a day yet")
                        }
                        Err(fault) => return Err(fault),
                    }
                }
            }
        }
        if !retention.is_off() {
            let expired = answered(client.execute(
                "select clickstream_expire($1, $2, $3)",
                &[
                    &retention.aggregates,
                    &retention.dead_letters,
                    &retention.late_events,
                ],
            ))
            .await;
            match expired {
                Err(fault) if lock_missed(&fault) => {
                    warn!(error = %fault, "cannot expire rows yet")
                }
                other => drop(other?),
            }
        }
        Ok(done)
    }

    /// Windows with rows from `from` on and, if given, before `to`; no more than 10,000 are counted.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn windows(
        &self,
        from: Option<EventTime>,
        to: Option<EventTime>,
    ) -> Result<i64, SinkFault> {
        let instant = |time: EventTime| DateTime::from_timestamp_micros(time.micros());
        let row = answered(self.connection.client.query_one(
            // the primary key begins with window_start: what is read is what is counted, a few entries per window
            "select count(*) from (
                 select distinct window_start from clickstream_traffic_parts
                 where window_start >= coalesce($1::timestamptz, '-infinity') and window_start < coalesce($2::timestamptz, 'infinity')
                 order by window_start limit $3
             ) as windows",
            &[&from.and_then(instant), &to.and_then(instant), &WINDOWS_COUNTED],
        ))
        .await?;
        Ok(row.get(0))
    }

    /// Notes from where an audit or a rewind can start.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn anchor(
        &self,
        partitions: &[TopicPartition],
        spec: &SemanticSpec,
    ) -> Result<(), SinkFault> {
        let topics: Vec<&str> = partitions.iter().map(|tp| self.topic(tp.topic)).collect();
        let numbers: Vec<i32> = partitions.iter().map(|tp| tp.partition).collect();
        answered(
            self.connection
                .client
                .execute(ANCHOR, &[&topics, &numbers, &"hourly", &json!(spec)]),
        )
        .await?;
        Ok(())
    }

    /// Moves `final_until` as far as watermarks and idleness allow, and returns it.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn advance_final(
        &self,
        spec: &SemanticSpec,
        idle_timeout_micros: i64,
    ) -> Result<Option<EventTime>, SinkFault> {
        let row = answered(self.connection.client.query_one(
            "select clickstream_advance_final($1, $2, $3, $4)",
            &[
                &spec.delay_micros,
                &spec.allowed_lateness_micros,
                &spec.window_micros,
                &idle_timeout_micros,
            ],
        ))
        .await?;
        let until: Option<DateTime<Utc>> = row.get(0);
        Ok(until.map(|until| EventTime::from_micros(until.timestamp_micros())))
    }

    /// Keeps the number of a topic's partitions, which finality has to wait for.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn note_partitions(&self, topic: &str, partitions: i32) -> Result<(), SinkFault> {
        answered(self.connection.client.execute(
            "update clickstream_topics set partitions = $2 where topic = $1 and partitions is distinct from $2",
            &[&topic, &partitions],
        ))
        .await?;
        Ok(())
    }
}

fn lock_missed(fault: &SinkFault) -> bool {
    matches!(fault, SinkFault::Postgres(error) if error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
        || error.code() == Some(&tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED))
}

fn day(date: NaiveDate) -> Day {
    EventTime::from_micros(
        date.and_time(chrono::NaiveTime::MIN)
            .and_utc()
            .timestamp_micros(),
    )
    .day()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a delay of at most days in microseconds is exact in 53 bits"
)]
fn micros_as_f64(micros: i64) -> f64 {
    micros as f64
}
