//! What the planner knows of the events as a whole, and what the indexes of a day know of it:
//! nobody else sees to either. Only the owner of the tables may, so it is functions of his
//! (sql/V9__readers.sql).

use chrono::NaiveDate;
use clickstream_pipeline::event::Day;
use tokio_postgres::Client;

use super::{
    SinkFault,
    housekeeping::{day, lock_missed},
};

/// What became of the statistics of all days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Events {
    /// They were taken.
    Analysed,
    /// Those that are there will do.
    Known,
    /// The days are too many for the server's table of locks.
    Left,
    /// Somebody's lock stood in the way.
    Busy,
}

/// The newest day before `today` that has a partition.
///
/// # Errors
/// What the server says.
pub async fn last_day(client: &Client, today: NaiveDate) -> Result<Option<Day>, SinkFault> {
    let row = client
        .query_one(
            "select max(day) from clickstream_days() where day < $1",
            &[&today],
        )
        .await?;
    Ok(row.get::<_, Option<NaiveDate>>(0).map(day))
}

/// Summarises what a day's BRIN indexes have not. How many ranges that were; `None`: a lock stood
/// in the way.
///
/// # Errors
/// What the server says, other than of a lock.
pub async fn summarise(client: &Client, day: Day) -> Result<Option<i64>, SinkFault> {
    let done = client
        .query_one("select clickstream_summarise_day($1)", &[&day.date()])
        .await
        .map_err(SinkFault::from);
    match done {
        Ok(row) => Ok(Some(row.get(0))),
        Err(fault) if lock_missed(&fault) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Takes statistics of the table of all days where those that are there are no longer good enough.
///
/// # Errors
/// What the server says, other than of a lock.
pub async fn analyse(client: &Client) -> Result<Events, SinkFault> {
    let done = client
        .query_one("select clickstream_analyze_events()", &[])
        .await
        .map_err(SinkFault::from);
    match done {
        Ok(row) => Ok(match row.get(0) {
            "analysed" => Events::Analysed,
            "left" => Events::Left,
            _ => Events::Known,
        }),
        Err(fault) if lock_missed(&fault) => Ok(Events::Busy),
        Err(fault) => Err(fault),
    }
}
