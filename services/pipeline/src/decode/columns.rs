//! Keys of events that a spec promotes to columns of their own: what stands at a pointer, as a value
//! of the column's type.
//!
//! A value becomes one of the column's type where there is one way to read it, and null otherwise;
//! nothing here costs an event. What a column takes:
//!
//! | type        | taken                                                                          |
//! |-------------|--------------------------------------------------------------------------------|
//! | `Text`      | a text; a number, `true` or `false` as it is written; cut after 1,024 bytes     |
//! | `Integer`   | a number without fraction and exponent, in 64 bits; a text that is one          |
//! | `Number`    | a number that is finite in 64 bits; a text that is one                          |
//! | `Boolean`   | `true` and `false`; a text that is one of them                                  |
//! | `Timestamp` | what `event_ts` takes: a time of the years 2000 to 2099                         |

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::CleanReason;
use super::field::{is_number, plain};
use super::object::Seen;
use super::timestamp::{self, Unreadable};
use crate::event::EventTime;

/// Most columns of a spec.
pub const MAX_COLUMNS: usize = 32;
/// Longest name of a column, in bytes: PostgreSQL cuts longer ones.
pub const MAX_COLUMN_NAME_BYTES: usize = 63;
/// Longest text of a column, in bytes.
pub const MAX_COLUMN_TEXT_BYTES: usize = 1024;

/// A key of events that has a column of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromotedColumn {
    /// The column's name: 1 to 63 lower-case letters, digits and underscores, not beginning with a
    /// digit or with `clickstream_`, and none of the columns that the tables have anyhow. Live.
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "crate::spec::events::columns::schema::name")
    )]
    pub name: String,
    /// Where the value stands: a JSON pointer of at most 256 characters, as under `fields`. Live.
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "crate::spec::events::columns::schema::pointer")
    )]
    pub pointer: String,
    /// What the column holds. A value that is none of it becomes null, and is counted. Another type
    /// needs another name: the column that is there keeps its own. Live.
    pub r#type: ColumnType,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ColumnType {
    /// `text`: texts, and numbers and truth values as they are written; cut after 1,024 bytes.
    Text,
    /// `bigint`: whole numbers of 64 bits, also as texts.
    Integer,
    /// `double precision`: numbers, also as texts.
    Number,
    /// `boolean`: `true` and `false`, also as texts.
    Boolean,
    /// `timestamptz`: times of the years 2000 to 2099 (UTC), in any form that `event_ts` may have.
    Timestamp,
}

impl ColumnType {
    /// The type in SQL, as PostgreSQL writes it.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "bigint",
            Self::Number => "double precision",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp with time zone",
        }
    }
}

/// A 64-bit float that is neither infinite nor NaN.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Finite(f64);

// what is not NaN equals itself
impl Eq for Finite {}

impl Finite {
    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnValue<'a> {
    /// Of [`ColumnType::Text`], at most [`MAX_COLUMN_TEXT_BYTES`] long.
    Text(Cow<'a, str>),
    /// Of [`ColumnType::Integer`].
    Integer(i64),
    /// Of [`ColumnType::Number`].
    Number(Finite),
    /// Of [`ColumnType::Boolean`].
    Boolean(bool),
    /// Of [`ColumnType::Timestamp`].
    Timestamp(EventTime),
}

/// What became of one column of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promoted<'a> {
    /// The value; `None`: null.
    pub value: Option<ColumnValue<'a>>,
    /// Why it is not what the event says, if it is not.
    pub cleaned: Option<CleanReason>,
}

impl Promoted<'_> {
    /// The same without a borrow of the payload.
    #[must_use]
    pub fn into_owned(self) -> Promoted<'static> {
        let value = self.value.map(|value| match value {
            ColumnValue::Text(text) => ColumnValue::Text(Cow::Owned(text.into_owned())),
            ColumnValue::Integer(number) => ColumnValue::Integer(number),
            ColumnValue::Number(number) => ColumnValue::Number(number),
            ColumnValue::Boolean(truth) => ColumnValue::Boolean(truth),
            ColumnValue::Timestamp(time) => ColumnValue::Timestamp(time),
        });
        Promoted {
            value,
            cleaned: self.cleaned,
        }
    }
}

/// Makes what stands at a column's pointer a value of its type.
pub(super) fn promote<'a>(kind: ColumnType, seen: Seen<'a>) -> Promoted<'a> {
    let raw = match seen {
        Seen::Nothing => return Promoted::default(),
        Seen::Raw(raw) => raw,
        Seen::Twice => return unusable(CleanReason::RepeatedKey),
    };
    let read = match kind {
        ColumnType::Text => return text(raw),
        ColumnType::Integer => inside(raw).and_then(|raw| integer(&raw)),
        ColumnType::Number => inside(raw).and_then(|raw| number(&raw)),
        ColumnType::Boolean => inside(raw).and_then(|raw| boolean(&raw)),
        ColumnType::Timestamp => timestamp(raw),
    };
    read.map_or_else(unusable, |value| Promoted {
        value: Some(value),
        cleaned: None,
    })
}

fn unusable<'a>(reason: CleanReason) -> Promoted<'a> {
    Promoted {
        value: None,
        cleaned: Some(reason),
    }
}

fn text(raw: &str) -> Promoted<'_> {
    let text = match raw.as_bytes().first() {
        Some(b'"') => match plain(raw) {
            Ok(text) => text,
            Err(no_text) => return unusable(no_text.into()),
        },
        Some(b'{' | b'[') => return unusable(CleanReason::WrongType),
        _ => Cow::Borrowed(raw),
    };
    let end = text.floor_char_boundary(MAX_COLUMN_TEXT_BYTES);
    let cleaned = (end < text.len()).then_some(CleanReason::TooLong);
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    };
    Promoted {
        value: Some(ColumnValue::Text(text)),
        cleaned,
    }
}

/// A value as it is written, and a text without its quotes.
fn inside(raw: &str) -> Result<Cow<'_, str>, CleanReason> {
    if !raw.starts_with('"') {
        return Ok(Cow::Borrowed(raw));
    }
    match plain(raw)? {
        text if text.is_empty() => Err(CleanReason::Empty),
        text => Ok(text),
    }
}

fn integer(raw: &str) -> Result<ColumnValue<'static>, CleanReason> {
    if !is_json_number(raw) || raw.contains(['.', 'e', 'E']) {
        return Err(CleanReason::WrongType);
    }
    // digits alone are left, so that only their number can be wrong
    let number = raw.parse().map_err(|_| CleanReason::OutOfRange)?;
    Ok(ColumnValue::Integer(number))
}

fn number(raw: &str) -> Result<ColumnValue<'static>, CleanReason> {
    if !is_json_number(raw) {
        return Err(CleanReason::WrongType);
    }
    let number: f64 = raw.parse().map_err(|_| CleanReason::WrongType)?;
    if number.is_finite() {
        Ok(ColumnValue::Number(Finite(number)))
    } else {
        Err(CleanReason::OutOfRange)
    }
}

fn boolean(raw: &str) -> Result<ColumnValue<'static>, CleanReason> {
    match raw {
        "true" => Ok(ColumnValue::Boolean(true)),
        "false" => Ok(ColumnValue::Boolean(false)),
        _ => Err(CleanReason::WrongType),
    }
}

fn timestamp(raw: &str) -> Result<ColumnValue<'static>, CleanReason> {
    let read = if is_number(raw) {
        timestamp::from_number(raw)
    } else if raw.starts_with('"') {
        timestamp::from_text(inside(raw)?.as_bytes())
    } else {
        return Err(CleanReason::WrongType);
    };
    match read {
        Ok(time) => Ok(ColumnValue::Timestamp(time)),
        Err(Unreadable::Form(_)) => Err(CleanReason::WrongType),
        Err(Unreadable::OutOfRange) => Err(CleanReason::OutOfRange),
    }
}

/// Whether a text is a JSON number and nothing else, not even white space.
fn is_json_number(text: &str) -> bool {
    is_number(text)
        && serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len())
}

#[cfg(test)]
mod tests;
