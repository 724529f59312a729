//! `clickstream-processor drop`: the end of a target's tables.

use anyhow::{Context, bail};
use clickstream_pipeline::spec::{Secrets, TargetSpec};
use tokio_postgres::Client;
use tracing::info;

use crate::{
    migrate::{quoted, schema_version},
    sink::{self, Owner, check_owner},
};

/// The version of the schema from which on sessions are known by keys, also to roles that may not
/// see when they began.
const SESSION_KEYS: i32 = 4;

/// Days dropped in one transaction: each takes some four locks, of the 6,400 that a server with its
/// defaults has.
const DAYS_AT_ONCE: i64 = 100;

/// Views and tables of other people that "cascade" would take along, or take a foreign key from.
const DEPENDENTS: &str = "
    with ours as (
        select oid from pg_class where relnamespace = $1::text::regnamespace and relname like 'clickstream\\_%'
    ), dependents as (
        select rules.ev_class as oid
        from pg_depend as found
        join pg_rewrite as rules on found.classid = 'pg_rewrite'::regclass and rules.oid = found.objid
        where found.refclassid = 'pg_class'::regclass and found.refobjid in (select oid from ours)
           or found.refclassid = 'pg_proc'::regclass and found.refobjid in (
               select oid from pg_proc where pronamespace = $1::text::regnamespace and proname like 'clickstream\\_%')
        union
        select conrelid from pg_constraint where contype = 'f' and confrelid in (select oid from ours)
    )
    select oid::regclass::text from dependents where oid not in (select oid from ours) order by 1 limit 20";

/// Drops every relation and function whose name begins with `clickstream_`, and the schema when
/// nothing else is in it. A schema that is not there, or holds none of our tables, is left as it
/// is.
///
/// # Errors
/// Another pipeline's schema, a processor that still writes, somebody else's view on the tables, or
/// what the server says; nothing was dropped then, but perhaps days, of which the next attempt
/// drops the rest.
pub async fn drop(owner: &Owner, target: &TargetSpec, secrets: &dyn Secrets) -> anyhow::Result<()> {
    let settings = target.migration_settings(secrets)?;
    let schema = &target.schema;
    let mut connection = sink::connect(&settings, schema, "clickstream-drop").await?;
    let client = &mut connection.client;
    let Some(version) = schema_version(client).await? else {
        info!(schema, "no tables are there");
        return Ok(());
    };
    let row = client
        .query_one("select owner, cluster from clickstream_schema", &[])
        .await?;
    check_owner(schema, row.get(0), row.get(1), owner)?;
    let tx = client.transaction().await?;
    // a processor's session keeps its tables locked only while it writes; one that lives is asked
    // for by name
    let by_key = if version >= SESSION_KEYS {
        "or session_key in (select clickstream_live_sessions())"
    } else {
        ""
    };
    let writing: i64 = tx
        .query_one(
            &format!(
                "select count(*) from clickstream_checkpoints as points
                 where exists (
                     select from pg_stat_activity as backends
                     where backends.pid = points.backend_pid and backends.backend_start = points.backend_start
                 ) {by_key}"
            ),
            &[],
        )
        .await?
        .get(0);
    if writing > 0 {
        bail!(
            "schema \"{schema}\": processors still hold {writing} partitions: stop them first; nothing was dropped"
        );
    }
    let others: Vec<String> = tx
        .query(DEPENDENTS, &[&quoted(schema)])
        .await
        .context("looking for what depends on the tables")?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if !others.is_empty() {
        bail!(
            "schema \"{schema}\": {} depend on these tables and would go with them: drop them first; nothing was dropped",
            others.join(", ")
        );
    }
    tx.commit().await?;
    drop_days(client).await.context("dropping days")?;
    let tx = client.transaction().await?;
    tx.batch_execute("set local lock_timeout = '10s'").await?;
    let statements = tx
        .query(
            "select format('drop %s if exists %s cascade', case relkind when 'v' then 'view' else 'table' end, oid::regclass)
             from pg_class
             where relnamespace = $1::text::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
               and relname like 'clickstream\\_%'
             union all
             select format('drop function if exists %s cascade', oid::regprocedure)
             from pg_proc where pronamespace = $1::text::regnamespace and proname like 'clickstream\\_%'",
            &[&quoted(schema)],
        )
        .await
        .context("listing the tables")?;
    for row in &statements {
        tx.batch_execute(row.get(0)).await.context("dropping")?;
    }
    let is_empty: bool = tx
        .query_one(
            "select not exists (select from pg_class where relnamespace = $1::text::regnamespace)
                and not exists (select from pg_proc where pronamespace = $1::text::regnamespace)
                and pg_has_role(nspowner, 'usage') and nspname <> 'public'
             from pg_namespace where oid = $1::text::regnamespace",
            &[&quoted(schema)],
        )
        .await?
        .get(0);
    if is_empty {
        tx.batch_execute(&format!("drop schema {}", quoted(schema)))
            .await
            .context("dropping the schema")?;
    }
    tx.commit().await?;
    info!(schema, relations = statements.len(), "tables dropped");
    Ok(())
}

/// Drops the partitions of days, a hundred at a time: years of them do not fit the server's table
/// of locks.
async fn drop_days(client: &mut Client) -> Result<(), tokio_postgres::Error> {
    loop {
        let tx = client.transaction().await?;
        tx.batch_execute("set local lock_timeout = '10s'").await?;
        let days = tx
            .query(
                "select format('drop table %s', child.oid::regclass)
                 from pg_inherits join pg_class as child on child.oid = inhrelid
                 where inhparent = 'clickstream_events'::regclass and child.relname ~ '^clickstream_events_[0-9]{8}$'
                 order by child.relname limit $1",
                &[&DAYS_AT_ONCE],
            )
            .await?;
        for day in &days {
            tx.batch_execute(day.get(0)).await?;
        }
        tx.commit().await?;
        if days.is_empty() {
            return Ok(());
        }
    }
}
