//! What a writer does for the target beside its flushes: day partitions, anchors, finality.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use clickstream_pipeline::{
    decode::columns::PromotedColumn,
    engine::Claim,
    event::{Day, EventTime},
    offset::TopicPartition,
    spec::SemanticSpec,
};
use tokio_postgres::types::ToSql;
use tracing::{info, warn};

use super::{
    PostgresSink, SinkFault,
    anchors::{Anchors, Why},
    promoted,
    transaction::answered,
};
use crate::retry;

/// Rows of a day that are moved out of the default partition when the day gets its own: a fraction
/// of a second, in which writers of other outliers wait.
const MOST_MOVED: i32 = 50_000;
/// While nothing is final yet every window is open: where one partition holds years of them back,
/// counting must not take long.
const WINDOWS_COUNTED: i64 = 10_000;

/// Whether a day has a partition of its own now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DayMade {
    /// It has.
    Yes,
    /// A lock was not to be had, or events of the day came into the default partition meanwhile;
    /// they stay there until a later attempt moves them.
    NotYet,
    /// The default partition holds so many of its events that they stay there, and so do those to
    /// come.
    Left,
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

    /// Creates one day's partition.
    ///
    /// # Errors
    /// [`SinkFault`] other than a lock or a race with rows of the day.
    pub async fn create_day(&self, day: Day) -> Result<DayMade, SinkFault> {
        let make = || async {
            let params: [&(dyn ToSql + Sync); 2] = [&day.date(), &MOST_MOVED];
            let client = &self.connection.client;
            answered(client.query_one("select clickstream_add_day($1, $2)", &params)).await
        };
        let mut made = make().await;
        if made.as_ref().is_err_and(raced) {
            // rows of the day were committed after it had looked for some: now it finds and moves
            // them
            made = make().await;
        }
        match made {
            Ok(row) if row.get::<_, &str>(0) == "left" => {
                warn!(%day, "the rows of a day stay in the default partition: to move so many would hold up the stream");
                Ok(DayMade::Left)
            }
            Ok(_) => {
                info!(%day, "created the partition of a day");
                Ok(DayMade::Yes)
            }
            Err(fault) if lock_missed(&fault) || raced(&fault) => {
                warn!(%day, error = %fault, "cannot create the partition of a day yet");
                Ok(DayMade::NotYet)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether the target's tables have these promoted columns; the error says what stands in the
    /// way.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn find_columns(
        &self,
        wanted: &[PromotedColumn],
    ) -> Result<Result<(), String>, SinkFault> {
        let unfit = answered(promoted::unfit(&self.connection.client, wanted)).await?;
        Ok(unfit.first().map_or(Ok(()), |unfit| Err(unfit.to_string())))
    }

    /// Windows with rows from `from` on and, if given, before `to`; no more than 10,000 are
    /// counted.
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
            // the primary key begins with window_start: what is read is what is counted, a few
            // entries per window
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

    /// Notes from where an audit or a rewind can start, for partitions that are still this claim's,
    /// each with the rules that are in force from where it stands on and the start of its log;
    /// anchors that the log has left behind go, but for the newest of them.
    ///
    /// # Errors
    /// [`SinkFault`].
    pub async fn anchor(
        &self,
        partitions: &[(TopicPartition, Claim, Arc<SemanticSpec>, Option<i64>)],
    ) -> Result<(), SinkFault> {
        let mut anchors = Anchors::default();
        for (tp, claim, rules, _) in partitions {
            anchors.add(self.topic(tp.topic), tp.partition, claim.token, rules);
        }
        let starts: Vec<Option<i64>> = partitions.iter().map(|(.., start)| *start).collect();
        let client = &self.connection.client;
        anchors.write(client, Why::Hour).await?;
        anchors.prune(client, &starts).await
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

pub(super) fn lock_missed(fault: &SinkFault) -> bool {
    matches!(fault, SinkFault::Postgres(error) if error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
        || error.code() == Some(&tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED))
}

fn raced(fault: &SinkFault) -> bool {
    matches!(fault, SinkFault::Postgres(error) if retry::is_day_race(error))
}

pub(super) fn day(date: NaiveDate) -> Day {
    EventTime::from_micros(
        date.and_time(chrono::NaiveTime::MIN)
            .and_utc()
            .timestamp_micros(),
    )
    .day()
}
