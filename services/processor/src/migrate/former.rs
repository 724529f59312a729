//! Roles that were taken off the lists of readers. Who was on them stands in PostgreSQL's own lists
//! of rights: a role that is named gets `REFERENCES` on the views besides, a right that allows
//! nothing on a view. So a role that somebody has granted `SELECT` by hand is told from one that
//! the spec has named.

use tokio_postgres::Client;
use tracing::info;

use super::{
    grants::{take_tables, views},
    quoted,
};

/// Marks a role as one that the spec names.
pub async fn mark(client: &Client, views: &str, reader: &str) -> Result<(), tokio_postgres::Error> {
    let role = quoted(reader);
    client
        .batch_execute(&format!("grant references on {views} to {role}"))
        .await
}

/// Takes from every role that was named, and is not among `named`, what it could read. The names of
/// these roles.
pub async fn take_back(
    client: &mut Client,
    schema: &str,
    named: &[&str],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = client
        .query(
            "select distinct reader.rolname
             from pg_class as relations, aclexplode(relations.relacl) as granted
                 join pg_roles as reader on reader.oid = granted.grantee
             where relations.relnamespace = $1::text::regnamespace and relations.relkind = 'v'
               and relations.relname like 'clickstream\\_%'
               and granted.privilege_type = 'REFERENCES' and granted.grantor = relations.relowner
               and granted.grantee <> relations.relowner
               and reader.rolname <> all ($2)
             order by reader.rolname",
            &[&schema, &named],
        )
        .await?;
    let former: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for reader in &former {
        let role = quoted(reader);
        let tables = take_tables(client, schema, reader).await?;
        let views = views(client, schema).await?;
        // the mark goes last: whatever fails before is done by the next migration
        client
            .batch_execute(&format!(
                "revoke select, references on {views} from {role} cascade"
            ))
            .await?;
        if has_nothing_else(client, schema, reader).await? {
            client
                .batch_execute(&format!(
                    "revoke usage on schema {schema} from {role} cascade"
                ))
                .await?;
        }
        info!(
            reader,
            tables, "the role is no reader any more: took its rights"
        );
    }
    Ok(former)
}

/// Whether nothing in the schema is granted to a role by name.
async fn has_nothing_else(
    client: &Client,
    schema: &str,
    reader: &str,
) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(
            "select not exists (
                 select from pg_class as relations, aclexplode(relations.relacl) as granted
                 where relations.relnamespace = $1::text::regnamespace and granted.grantee = reader.oid
             ) and not exists (
                 select from pg_class as relations
                     join pg_attribute as columns on columns.attrelid = relations.oid,
                     aclexplode(columns.attacl) as granted
                 where relations.relnamespace = $1::text::regnamespace and granted.grantee = reader.oid
             ) and not exists (
                 select from pg_proc as functions, aclexplode(functions.proacl) as granted
                 where functions.pronamespace = $1::text::regnamespace and granted.grantee = reader.oid
             )
             from pg_roles as reader where reader.rolname = $2",
            &[&schema, &reader],
        )
        .await?;
    Ok(row.get(0))
}
