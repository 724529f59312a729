//! The tables of `clickstream_events`, a few at a time. A statement holds a lock on each table that
//! its plan opens and on each index of it until its transaction ends, and the server's table of
//! locks is for everybody: 6,400 entries with its defaults. So every statement of an audit names
//! days in its text or in parameters that the planner knows, which then opens these and no other,
//! and no transaction meets more than [`DAYS_AT_ONCE`].

use std::ops::Range;

use chrono::NaiveDate;
use clickstream_pipeline::event::{EventTime, MICROS_PER_DAY};
use tokio_postgres::{Client, Transaction};

use super::column::Date;

/// Days of a statement or a transaction: four locks each, and four sessions at most hold some at
/// the same time.
pub const DAYS_AT_ONCE: usize = 64;

/// One of the tables that hold rows.
pub struct Table {
    /// With its schema, quoted.
    pub name: String,
    /// Its UTC day; `None` for that of outliers.
    pub day: Option<NaiveDate>,
    /// Pages of its heap, rounded up.
    pub pages: i64,
}

/// Rows that one statement reads.
pub struct Source<'a> {
    /// The table to name.
    pub table: &'a str,
    /// The condition that leaves only them, of a table that is called `rows`.
    pub condition: String,
    /// Pages of the heap that they are in.
    pub pages: i64,
}

/// All rows, in as few statements as the table of locks allows, and of at most `most_pages` unless
/// a single table has more.
///
/// A day is read by way of the table of all days, so that no right on the day itself is needed.
pub fn sources(tables: &[Table], most_pages: i64) -> Vec<Source<'_>> {
    let mut sources = Vec::new();
    let mut days: Vec<NaiveDate> = Vec::new();
    let mut pages = 0;
    for table in tables {
        let Some(day) = table.day else {
            sources.push(Source {
                table: &table.name,
                condition: "true".to_owned(),
                pages: table.pages,
            });
            continue;
        };
        if days.len() == DAYS_AT_ONCE || (!days.is_empty() && pages + table.pages > most_pages) {
            sources.push(of_days(&days, pages));
            days.clear();
            pages = 0;
        }
        days.push(day);
        pages += table.pages;
    }
    if !days.is_empty() {
        sources.push(of_days(&days, pages));
    }
    sources
}

fn of_days(days: &[NaiveDate], pages: i64) -> Source<'static> {
    let days: Vec<String> = days.iter().map(|day| format!("date '{day}'")).collect();
    Source {
        table: "clickstream_events",
        condition: format!("rows.event_date in ({})", days.join(", ")),
        pages,
    }
}

/// The tables that hold rows. One that grows meanwhile grows by rows above the snapshot.
///
/// # Errors
/// What the server says.
pub async fn tables(client: &Client) -> anyhow::Result<Vec<Table>> {
    let rows = client
        .query(
            "select format('%I.%I', spaces.nspname, child.relname),
                case when child.relname ~ '^clickstream_events_[0-9]{8}$' then to_date(right(child.relname, 8), 'YYYYMMDD') end,
                pg_relation_size(child.oid) / current_setting('block_size')::bigint + 1
             from pg_inherits
             join pg_class as child on child.oid = inhrelid
             join pg_namespace as spaces on spaces.oid = child.relnamespace
             where inhparent = 'clickstream_events'::regclass order by 1",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Table {
                name: row.try_get(0)?,
                day: row.try_get(1)?,
                pages: row.try_get(2)?,
            })
        })
        .collect()
}

/// The end of `stretch`, or a midnight before it, so that a transaction may read what lies between:
/// no more days than it has locks for. Nothing but a window has to be read at one instant, and a
/// day is a whole number of those.
///
/// # Errors
/// What the server says.
pub async fn end_of_piece(
    tx: &Transaction<'_>,
    stretch: &Range<EventTime>,
) -> anyhow::Result<EventTime> {
    let first = stretch.start.day();
    let days = DAYS_AT_ONCE as i64;
    if stretch.end.micros() <= (i64::from(first.days()) + days) * MICROS_PER_DAY {
        return Ok(stretch.end);
    }
    let next = tx
        .query_opt(
            "select day
             from pg_inherits
             join pg_class as child on child.oid = inhrelid
             cross join lateral (select case when relname ~ '^clickstream_events_[0-9]{8}$'
                 then to_date(right(relname, 8), 'YYYYMMDD') end) as days (day)
             where inhparent = 'clickstream_events'::regclass and day > $1
             order by day offset $2 limit 1",
            &[&first.date(), &(days - 1)],
        )
        .await?;
    let Some(next) = next else {
        return Ok(stretch.end);
    };
    let next = next.try_get::<_, Date>(0)?.0.start();
    Ok(next.min(stretch.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(days: u32, pages: i64) -> Vec<Table> {
        let day = |n| NaiveDate::from_epoch_days(i32::try_from(n).ok()?);
        let mut tables: Vec<Table> = (0..days)
            .map(|n| Table {
                name: format!("clickstream_events_{n}"),
                day: day(n),
                pages,
            })
            .collect();
        tables.push(Table {
            name: "clickstream_events_default".to_owned(),
            day: None,
            pages,
        });
        tables
    }

    fn days_of(sources: &[Source<'_>]) -> Vec<usize> {
        let days = |source: &Source<'_>| source.condition.matches("date '").count();
        sources.iter().map(days).collect()
    }

    #[test]
    fn small_days_share_a_statement_as_far_as_locks_and_pages_allow() {
        assert_eq!(days_of(&sources(&tables(150, 1), 1_000)), [64, 64, 0, 22]);
        assert_eq!(days_of(&sources(&tables(5, 400), 1_000)), [2, 2, 0, 1]);
        assert_eq!(days_of(&sources(&tables(2, 4_000), 1_000)), [1, 0, 1]);
        assert_eq!(days_of(&sources(&tables(0, 1), 1_000)), [0]);
    }
}
