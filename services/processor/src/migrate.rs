//! `clickstream-processor migrate`: brings a target's schema to this binary's version.

mod ahead;
mod columns;
mod former;
mod grants;
mod migrations;
mod prompt;
mod take_over;

use std::time::Duration;

use anyhow::{Context, bail};
use clickstream_pipeline::spec::{Secrets, SemanticSpec, TargetSpec};
use clickstream_protocol::migration::{MigrationReport, ReportedTopic};
use tokio::time::sleep;
use tokio_postgres::Client;
use tracing::{info, warn};

pub use self::take_over::Predecessors;
use self::{grants::grant, take_over::take_over};
use crate::sink::{self, Owner, check_owner, check_windows, consumer_group, is_missing};

/// Where applied migrations are noted.
const HISTORY: &str = "clickstream_migrations";

/// How soon the lock of migrations is asked for again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// What the statistics of one table may take after a migration, in seconds.
const ANALYZE_SECONDS: u32 = 60;

/// The newest version that this binary knows.
pub fn known_version() -> i32 {
    migrations::all()
        .iter()
        .map(refinery_core::Migration::version)
        .max()
        .unwrap_or(0)
}

/// The version of the schema that the session's search_path names; `None` where no migration has
/// run.
///
/// # Errors
/// What the server says.
pub async fn schema_version(client: &Client) -> Result<Option<i32>, tokio_postgres::Error> {
    match client
        .query_one(&format!("select max(version)::int from {HISTORY}"), &[])
        .await
    {
        Ok(row) => Ok(row.get(0)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the schema if it is missing, applies what is missing, and grants rights to writer and
/// readers. Runs under an advisory lock, so that several at once do no harm; a schema that is up to
/// date is left untouched. One that belongs to a predecessor becomes `owner`'s.
///
/// # Errors
/// Another pipeline's schema, one that holds windows of another size, one that is newer than this
/// binary, or what the server says; nothing was changed then.
pub async fn migrate(
    owner: &Owner,
    semantic: &SemanticSpec,
    target: &TargetSpec,
    secrets: &dyn Secrets,
    predecessors: &Predecessors,
) -> anyhow::Result<MigrationReport> {
    let settings = target.migration_settings(secrets)?;
    let writer = target.connection_settings(secrets)?.user;
    let schema = &target.schema;
    let mut connection = sink::connect(&settings, schema, "clickstream-migrate").await?;
    // the lock below belongs to a session
    sink::require_own_session(&connection, &settings, schema, "clickstream-migrate").await?;
    let client = &mut connection.client;
    wait_for_others(client, schema)
        .await
        .context("waiting for another migration")?;

    let before = schema_version(client)
        .await
        .context("reading the schema's version")?;
    let known = known_version();
    let mut predecessor = None;
    if let Some(found) = before {
        let row = client
            .query_one(
                "select owner, cluster, writable_from from clickstream_schema",
                &[],
            )
            .await?;
        predecessor = row.get::<_, Option<String>>(0).map(|pipeline| Owner {
            pipeline,
            cluster: row.get::<_, Option<String>>(1).unwrap_or_default(),
        });
        predecessor = predecessor.filter(|stored| predecessors.name(stored, owner));
        if predecessor.is_none() {
            check_owner(schema, row.get(0), row.get(1), owner)?;
        }
        // no processor would start with them
        check_windows(client, schema, semantic).await?;
        let needed: i32 = row.get(2);
        if needed > known {
            bail!(
                "schema \"{schema}\" is at version {found} and can only be written by binaries that know version {needed} (this one knows {known}): use a newer image; nothing was changed"
            );
        }
    }
    create_schema(client, schema).await?;
    let applied = if before > Some(known) {
        // migrations only add: a binary of the release before works on, after a rollback too
        info!(
            schema,
            version = before,
            known,
            "schema is newer than this binary and can be written by it; left as it is"
        );
        0
    } else {
        if let Some(before) = before {
            ahead::steps(client, before)
                .await
                .context("going ahead of migrations")?;
        }
        apply(client).await?
    };
    columns::add(client, &semantic.events.columns).await?;
    if let Some(stored) = predecessor {
        take_over(client, schema, &stored, owner).await?;
    }
    let missing_readers = grant(client, target, &settings.user, &writer).await?;
    if before.is_some() && applied > 0 {
        analyze(client).await;
    }
    info!(
        schema,
        version = before.unwrap_or(known).max(known),
        applied,
        readers = target.readers.len() + target.raw_readers.len() - missing_readers.len(),
        "schema is up to date"
    );
    Ok(MigrationReport {
        schema_version: Some(before.unwrap_or(known).max(known)),
        consumer_group: Some(consumer_group(client, owner, &target.name).await?),
        topics: topics(client, owner).await?,
        missing_readers,
    })
}

/// Takes the lock that lets one session migrate; it is held until the session ends. Asked for again
/// and again: a statement that waits would be waited for by the building of an index.
async fn wait_for_others(client: &Client, schema: &str) -> Result<(), tokio_postgres::Error> {
    let lock = "select pg_try_advisory_lock(hashtext('clickstream migrate'), hashtext($1))";
    while !client.query_one(lock, &[&schema]).await?.get::<_, bool>(0) {
        sleep(TRY_AGAIN).await;
    }
    Ok(())
}

/// Applies what is missing, all of it or nothing. How many migrations that were.
async fn apply(client: &mut Client) -> anyhow::Result<usize> {
    let mut runner = migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let mut session = prompt::Prompt::new(client);
    let report = runner
        .set_grouped(true)
        .run_async(&mut session)
        .await
        .context("applying migrations")?;
    for (migration, took) in report.applied_migrations().iter().zip(session.took()) {
        info!(
            seconds = (took.as_secs_f64() * 1_000.0).round() / 1_000.0,
            "migration {} applied: {}",
            migration.version(),
            migrations::brings(migration)
        );
    }
    Ok(report.applied_migrations().len())
}

/// The topics that the schema was filled from.
async fn topics(
    client: &Client,
    owner: &Owner,
) -> Result<Vec<ReportedTopic>, tokio_postgres::Error> {
    let rows = client
        .query(
            "select topic, kafka_topic_id, created_by is not distinct from $1 from clickstream_topics order by topic",
            &[&owner.pipeline],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| ReportedTopic {
            name: row.get(0),
            id: row.get(1),
            created: row.get(2),
        })
        .collect())
}

async fn create_schema(client: &Client, schema: &str) -> anyhow::Result<()> {
    let there: bool = client
        .query_one(
            "select exists (select from pg_namespace where nspname = $1)",
            &[&schema],
        )
        .await?
        .get(0);
    if !there {
        client
            .batch_execute(&format!("create schema {}", quoted(schema)))
            .await
            .with_context(|| format!("creating schema \"{schema}\": the role needs CREATE on the database, or create the schema for it"))?;
    }
    Ok(())
}

/// Statistics of the tables that a migration may have changed; a processor keeps up those of the
/// events. No upgrade fails for want of them, and none waits for them for long.
async fn analyze(client: &Client) {
    let tables = client
        .query(
            "select oid::regclass::text from pg_class
             where relnamespace = current_schema()::regnamespace and relkind = 'r' and not relispartition
               and relname like 'clickstream\\_%' and pg_has_role(relowner, 'usage')",
            &[],
        )
        .await;
    let statements = match &tables {
        Ok(rows) => rows
            .iter()
            .map(|row| format!("analyze (skip_locked) {}", row.get::<_, &str>(0)))
            .chain(["select clickstream_analyze_events()".to_owned()])
            .collect(),
        Err(error) => {
            warn!(error = %crate::retry::explain(error), "cannot list the tables to analyse");
            Vec::new()
        }
    };
    for statement in statements {
        // one at a time, each in a transaction of its own
        let done = async {
            client
                .batch_execute(&format!("set statement_timeout = '{ANALYZE_SECONDS}s'"))
                .await?;
            client.batch_execute(&statement).await
        };
        if let Err(error) = done.await {
            warn!(statement, error = %crate::retry::explain(&error), "statistics were left for later");
        }
    }
    if let Err(error) = client.batch_execute("set statement_timeout = 0").await {
        warn!(error = %crate::retry::explain(&error), "cannot set the session back");
    }
}

/// An identifier with its quotes doubled.
pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::migrations;

    /// The last version that was made before processors could be running.
    const FIRST_RELEASE: i32 = 3;

    /// How a migration begins that processors may meet at work. A flush takes its first lock on the
    /// checkpoints; whoever holds them alone meets no flush on any other table, where the two could
    /// wait for each other. And who waits for a long query makes everybody after him wait too, so
    /// not for long: the Job tries again.
    const BEGINNING: &str = "set local lock_timeout = '10s';\nlock table clickstream_checkpoints in access exclusive mode;\n";

    fn is_safe_under_load(version: i32, sql: &str) -> bool {
        version <= FIRST_RELEASE || sql.starts_with(BEGINNING)
    }

    #[test]
    fn migrations_under_load_begin_with_the_lock_that_flushes_take_first() {
        assert!(is_safe_under_load(4, &format!("{BEGINNING}alter table t;")));
        assert!(!is_safe_under_load(4, "alter table t;"));
        for migration in migrations::all() {
            assert!(
                is_safe_under_load(migration.version(), migration.sql().unwrap_or_default()),
                "{migration} begins otherwise than with\n{BEGINNING}"
            );
        }
    }
}
