//! Retention: what is past its time goes, on a session of its own. No statement here takes a lock
//! that a flush waits for longer than a moment, and none that takes long holds one.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clickstream_pipeline::{
    event::Day,
    spec::{Duration, RetentionSpec, SemanticSpec},
};
use tokio_postgres::Client;

use super::{
    SinkFault,
    housekeeping::{day, lock_missed},
};

/// Rows deleted in one transaction: some milliseconds.
const BATCH: i32 = 5_000;

/// Takes the lock of the one session of a target that looks after retention; held until the session
/// ends.
const ELECT: &str =
    "select pg_try_advisory_lock(hashtext('clickstream upkeep'), hashtext(current_schema()))";

/// Whoever holds that lock, if the role may not write here: any role can take it that may connect.
const STRANGER: &str = "
    select locks.pid, coalesce(sessions.usename, '')::text
    from pg_locks as locks
    join pg_stat_activity as sessions using (pid)
    where locks.locktype = 'advisory' and locks.objsubid = 2 and locks.granted
      and locks.database = (select oid from pg_database where datname = current_database())
      and locks.classid::bigint = hashtext('clickstream upkeep')::bigint & 4294967295
      and locks.objid::bigint = hashtext(current_schema())::bigint & 4294967295
      and not has_table_privilege(sessions.usesysid, 'clickstream_checkpoints', 'update')";

/// Who looks after retention.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Election {
    /// This session.
    Ours,
    /// Another processor's session.
    Theirs,
    /// Nobody: the lock is held by a role that is no processor's.
    Stranger {
        /// Its session.
        pid: i32,
        /// Its name.
        role: String,
    },
}

/// Instants before which rows may go; `None` keeps them.
#[derive(Copy, Clone, Debug)]
pub struct Retention {
    /// Of events.
    pub events: Option<DateTime<Utc>>,
    /// Of minutes.
    pub aggregates: Option<DateTime<Utc>>,
    /// Of dead letters.
    pub dead_letters: Option<DateTime<Utc>>,
    /// Of the ledger of late events.
    pub late_events: Option<DateTime<Utc>>,
}

/// The partition that retention has to wait for: a day goes only when it is past its time by the
/// log as well, so that replaying an old log never drops what it writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldsBack {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// How far its time has come; `None`: too few events have come to tell.
    pub watermark: Option<DateTime<Utc>>,
}

/// Rows that expire by their age, oldest first.
#[derive(Clone, Copy, Debug)]
pub enum Ledger {
    /// Hits per window and page.
    Pages,
    /// Which pages of a window have rows of their own.
    AdmittedPages,
    /// Traffic per window and partition.
    Traffic,
    /// Dead letters.
    DeadLetters,
    /// Late events.
    LateEvents,
}

impl Retention {
    /// What the spec keeps, seen from `now`.
    pub fn at(now: DateTime<Utc>, spec: &RetentionSpec) -> Self {
        let before = |keep: Option<Duration>| {
            keep.and_then(|keep| now.checked_sub_signed(TimeDelta::microseconds(keep.micros())))
        };
        Self {
            events: before(spec.events),
            aggregates: before(spec.aggregates),
            dead_letters: before(spec.dead_letters),
            late_events: before(spec.late_events),
        }
    }

    /// The instant before which rows of a ledger go. Windows are kept by their end and found by
    /// their start.
    pub fn before(&self, ledger: Ledger, window_micros: i64) -> Option<DateTime<Utc>> {
        match ledger {
            Ledger::Pages | Ledger::AdmittedPages | Ledger::Traffic => self
                .aggregates?
                .checked_sub_signed(TimeDelta::microseconds(window_micros)),
            Ledger::DeadLetters => self.dead_letters,
            Ledger::LateEvents => self.late_events,
        }
    }
}

impl Ledger {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Pages,
        Self::AdmittedPages,
        Self::Traffic,
        Self::DeadLetters,
        Self::LateEvents,
    ];

    /// Deletes a batch; each goes by the first column of an index.
    fn delete(self) -> String {
        let (table, age) = match self {
            Self::Pages => ("clickstream_agg_lanes", "window_start"),
            Self::AdmittedPages => ("clickstream_admitted_pages", "window_start"),
            Self::Traffic => ("clickstream_traffic_parts", "window_start"),
            Self::DeadLetters => ("clickstream_dead_letters", "stored_at"),
            Self::LateEvents => ("clickstream_late_events", "stored_at"),
        };
        format!(
            "delete from {table} where ctid = any (array(
                 select ctid from {table} where {age} < $1 order by {age} limit {BATCH}))"
        )
    }
}

/// Tries to make this session the one that looks after retention.
///
/// # Errors
/// What the server says.
pub async fn elect(client: &Client) -> Result<Election, SinkFault> {
    if client.query_one(ELECT, &[]).await?.get(0) {
        return Ok(Election::Ours);
    }
    let stranger = client.query_opt(STRANGER, &[]).await?;
    Ok(stranger.map_or(Election::Theirs, |row| Election::Stranger {
        pid: row.get(0),
        role: row.get(1),
    }))
}

/// The partition whose time has come least far, of those that are not idle; `None`: all of them
/// are.
///
/// # Errors
/// What the server says.
pub async fn holds_back(
    client: &Client,
    spec: &SemanticSpec,
    idle_timeout_micros: i64,
) -> Result<Option<HoldsBack>, SinkFault> {
    let row = client
        .query_opt(
            "select topic, partition, watermark from clickstream_holds_back($1, $2)",
            &[&spec.delay_micros, &idle_timeout_micros],
        )
        .await?;
    Ok(row.map(|row| HoldsBack {
        topic: row.get(0),
        partition: row.get(1),
        watermark: row.get(2),
    }))
}

/// The days that have a partition, and those that are on their way out.
///
/// # Errors
/// What the server says.
pub async fn days(client: &Client) -> Result<(Vec<Day>, Vec<Day>), SinkFault> {
    let present = client.query("select day from clickstream_days()", &[]);
    let leaving = client.query("select day from clickstream_leaving_days()", &[]);
    let (present, leaving) = tokio::try_join!(present, leaving)?;
    let named = |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| day(row.get(0))).collect();
    Ok((named(present), named(leaving)))
}

/// Takes a day out of the table of events. `false`: somebody's lock stood in the way.
///
/// # Errors
/// What the server says, other than of a lock.
pub async fn detach(client: &Client, day: Day) -> Result<bool, SinkFault> {
    let detached = client
        .query_one("select clickstream_detach_day($1)", &[&day.date()])
        .await
        .map_err(SinkFault::from);
    match detached {
        Ok(_) => Ok(true),
        Err(fault) if lock_missed(&fault) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Counts the rows of a detached day as expired and drops them. How many they were.
///
/// # Errors
/// What the server says.
pub async fn drop_detached(client: &Client, day: Day) -> Result<i64, SinkFault> {
    let row = client
        .query_one("select clickstream_drop_detached($1)", &[&day.date()])
        .await?;
    Ok(row.get(0))
}

/// Deletes a batch of outliers of days before `before`. Whether there may be more.
///
/// # Errors
/// What the server says.
pub async fn expire_outliers(client: &Client, before: NaiveDate) -> Result<(i64, bool), SinkFault> {
    let row = client
        .query_one(
            "select clickstream_expire_outliers($1, $2)",
            &[&before, &BATCH],
        )
        .await?;
    let gone: i64 = row.get(0);
    Ok((gone, gone >= i64::from(BATCH)))
}

/// Deletes a batch of a ledger's rows. Whether there may be more.
///
/// # Errors
/// What the server says.
pub async fn expire(
    client: &Client,
    ledger: Ledger,
    before: DateTime<Utc>,
) -> Result<bool, SinkFault> {
    let gone = client.execute(&ledger.delete(), &[&before]).await?;
    Ok(gone >= u64::from(BATCH.unsigned_abs()))
}
