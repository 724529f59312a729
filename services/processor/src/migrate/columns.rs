//! Promoted columns (`spec.events.columns`): a migration adds those that are not there, before
//! processors write them.
//!
//! One column at a time, in a moment of its own, as what goes ahead of migrations is: it may be
//! null and has no default, so that it changes the catalog and no row. A column that is there
//! already is taken as it is where its type fits, and otherwise nothing is changed. None is ever
//! dropped.

use anyhow::{Context, bail};
use clickstream_pipeline::decode::columns::PromotedColumn;
use tokio::time::sleep;
use tokio_postgres::Client;
use tracing::info;

use super::{prompt::at_once, quoted};
use crate::sink::{
    columns::Table,
    promoted::{Unfit, unfit},
};

/// Adds what is missing, and says on each column where its values come from.
///
/// # Errors
/// A column that is there and does not fit, before anything is changed; or what the server says.
pub async fn add(client: &mut Client, columns: &[PromotedColumn]) -> anyhow::Result<()> {
    let found = unfit(client, columns)
        .await
        .context("reading the columns of events")?;
    // the writer's rights are granted afterwards, and the owner of the tables has all
    let is_in_the_way =
        |unfit: &&Unfit| !matches!(unfit, Unfit::Missing { .. } | Unfit::Closed { .. });
    if let Some(unfit) = found.iter().find(is_in_the_way) {
        bail!("{unfit}; nothing was changed");
    }
    for table in [Table::Events, Table::Late].map(Table::name) {
        for column in columns {
            let is_missing = found.iter().any(|unfit| {
                matches!(unfit, Unfit::Missing { table: of, name } if *of == table && *name == column.name)
            });
            let told = comment(table, column);
            if !is_missing && is_told(client, table, column).await? {
                continue;
            }
            let mut statements = vec![told.as_str()];
            let added = format!(
                "alter table {table} add column if not exists {} {}",
                quoted(&column.name),
                column.r#type.sql()
            );
            if is_missing {
                statements.insert(0, &added);
            }
            let took = at_once(client, table, &statements)
                .await
                .with_context(|| format!("adding column \"{}\" to {table}", column.name))?;
            if is_missing {
                info!(table, column = column.name, "added a promoted column");
            }
            // flushes go on for as long as they waited
            sleep(took.iter().sum()).await;
        }
    }
    Ok(())
}

/// What a column says about itself.
fn origin(column: &PromotedColumn) -> String {
    format!(
        "What the event has at {} (spec.events.columns); null where it has nothing of this type there, or was stored before.",
        column.pointer
    )
}

fn comment(table: &str, column: &PromotedColumn) -> String {
    let told = origin(column).replace('\'', "''");
    // a backslash means itself between these quotes, whatever the session's settings are
    format!(
        "set local standard_conforming_strings = on; comment on column {table}.{} is '{told}'",
        quoted(&column.name)
    )
}

async fn is_told(
    client: &Client,
    table: &str,
    column: &PromotedColumn,
) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(
            "select coalesce(bool_or(col_description(attrelid, attnum) = $3), false)
             from pg_attribute where attrelid = $1::text::regclass and attname = $2 and not attisdropped",
            &[&table, &column.name, &origin(column)],
        )
        .await?;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::decode::columns::ColumnType;

    use super::*;

    #[test]
    fn a_comment_holds_any_pointer_as_it_is() {
        let column = PromotedColumn {
            name: "select".to_owned(),
            pointer: "/it's \\\"/~1".to_owned(),
            r#type: ColumnType::Text,
        };
        let sql = comment("clickstream_events", &column);
        assert!(
            sql.contains(r#"clickstream_events."select" is 'What the event has at /it''s \"/~1 ("#),
            "{sql}"
        );
    }
}
