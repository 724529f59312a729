//! What goes ahead of the migrations' transaction, in steps of their own: what would hold up
//! flushes for long within it.
//!
//! A step leaves nothing behind that earlier versions could not work with, and finds out itself
//! what is done already, so that a migration that ends in between goes on where it was. The
//! migration itself says everything once more with `if not exists`, and finds it done.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::{Client, Error};
use tracing::info;

use super::prompt::{EVENTS, at_once};
use crate::failpoints;

/// The version whose migration these steps belong to.
const VERSION: i32 = 12;

/// Columns of events. Each changes the catalog for every day: 0.2 to 0.5 ms a day, so that together
/// they would hold up flushes for a second where there are 300 days, and one alone where there are
/// years.
const COLUMNS: [&str; 12] = [
    "source_index smallint not null default 0",
    "bot int not null default 0",
    "event_name text not null default 'page_view'",
    "site text",
    "page text",
    "referrer_host text",
    "utm_source text",
    "utm_medium text",
    "utm_campaign text",
    "utm_term text",
    "utm_content text",
    "properties jsonb",
];

/// Tables whose keys get one more column, and the index that becomes the key.
const LEDGERS: [(&str, &str); 2] = [
    ("clickstream_late_events", "clickstream_late_events_place"),
    ("clickstream_dead_letters", "clickstream_dead_letters_place"),
];

/// Bytes of a ledger whose index is built in a moment: 50,000 rows.
const SMALL: i64 = 8 << 20;

/// Takes the steps that lie ahead of the migrations that a schema of this version lacks.
///
/// # Errors
/// What the server says; the next attempt goes on from there.
pub async fn steps(client: &mut Client, version: i32) -> Result<(), Error> {
    if version >= VERSION {
        return Ok(());
    }
    let begin = Instant::now();
    for column in COLUMNS {
        let sql = format!("alter table clickstream_events add column if not exists {column}");
        add(client, EVENTS, &sql).await?;
    }
    for (table, index) in LEDGERS {
        if is_built(client, index).await? {
            continue;
        }
        let size = failpoints::only("CLICKSTREAM_TEST_SMALL_LEDGER");
        let small = size.and_then(|size| i64::try_from(size).ok());
        let row = client
            .query_one("select pg_relation_size($1::text::regclass)", &[&table])
            .await?;
        if row.get::<_, i64>(0) < small.unwrap_or(SMALL) {
            continue;
        }
        let sql = format!(
            "alter table {table} add column if not exists {}",
            COLUMNS[0]
        );
        add(client, table, &sql).await?;
        build(client, table, index).await?;
    }
    info!(
        seconds = (begin.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
        "went ahead of migration {VERSION}: columns one at a time, indexes of long ledgers"
    );
    Ok(())
}

/// Adds a column, and leaves flushes alone for as long as that took.
async fn add(client: &mut Client, table: &str, sql: &str) -> Result<(), Error> {
    let took: Duration = at_once(client, table, &[sql]).await?.iter().sum();
    sleep(took).await;
    Ok(())
}

/// Whether the index is there. One whose building was interrupted is dropped: the migration would
/// take it for a built one, also where the ledger has become short meanwhile.
async fn is_built(client: &Client, index: &str) -> Result<bool, Error> {
    let valid = "select indisvalid from pg_index where indexrelid = to_regclass($1::text)";
    let Some(row) = client.query_opt(valid, &[&index]).await? else {
        return Ok(false);
    };
    let is_valid: bool = row.get(0);
    if !is_valid {
        let sql = format!("drop index concurrently {index}");
        client.batch_execute(&sql).await?;
    }
    Ok(is_valid)
}

/// Builds the index beside everything that writes the table.
async fn build(client: &Client, table: &str, index: &str) -> Result<(), Error> {
    info!(
        table,
        "building an index; it waits for transactions that began before it"
    );
    let sql = format!(
        "create unique index concurrently {index} on {table} (topic, partition, source_offset, source_index)"
    );
    client.batch_execute(&sql).await
}
