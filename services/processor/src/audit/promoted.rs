//! Promoted columns: what they must hold by the rules at a record's offset, from the record alone.
//!
//! A column is compared where the rules name it. Elsewhere (before it was promoted, and after) what
//! it holds is nobody's claim: people fill it from `properties`, say. And keys of properties that
//! should be listed.

use std::collections::{BTreeMap, BTreeSet};

use clickstream_pipeline::{
    decode::{
        columns::{ColumnType, ColumnValue, PromotedColumn},
        properties::ListedKey,
    },
    event::Event,
};
use tokio_postgres::{Client, Error, Row};

use super::column::Instant;
use crate::{migrate::quoted, sink::columns::Table};

/// Keys that are named in a note; the others are counted.
const NAMED_KEYS: usize = 10;

/// The columns of both tables as they are now: by table and name their types.
#[derive(Debug, Default)]
pub struct TableColumns(BTreeMap<(&'static str, String), String>);

/// A promoted column that can be compared.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Its place among the columns of the rules, and so of the event.
    at: usize,
    column: PromotedColumn,
}

impl TableColumns {
    /// Reads them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let mut columns = BTreeMap::new();
        for table in [Table::Events, Table::Late].map(Table::name) {
            let rows = client
                .query(
                    "select attname::text, format_type(atttypid, atttypmod) from pg_attribute
                     where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
                    &[&table],
                )
                .await?;
            let rows = rows.iter().map(|row| ((table, row.get(0)), row.get(1)));
            columns.extend(rows);
        }
        Ok(Self(columns))
    }

    /// The columns of these rules that both tables have as the rules say.
    pub fn compared(&self, rules: &[PromotedColumn]) -> Vec<Compared> {
        let rules = rules.iter().enumerate();
        let rules = rules.filter(|(_, column)| self.has(column));
        rules
            .map(|(at, column)| Compared {
                at,
                column: column.clone(),
            })
            .collect()
    }

    /// Whether both tables have a column, with its type.
    pub fn has(&self, column: &PromotedColumn) -> bool {
        [Table::Events, Table::Late]
            .map(Table::name)
            .iter()
            .all(|table| {
                let found = self.0.get(&(*table, column.name.clone()));
                found.is_some_and(|found| found == column.r#type.sql())
            })
    }
}

/// Names of these columns for a list in SQL, each with a comma in front.
pub fn names_behind(columns: &[Compared]) -> String {
    let names = columns.iter().map(|compared| &compared.column.name);
    names.map(|name| format!(", {}", quoted(name))).collect()
}

/// The columns of a row that do not hold what the event holds.
///
/// # Errors
/// A column of another type.
pub fn differing(row: &Row, columns: &[Compared], event: &Event<'_>) -> Result<Vec<String>, Error> {
    let mut differing = Vec::new();
    for Compared { at, column } in columns {
        let promoted = event.columns.get(*at);
        let value = promoted.and_then(|promoted| promoted.value.as_ref());
        if !holds(row, column, value)? {
            differing.push(column.name.clone());
        }
    }
    Ok(differing)
}

fn holds(
    row: &Row,
    column: &PromotedColumn,
    value: Option<&ColumnValue<'_>>,
) -> Result<bool, Error> {
    let name = column.name.as_str();
    Ok(match column.r#type {
        ColumnType::Text => {
            let stored: Option<&str> = row.try_get(name)?;
            let text = value.map(|value| match value {
                ColumnValue::Text(text) => Some(&**text),
                _ => None,
            });
            stored.map(Some) == text
        }
        ColumnType::Integer => {
            let stored: Option<i64> = row.try_get(name)?;
            stored.map(ColumnValue::Integer).as_ref() == value
        }
        ColumnType::Number => {
            let stored: Option<f64> = row.try_get(name)?;
            let number = value.map(|value| match value {
                // to the bit: a zero with a sign is another one
                ColumnValue::Number(number) => Some(number.get().to_bits()),
                _ => None,
            });
            stored.map(|stored| Some(stored.to_bits())) == number
        }
        ColumnType::Boolean => {
            let stored: Option<bool> = row.try_get(name)?;
            stored.map(ColumnValue::Boolean).as_ref() == value
        }
        ColumnType::Timestamp => {
            let stored: Option<Instant> = row.try_get(name)?;
            stored
                .map(|stored| ColumnValue::Timestamp(stored.0))
                .as_ref()
                == value
        }
    })
}

/// What is to be said of keys of properties that are not listed. It is no difference: a release
/// that keeps no list may have stored them, and people may take keys off it.
pub fn unlisted(keys: &BTreeSet<&ListedKey>) -> Option<String> {
    let named = keys.iter().take(NAMED_KEYS);
    let named: Vec<String> = named.map(|(key, kind)| format!("{key} ({kind})")).collect();
    (!named.is_empty()).then(|| {
        format!(
            "clickstream_property_keys lacks {} keys that properties have: {}{}",
            keys.len(),
            named.join(", "),
            if keys.len() > named.len() { ", .." } else { "" }
        )
    })
}
