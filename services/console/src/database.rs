//! What is read from PostgreSQL: short read-only transactions, bounded by time and by number of
//! rows.
//!
//! Names of the schema go into `search_path`; everything else is a parameter. All text that comes
//! back was written by strangers: it is passed on as text, cut to a length.

mod rows;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clickstream_pipeline::checkpoint::Counters;
use clickstream_pipeline::spec::PostgresSettings;
use clickstream_postgres::{Access, DialError, dial, explain};
use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

pub use rows::{
    Checkpoint, Core, DeadLetter, Page, Rules, SampleRow, StoredRows, Totals, WindowFacts,
};
use statements::{
    BOTS, CHECKPOINTS, DEAD_LETTERS, FINAL_UNTIL, GAPS, NEWEST_WINDOW, PAGES, PARTS, PIPELINE,
    ROWS, RULES, SAMPLE, TOTALS, TRAFFIC, WINDOW_PAGES, WINDOW_URLS, WINDOW_VISITORS,
};

use crate::given::GivenConnection;
use crate::traffic::{Chart, Span, Window, spans};

/// The application_name of the console's sessions.
const APPLICATION: &str = "clickstream-console";

/// How long it may take to have a session.
const SESSION_DEADLINE: Duration = Duration::from_secs(10);

/// What the server gives a statement of the page, which is repeated soon. A part that takes longer
/// is not shown.
const PAGE_STATEMENT_MILLIS: u32 = 2_000;

/// What it gives a statement that explains a window: its events have no index but BRIN.
const EXPLAIN_STATEMENT_MILLIS: u32 = 5_000;

/// How much longer than the server's own limits an answer is waited for: a server that has frozen
/// cannot keep them.
const GRACE: Duration = Duration::from_secs(3);

/// Partitions that are shown one by one; totals are over all.
const PARTITIONS: i64 = 512;

/// Pages and dead letters that are shown.
const SHOWN: i64 = 10;

/// Characters of a URL that are shown.
const URL_CHARS: i32 = 300;

/// Windows that the top pages are of.
pub const PAGE_WINDOWS: i64 = 5;

/// Why something could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// What is given of the connection cannot be used any more.
    #[error("{0:#}")]
    Given(anyhow::Error),
    /// No session.
    #[error("cannot connect: {}", explain_dial(.0))]
    Dial(#[from] DialError),
    /// The role may not read it.
    #[error(
        "the role may not read this: name it under spec.targets[].rawReaders, or grant it by hand (docs/console.md)"
    )]
    NotGranted,
    /// There are no tables.
    #[error("schema \"{schema}\" holds no clickstream tables: run the migration, or set --schema")]
    NoTables {
        /// The schema that was looked in.
        schema: String,
    },
    /// The server took longer than it was given.
    #[error("took longer than the time it was given")]
    TooSlow,
    /// The server took the question and said nothing more.
    #[error("the server does not answer")]
    Silent,
    /// Anything else.
    #[error("{}", explain(.0))]
    Postgres(#[source] tokio_postgres::Error),
}

impl ReadError {
    fn of(error: tokio_postgres::Error, schema: &str) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Self::NotGranted,
            Some(code) if *code == SqlState::QUERY_CANCELED => Self::TooSlow,
            Some(code)
                if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME =>
            {
                Self::NoTables {
                    schema: schema.to_owned(),
                }
            }
            _ => Self::Postgres(error),
        }
    }

    /// Whether the session may be of use no more.
    fn ends_session(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Silent | Self::Postgres(_))
    }
}

fn explain_dial(error: &DialError) -> String {
    match error {
        DialError::Tls(error) => format!("TLS: {error}"),
        DialError::Refused(error) => explain(error),
    }
}

/// Where the tables are.
#[derive(Clone)]
pub struct Place {
    /// The server.
    pub connection: Arc<GivenConnection>,
    /// The schema.
    pub schema: String,
}

/// A session that is opened when it is needed, and again after it has ended.
pub struct Database {
    place: Place,
    client: Option<Client>,
    /// What the session was opened with.
    opened_with: Option<PostgresSettings>,
}

/// Runs a transaction that can only read, within the server's limit and ours; the session is given
/// up after an error that leaves it in doubt.
macro_rules! reading {
    ($database:expr, $millis:expr, |$transaction:ident| $work:expr) => {{
        let schema = $database.place.schema.clone();
        let deadline = Duration::from_millis(u64::from($millis)) * 3 + GRACE;
        let work = async {
            let client = $database.client().await?;
            let of = |error| ReadError::of(error, &schema);
            let $transaction = begin(client, &schema, $millis).await.map_err(of)?;
            let found: Result<_, tokio_postgres::Error> = $work.await;
            let found = found.map_err(of)?;
            $transaction.commit().await.map_err(of)?;
            Ok(found)
        };
        let found = tokio::time::timeout(deadline, work)
            .await
            .unwrap_or(Err(ReadError::Silent));
        if found.as_ref().is_err_and(ReadError::ends_session) {
            $database.close();
        }
        found
    }};
}

impl Database {
    /// Nothing is opened yet.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            client: None,
            opened_with: None,
        }
    }

    /// Ends the session until the next question.
    pub fn close(&mut self) {
        self.client = None;
    }

    /// Checkpoints and traffic; the windows of `chart` are brought up to date, all of them if
    /// `everything`.
    ///
    /// # Errors
    /// [`ReadError`]; the chart is as it was.
    pub async fn core(&mut self, chart: &mut Chart, everything: bool) -> Result<Core, ReadError> {
        let (core, read) = reading!(self, PAGE_STATEMENT_MILLIS, |transaction| async {
            let core = core(&transaction).await?;
            let Some(clock) = core.clock else {
                return Ok((core, None));
            };
            let (shown, span) = spans(clock, core.window, everything);
            let rows = transaction
                .query(TRAFFIC, &[&instant(span.from), &instant(span.to)])
                .await?;
            let windows: Vec<Window> = rows.iter().map(window).collect();
            Ok((core, Some((shown, span, windows))))
        })?;
        if let Some((shown, span, windows)) = read {
            chart.update(shown, span, windows);
        }
        Ok(core)
    }

    /// The pages with the most hits in the windows of the span.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn pages(&mut self, span: Span) -> Result<Vec<Page>, ReadError> {
        reading!(self, PAGE_STATEMENT_MILLIS, |transaction| async {
            let rows = transaction
                .query(
                    PAGES,
                    &[&instant(span.from), &instant(span.to), &SHOWN, &URL_CHARS],
                )
                .await?;
            Ok(rows.iter().map(page).collect())
        })
    }

    /// How many hits of the windows of the span something speaks for being a program's.
    ///
    /// # Errors
    /// [`ReadError`], also where the tables do not tell programs apart yet.
    pub async fn bots(&mut self, span: Span) -> Result<i64, ReadError> {
        reading!(self, PAGE_STATEMENT_MILLIS, |transaction| async {
            let row = transaction
                .query_one(BOTS, &[&instant(span.from), &instant(span.to)])
                .await?;
            Ok(row.get(0))
        })
    }

    /// The newest dead letters.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn dead_letters(&mut self) -> Result<Vec<DeadLetter>, ReadError> {
        reading!(self, PAGE_STATEMENT_MILLIS, |transaction| async {
            let rows = transaction
                .query(DEAD_LETTERS, &[&SHOWN, &PARTITIONS])
                .await?;
            let letters = rows.iter().map(|row| DeadLetter {
                topic: row.get(0),
                partition: row.get(1),
                offset: row.get(2),
                reason: row.get(3),
                detail: row.get(4),
                bytes: row.get(5),
                received_at: millis(row.get(6)),
            });
            Ok(letters.collect())
        })
    }

    /// The rules in force, and how many gaps there are with how many records.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn rules_and_gaps(&mut self) -> Result<(Option<Rules>, (i64, i64)), ReadError> {
        reading!(self, PAGE_STATEMENT_MILLIS, |transaction| async {
            let rules = rules(&transaction).await?;
            let gaps = transaction.query_one(GAPS, &[]).await?;
            Ok((rules, (gaps.get(0), gaps.get(1))))
        })
    }

    /// Everything about the window that begins at `start` (seconds since 1970). Of one instant,
    /// except for the rows: when counting those takes too long, the rest is still told.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn window(&mut self, start: i64) -> Result<WindowFacts, ReadError> {
        let mut facts = reading!(self, EXPLAIN_STATEMENT_MILLIS, |transaction| async {
            let core = core(&transaction).await?;
            let (from, to) = (instant(start), instant(start + core.window));
            let rules = rules(&transaction).await?;
            let parts = transaction.query(PARTS, &[&from, &to, &PARTITIONS]).await?;
            let pages = transaction
                .query(WINDOW_PAGES, &[&from, &to, &SHOWN, &URL_CHARS])
                .await?;
            let urls = transaction.query_one(WINDOW_URLS, &[&from, &to]).await?;
            let visitors = transaction
                .query_opt(WINDOW_VISITORS, &[&from, &to])
                .await?;
            let parts = parts.iter().map(|row| (row.get(0), row.get(1), row.get(2)));
            Ok(WindowFacts {
                core,
                rules,
                parts: parts.collect(),
                visitors: visitors.map_or((0, 0), |row| (row.get(0), row.get(1))),
                pages: pages.iter().map(page).collect(),
                urls: urls.get(0),
                rows: Ok(Vec::new()),
                sample: Vec::new(),
            })
        })?;
        let (from, to) = (instant(start), instant(start + facts.core.window));
        let (first_day, last_day) = days(from, to);
        let merges = facts.rules.is_none_or(|rules| rules.merges);
        let rows = reading!(self, EXPLAIN_STATEMENT_MILLIS, |transaction| async {
            let rows = transaction
                .query(
                    ROWS,
                    &[&from, &to, &first_day, &last_day, &PARTITIONS, &merges],
                )
                .await?;
            let sample = transaction
                .query(
                    SAMPLE,
                    &[
                        &from, &to, &first_day, &last_day, &SHOWN, &URL_CHARS, &merges,
                    ],
                )
                .await?;
            let rows = rows.iter().map(|row| StoredRows {
                topic: row.get(0),
                partition: row.get(1),
                first_offset: row.get(2),
                last_offset: row.get(3),
                rows: row.get(4),
                late: row.get(5),
            });
            let sample = sample.iter().map(|row| SampleRow {
                topic: row.get(0),
                partition: row.get(1),
                offset: row.get(2),
                event_ts: millis(row.get(3)),
                received_at: millis(row.get(4)),
                url: row.get(5),
            });
            Ok((rows.collect(), sample.collect()))
        });
        match rows {
            Ok((rows, sample)) => {
                facts.rows = Ok(rows);
                facts.sample = sample;
            }
            Err(error) => facts.rows = Err(error),
        }
        Ok(facts)
    }

    async fn client(&mut self) -> Result<&mut Client, ReadError> {
        // a Secret that has changed is another password, or another server
        let given = self.place.connection.settings();
        let changed = given
            .as_ref()
            .is_ok_and(|given| self.opened_with.as_ref() != Some(given));
        if changed || self.client.as_ref().is_none_or(Client::is_closed) {
            let given = given.map_err(ReadError::Given)?;
            let dialled = dial(&given, APPLICATION, Access::Any);
            self.client = None;
            self.opened_with = Some(given.clone());
            let client = tokio::time::timeout(SESSION_DEADLINE, dialled)
                .await
                .map_err(|_| ReadError::Silent)??;
            self.client = Some(client);
        }
        Ok(self.client.as_mut().expect("set two lines up"))
    }
}

/// One snapshot for all statements, no right to write, and nothing that outlives the transaction.
async fn begin<'a>(
    client: &'a mut Client,
    schema: &str,
    statement_millis: u32,
) -> Result<Transaction<'a>, tokio_postgres::Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let schema = schema.replace('"', "\"\"");
    transaction
        .batch_execute(&format!(
            "set local search_path = \"{schema}\", pg_catalog, pg_temp; set local timezone = 'UTC'; \
             set local statement_timeout = {statement_millis}; set local lock_timeout = 1000; \
             set local idle_in_transaction_session_timeout = 10000"
        ))
        .await?;
    Ok(transaction)
}

async fn core(transaction: &Transaction<'_>) -> Result<Core, tokio_postgres::Error> {
    let pipeline = transaction.query_opt(PIPELINE, &[]).await?;
    let totals = transaction.query_one(TOTALS, &[]).await?;
    let checkpoints = transaction.query(CHECKPOINTS, &[&PARTITIONS]).await?;
    let finality = transaction.query_opt(FINAL_UNTIL, &[]).await?;
    let seconds = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp());
    let mut clock = seconds(totals.get(9));
    if clock.is_none() {
        // the first sixteen events of a partition have no clock yet, but windows
        clock = seconds(transaction.query_one(NEWEST_WINDOW, &[]).await?.get(0));
    }
    Ok(Core {
        pipeline: pipeline.as_ref().and_then(|row| row.get(0)),
        window: pipeline
            .as_ref()
            .map_or(60, |row| row.get::<_, i64>(1))
            .max(1),
        totals: Totals {
            counters: Counters {
                consumed: totals.get(0),
                accepted: totals.get(1),
                duplicate: totals.get(2),
                rejected: totals.get(3),
                late: totals.get(4),
                skipped: totals.get(5),
                revised: totals.get(6),
                ..Counters::default()
            },
            expired: totals.get(7),
            partitions: totals.get(8),
        },
        checkpoints: checkpoints.iter().map(checkpoint).collect(),
        clock,
        final_until: finality.and_then(|row| seconds(row.get(0))),
    })
}

async fn rules(transaction: &Transaction<'_>) -> Result<Option<Rules>, tokio_postgres::Error> {
    let row = transaction.query_opt(RULES, &[]).await?;
    Ok(row.and_then(|row| {
        Some(Rules {
            delay: row.get::<_, Option<i64>>(0)?,
            lateness: row.get::<_, Option<i64>>(1)?,
            merges: row.get::<_, Option<bool>>(2)?,
        })
    }))
}

fn checkpoint(row: &Row) -> Checkpoint {
    Checkpoint {
        topic: row.get(0),
        partition: row.get(1),
        next_offset: row.get(2),
        clock: row
            .get::<_, Option<DateTime<Utc>>>(3)
            .map(|time| time.timestamp_micros()),
        consumed: row.get(4),
        idle_since: row.get::<_, Option<DateTime<Utc>>>(5).map(millis),
        owner: row.get(6),
        updated_at: millis(row.get(7)),
    }
}

fn window(row: &Row) -> Window {
    Window {
        start: row.get::<_, DateTime<Utc>>(0).timestamp(),
        hits: row.get(1),
        visitors: row.get(2),
        sessions: row.get(3),
        is_final: false,
    }
}

fn page(row: &Row) -> Page {
    Page {
        url: row.get(0),
        hits: row.get(1),
    }
}

fn millis(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

/// An instant out of seconds; those that no date can express are answered by the epoch, where
/// nothing is stored.
fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

/// The UTC days that `[from, to)` touches: the first and the last.
fn days(from: DateTime<Utc>, to: DateTime<Utc>) -> (NaiveDate, NaiveDate) {
    (
        from.date_naive(),
        (to - TimeDelta::microseconds(1)).date_naive(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_at_the_end_of_a_day_touches_that_day_only() {
        // 2026-01-01T23:59:00Z
        let start = 1_767_311_940;
        let (first, last) = days(instant(start), instant(start + 60));
        assert_eq!(first, last);
        let (first, last) = days(instant(start), instant(start + 120));
        assert_eq!(last, first.succ_opt().unwrap_or_default());
    }
}
