//! Migrations that make nobody wait for long: they begin with the locks for which they could have
//! to wait, together and within a moment, or they let go of everything and try again.
//!
//! A migration holds up every flush from its first statement on. Whoever reads a view for a minute
//! would make it wait for that long in the middle, and all flushes with it.

use std::{future::Future, time::Duration};

use refinery_core::{
    AsyncMigrate, Migration,
    traits::r#async::{AsyncQuery, AsyncTransaction},
};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Error, error::SqlState};
use tracing::info;

/// How long a migration tries to find a moment without long queries.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long flushes are left alone after an attempt.
const PAUSE: Duration = Duration::from_millis(800);

/// How a migration begins that processors may meet at work.
const UNDER_LOAD: &str = "set local lock_timeout";

/// Ends what the server does by itself to these tables (vacuum, analyze): it gives way to whoever
/// has waited for a second, which here makes nobody else wait.
const NO_UPKEEP: &str = "
    set local lock_timeout = '5s';
    lock table clickstream_checkpoints, clickstream_anchors, clickstream_agg_lanes, clickstream_traffic_parts, clickstream_finality,
        clickstream_dead_letters, clickstream_late_events in share update exclusive mode;";

/// What readers hold and migrations change, after the lock that flushes take first. A lock on a
/// view is one on its tables, too. Each migration sets a longer `lock_timeout` for what it meets
/// after these.
const LOCKS: &str = "
    set local lock_timeout = '200ms';
    lock table clickstream_checkpoints in access exclusive mode;
    lock table clickstream_anchors, clickstream_agg_minute, clickstream_traffic_minute in access exclusive mode;";

/// The table of all days.
pub const EVENTS: &str = "clickstream_events";

/// A session that migrates.
pub struct Prompt<'c> {
    client: &'c mut Client,
    /// How long each of the statements took that were executed last.
    took: Vec<Duration>,
}

impl<'c> Prompt<'c> {
    /// One that has executed nothing.
    pub fn new(client: &'c mut Client) -> Self {
        Self {
            client,
            took: Vec::new(),
        }
    }

    /// How long the migrations took that were applied last: each is followed by the statement that
    /// notes it.
    pub fn took(&self) -> impl Iterator<Item = Duration> {
        self.took
            .chunks(2)
            .map(|migration| migration.iter().sum::<Duration>())
    }
}

impl AsyncTransaction for Prompt<'_> {
    type Error = Error;

    fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> impl Future<Output = Result<usize, Error>> + Send + 'a {
        let queries: Vec<&str> = queries.collect();
        async move {
            let locks = queries
                .first()
                .is_some_and(|query| query.starts_with(UNDER_LOAD))
                .then(|| of_migrations(&queries));
            self.took = patiently(self.client, locks.as_ref(), &queries).await?;
            Ok(self.took.len())
        }
    }
}

impl AsyncQuery<Vec<Migration>> for Prompt<'_> {
    fn query<'a>(
        &'a mut self,
        query: &'a str,
    ) -> impl Future<Output = Result<Vec<Migration>, Error>> + Send + 'a {
        AsyncQuery::query(&mut *self.client, query)
    }
}

impl AsyncMigrate for Prompt<'_> {}

/// What is locked before anything is changed.
struct Locks {
    /// Against what the server does by itself, in a transaction of its own.
    upkeep: String,
    /// Against everybody.
    taken: String,
}

/// Those of a migration, by what it changes.
fn of_migrations(queries: &[&str]) -> Locks {
    // each day by itself is locked before, where there are days: see `ahead`
    let events = queries
        .iter()
        .any(|query| query.contains("alter table clickstream_events\n"));
    let ledgers = "
        lock table only clickstream_events in access exclusive mode;
        lock table clickstream_late_events, clickstream_dead_letters in access exclusive mode;";
    Locks {
        upkeep: NO_UPKEEP.to_owned(),
        taken: format!("{LOCKS}{}", if events { ledgers } else { "" }),
    }
}

/// Changes one table, with all its partitions, as soon as nobody has to be waited for.
///
/// # Errors
/// What the server says; nothing is changed then.
pub async fn at_once(
    client: &mut Client,
    table: &str,
    queries: &[&str],
) -> Result<Vec<Duration>, Error> {
    // the checkpoints first, as flushes do; and the table's partitions together within half a
    // second, however many readers hold one of them
    let locks = Locks {
        upkeep: format!(
            "set local lock_timeout = '5s'; lock table {table} in share update exclusive mode;"
        ),
        taken: format!(
            "set local lock_timeout = '200ms';
             lock table clickstream_checkpoints in access exclusive mode;
             set local statement_timeout = '500ms';
             lock table {table} in access exclusive mode;
             set local statement_timeout = 0;"
        ),
    };
    patiently(client, Some(&locks), queries).await
}

/// All of it or nothing, tried again while somebody holds what is to be changed; how long each of
/// the queries took.
async fn patiently(
    client: &mut Client,
    locks: Option<&Locks>,
    queries: &[&str],
) -> Result<Vec<Duration>, Error> {
    let begin = Instant::now();
    loop {
        match attempt(client, locks, queries).await {
            Err(error) if is_held(&error) && begin.elapsed() < PATIENCE => {
                info!("somebody reads for long what is to be changed: trying again");
                sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// Whether a lock did not come in time, alone or together with others.
fn is_held(error: &Error) -> bool {
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED]
        .iter()
        .any(|state| error.code() == Some(state))
}

/// All of it or nothing; how long each of them took.
async fn attempt(
    client: &mut Client,
    locks: Option<&Locks>,
    queries: &[&str],
) -> Result<Vec<Duration>, Error> {
    if let Some(locks) = locks {
        let transaction = client.transaction().await?;
        transaction.batch_execute(&locks.upkeep).await?;
        transaction.commit().await?;
    }
    let transaction = client.transaction().await?;
    if let Some(locks) = locks {
        transaction.batch_execute(&locks.taken).await?;
    }
    let mut took = Vec::with_capacity(queries.len());
    for query in queries {
        let begin = Instant::now();
        transaction.batch_execute(query).await?;
        took.push(begin.elapsed());
    }
    transaction.commit().await?;
    Ok(took)
}
