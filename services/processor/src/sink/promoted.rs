//! Promoted columns: keys of events that the spec gives columns of their own. They come behind the
//! columns that every schema has, in COPY, in both INSERTs and in what an audit reads, and their
//! names are quoted everywhere.

use clickstream_pipeline::decode::columns::{ColumnType, ColumnValue, PromotedColumn};
use tokio_postgres::{Client, Error, types::ToSql};

use super::{
    columns::{Array, Entry, Table},
    copy::Binary,
    rows::Timestamptz,
};
use crate::migrate::quoted;

/// Names of columns for a list in SQL, each with a comma in front.
pub fn names_behind<'c>(columns: impl IntoIterator<Item = &'c PromotedColumn>) -> String {
    let columns = columns.into_iter();
    columns
        .map(|column| format!(", {}", quoted(&column.name)))
        .collect()
}

/// Appends an event's values to its row of a COPY stream.
pub fn append(entry: &Entry<'_>, columns: &[PromotedColumn], out: &mut Vec<u8>) {
    for at in 0..columns.len() {
        match entry.column(at) {
            None => None::<i64>.put(out),
            Some(ColumnValue::Text(text)) => (&*text).put(out),
            Some(ColumnValue::Integer(number)) => number.put(out),
            Some(ColumnValue::Number(number)) => number.get().put(out),
            Some(ColumnValue::Boolean(truth)) => truth.put(out),
            Some(ColumnValue::Timestamp(time)) => Timestamptz(time).put(out),
        }
    }
}

/// One parameter for each column, of many events.
pub fn arrays<'a>(
    columns: &[PromotedColumn],
    entries: &[Entry<'a>],
) -> impl Iterator<Item = Array<'a>> {
    columns.iter().enumerate().map(|(at, column)| {
        let array: Array<'a> = match column.r#type {
            ColumnType::Text => values(entries, at, |value| match value {
                ColumnValue::Text(text) => Some(text),
                _ => None,
            }),
            ColumnType::Integer => values(entries, at, |value| match value {
                ColumnValue::Integer(number) => Some(number),
                _ => None,
            }),
            ColumnType::Number => values(entries, at, |value| match value {
                ColumnValue::Number(number) => Some(number.get()),
                _ => None,
            }),
            ColumnType::Boolean => values(entries, at, |value| match value {
                ColumnValue::Boolean(truth) => Some(truth),
                _ => None,
            }),
            ColumnType::Timestamp => values(entries, at, |value| match value {
                ColumnValue::Timestamp(time) => Some(Timestamptz(time)),
                _ => None,
            }),
        };
        array
    })
}

fn values<'a, T: ToSql + Sync + Send + 'a>(
    entries: &[Entry<'a>],
    at: usize,
    of: impl Fn(ColumnValue<'a>) -> Option<T>,
) -> Array<'a> {
    let values = entries.iter().map(|entry| entry.column(at).and_then(&of));
    Box::new(values.collect::<Vec<Option<T>>>())
}

/// Why a table cannot hold what the spec promotes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The column is not there.
    #[error(
        "{table} has no column \"{name}\": {} of the same pipeline",
        clickstream_protocol::exit::MIGRATE
    )]
    Missing {
        /// Table.
        table: &'static str,
        /// Column.
        name: String,
    },
    /// It holds something else.
    #[error(
        "column \"{name}\" of {table} is of type {found}, and spec.events.columns wants {wanted}: choose another name or type \
         there, or rename the column: alter table {table} rename column {} to ..", quoted(.name)
    )]
    OtherType {
        /// Table.
        table: &'static str,
        /// Column.
        name: String,
        /// Type that it has.
        found: String,
        /// Type that it should have.
        wanted: &'static str,
    },
    /// It takes no null.
    #[error(
        "column \"{name}\" of {table} takes no null, and most events have no value for it: \
         alter table {table} alter column {} drop not null", quoted(.name)
    )]
    NotNull {
        /// Table.
        table: &'static str,
        /// Column.
        name: String,
    },
    /// The server fills it.
    #[error(
        "column \"{name}\" of {table} is generated, so nothing can be written to it: choose another name in spec.events.columns"
    )]
    Generated {
        /// Table.
        table: &'static str,
        /// Column.
        name: String,
    },
    /// The role may not write it.
    #[error("the role may not write column \"{name}\" of {table}: grant insert on {table} to it")]
    Closed {
        /// Table.
        table: &'static str,
        /// Column.
        name: String,
    },
}

impl Unfit {
    /// Whether the column is only to be added.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// What stands in the way of writing these columns, in their order; nothing where all are there as
/// they should be.
///
/// # Errors
/// What the server says.
pub async fn unfit(client: &Client, columns: &[PromotedColumn]) -> Result<Vec<Unfit>, Error> {
    let mut unfit = Vec::new();
    if columns.is_empty() {
        return Ok(unfit);
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    for table in [Table::Events, Table::Late].map(Table::name) {
        let rows = client
            .query(
                "select attributes.attname::text, format_type(attributes.atttypid, attributes.atttypmod),
                     attributes.attnotnull, attributes.attgenerated <> '' or attributes.attidentity <> '',
                     has_column_privilege(attributes.attrelid, attributes.attnum, 'insert')
                 from pg_attribute as attributes
                 where attributes.attrelid = $1::text::regclass and attributes.attname = any ($2::text[])
                   and not attributes.attisdropped",
                &[&table, &names],
            )
            .await?;
        for column in columns {
            let row = rows.iter().find(|row| row.get::<_, &str>(0) == column.name);
            let name = || column.name.clone();
            let Some(row) = row else {
                unfit.push(Unfit::Missing {
                    table,
                    name: name(),
                });
                continue;
            };
            let (found, wanted): (&str, _) = (row.get(1), column.r#type.sql());
            if row.get(3) {
                unfit.push(Unfit::Generated {
                    table,
                    name: name(),
                });
            } else if found != wanted {
                unfit.push(Unfit::OtherType {
                    table,
                    name: name(),
                    found: found.to_owned(),
                    wanted,
                });
            } else if row.get(2) {
                unfit.push(Unfit::NotNull {
                    table,
                    name: name(),
                });
            } else if !row.get::<_, bool>(4) {
                unfit.push(Unfit::Closed {
                    table,
                    name: name(),
                });
            }
        }
    }
    Ok(unfit)
}
