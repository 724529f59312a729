//! Who may do what: the writer, and the roles that the spec lets read.

use anyhow::Context;
use clickstream_pipeline::spec::TargetSpec;
use clickstream_protocol::migration::MissingReader;
use tokio_postgres::Client;
use tracing::{info, warn};

use super::{former, quoted};

/// Relations of which a right is taken away in one transaction: a server may lock each of them, and
/// its table of locks is for everybody.
const AT_ONCE: i64 = 100;

/// Grants the writer what it needs when it is not the owner, and brings the rights of the readers
/// that exist to what the spec says: SELECT on the views, and with `rawReaders` on the tables. A
/// role that was named before and is not any more loses both; one that never was keeps what it has.
pub async fn grant(
    client: &mut Client,
    target: &TargetSpec,
    owner: &str,
    writer: &str,
) -> anyhow::Result<Vec<MissingReader>> {
    let schema = quoted(&target.schema);
    if writer != owner {
        let writer = quoted(writer);
        client
            .batch_execute(&format!(
                "grant usage on schema {schema} to {writer};
                 grant select, insert, update, delete on all tables in schema {schema} to {writer};
                 grant execute on all functions in schema {schema} to {writer}"
            ))
            .await
            .context("granting rights to the writer")?;
    }
    let everything = format!("all tables in schema {schema}");
    let views = views(client, &schema).await?;
    let mut missing: Vec<MissingReader> = Vec::new();
    let mut told = [false; 2];
    let plain = target.readers.iter().map(|role| (role, false));
    let raw = target.raw_readers.iter().map(|role| (role, true));
    for (reader, raw) in plain.chain(raw) {
        if reader == writer || reader == owner {
            warn!(
                reader,
                "the role has its rights as owner or writer of the tables; they stay as they are"
            );
            continue;
        }
        let there: bool = client
            .query_one(
                "select exists (select from pg_roles where rolname = $1)",
                &[reader],
            )
            .await?
            .get(0);
        let role = quoted(reader);
        let what = if raw { &everything } else { &views };
        let sql =
            format!("grant usage on schema {schema} to {role}; grant select on {what} to {role}");
        if !there {
            warn!(
                reader,
                "reader role does not exist, nothing was granted; create it and run: {sql}"
            );
            missing.push(MissingReader {
                role: reader.clone(),
                sql: match std::mem::replace(&mut told[usize::from(raw)], true) {
                    false => sql,
                    true => String::new(),
                },
            });
            continue;
        }
        client
            .batch_execute(&sql)
            .await
            .with_context(|| format!("granting rights to reader {reader}"))?;
        former::mark(client, &views, reader)
            .await
            .with_context(|| format!("marking reader {reader}"))?;
        if !raw {
            let taken = take_tables(client, &schema, reader)
                .await
                .with_context(|| format!("taking the tables from reader {reader}"))?;
            if taken > 0 {
                info!(
                    reader,
                    tables = taken,
                    "took the right to read tables from a reader of views"
                );
            }
            if reads_tables(client, reader).await? {
                warn!(
                    reader,
                    "the role is to read views only and can read tables all the same: as a member of another role, by a grant \
                     to PUBLIC or by somebody other than the owner, or as a superuser"
                );
            }
        }
    }
    let listed = target.readers.iter().chain(&target.raw_readers);
    let mut named: Vec<&str> = listed.map(String::as_str).collect();
    named.extend([owner, writer]);
    former::take_back(client, &schema, &named)
        .await
        .context("taking rights from roles that are no readers any more")?;
    Ok(missing)
}

/// The project's views, as GRANT takes them.
pub async fn views(client: &Client, schema: &str) -> Result<String, tokio_postgres::Error> {
    let rows = client
        .query(
            "select relname from pg_class
             where relnamespace = $1::text::regnamespace and relkind = 'v' and relname like 'clickstream\\_%'
             order by relname",
            &[&schema],
        )
        .await?;
    let views: Vec<String> = rows
        .iter()
        .map(|row| format!("{schema}.{}", quoted(row.get(0))))
        .collect();
    Ok(views.join(", "))
}

/// Takes SELECT on the project's tables from a role. How many tables that were.
pub async fn take_tables(
    client: &mut Client,
    schema: &str,
    reader: &str,
) -> Result<usize, tokio_postgres::Error> {
    let role = quoted(reader);
    let mut taken = 0;
    // made first, the table of all days comes before the days
    let mut last = 0_u32;
    loop {
        let tx = client.transaction().await?;
        // a day that is being made takes over the rights on the table of all days: it is there
        // before this, or begins after
        tx.execute(
            "select pg_advisory_xact_lock(hashtext('clickstream maintenance'), hashtext(current_schema()))",
            &[],
        )
        .await?;
        let tables = tx
            .query(
                "select relations.relname, relations.oid
                 from pg_class as relations join pg_roles as reader on reader.rolname = $2
                 where relations.relnamespace = $1::text::regnamespace and relations.relkind in ('r', 'p')
                   and relations.relname like 'clickstream\\_%'
                   and relations.oid > $4
                   and relations.relowner = (select relowner from pg_class where oid = 'clickstream_events'::regclass)
                   and (exists (
                       select from aclexplode(relations.relacl) as granted
                       where granted.grantee = reader.oid and granted.grantor = relations.relowner
                         and granted.privilege_type = 'SELECT'
                   ) or exists (
                       select from pg_attribute as columns, aclexplode(columns.attacl) as granted
                       where columns.attrelid = relations.oid
                         and granted.grantee = reader.oid and granted.grantor = relations.relowner
                         and granted.privilege_type = 'SELECT'
                   ))
                 order by relations.oid limit $3",
                &[&schema, &reader, &AT_ONCE, &last],
            )
            .await?;
        let names: Vec<String> = tables
            .iter()
            .map(|row| format!("{schema}.{}", quoted(row.get(0))))
            .collect();
        let Some(newest) = tables.last() else {
            return Ok(taken);
        };
        last = newest.get(1);
        tx.batch_execute(&format!(
            "revoke select on {} from {role} cascade",
            names.join(", ")
        ))
        .await?;
        tx.commit().await?;
        taken += names.len();
    }
}

/// Whether a role can read the events or what was refused, by whatever way.
async fn reads_tables(client: &Client, reader: &str) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(
            "select bool_or(has_table_privilege($1::text::name, oid, 'SELECT'))
             from pg_class
             where oid in ('clickstream_events'::regclass, 'clickstream_late_events'::regclass, 'clickstream_dead_letters'::regclass)",
            &[&reader],
        )
        .await?;
    Ok(row.get(0))
}
