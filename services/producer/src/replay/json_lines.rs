//! Reads click events from JSON lines whose fields have other names than ours.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Timelike};
use clickstream_pipeline::decode::Field;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Numbers below this are seconds since the epoch, others milliseconds: 1e11 seconds is the year 5138, and
/// 1e11 milliseconds is 1973.
const SECONDS_BELOW: u64 = 100_000_000_000;

/// Words that logs write where there is no referrer.
const NO_REFERRER: [&str; 4] = ["", "-", "direct", "(direct)"];

/// Which field of a line holds which field of the event: `event_ts=t,url=u,client=tz`.
///
/// Fields that are not named are looked for under their own names; `ip=` (nothing after the sign) leaves one
/// out. `client`, which may be named several times, adds to what tells clients apart where there is no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMap {
    names: [Option<String>; 8],
    client: Vec<String>,
}

/// A field map that says something else than `FIELD=NAME,...`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFieldMap {
    /// An item without an equals sign.
    #[error("`{0}` is not of the form FIELD=NAME, as in event_ts=t,url=u")]
    NoName(String),
    /// The left side is no field of an event.
    #[error(
        "`{0}` is no field: expected event_id, user_id, event_ts, url, referrer, ip, session_id, user_agent or client"
    )]
    UnknownField(String),
    /// A field is mapped twice.
    #[error("`{0}` is mapped twice")]
    Repeated(String),
}

impl Default for FieldMap {
    fn default() -> Self {
        Self {
            names: Field::ALL.map(|field| Some(field.as_str().to_owned())),
            client: Vec::new(),
        }
    }
}

impl FieldMap {
    fn name(&self, field: Field) -> Option<&str> {
        self.names[field as usize].as_deref()
    }
}

impl FromStr for FieldMap {
    type Err = InvalidFieldMap;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut map = Self::default();
        let mut mapped = Vec::new();
        for item in text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            let (field, name) = item
                .split_once('=')
                .ok_or_else(|| InvalidFieldMap::NoName(item.to_owned()))?;
            if field == "client" {
                map.client.push(name.to_owned());
                continue;
            }
            let known = Field::from_key(field)
                .ok_or_else(|| InvalidFieldMap::UnknownField(field.to_owned()))?;
            if mapped.contains(&known) {
                return Err(InvalidFieldMap::Repeated(field.to_owned()));
            }
            mapped.push(known);
            map.names[known as usize] = Some(name.to_owned()).filter(|name| !name.is_empty());
        }
        Ok(map)
    }
}

/// What a line tells about a click: JSON tokens as they stand in the line, so that nothing is repaired on the
/// way and the decoder judges what the log really says.
#[derive(Clone, Debug)]
pub struct JsonClick<'a> {
    tokens: [Option<&'a str>; 8],
    client: Vec<Option<&'a str>>,
    /// Microseconds since the Unix epoch; `None` where the time is not understood.
    pub micros: Option<i64>,
    /// Whether the decoder reads the time's token as the same instant.
    pub time_is_ours: bool,
}

/// Why a line gives no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonLineProblem {
    /// The line is not one JSON value, for example because it was cut off.
    #[error("not valid JSON")]
    InvalidJson,
    /// The line holds a number, a text or an array.
    #[error("not a JSON object")]
    NotAnObject,
    /// The object has nothing under the name of the URL: no click, a heartbeat perhaps.
    #[error("no url")]
    NoUrl,
    /// The object has nothing under the name of the time.
    #[error("no event_ts")]
    NoTime,
}

/// Reads one line, without its line ending.
///
/// # Errors
/// [`JsonLineProblem`] says what the line is instead of a click.
pub fn parse<'a>(line: &'a [u8], map: &FieldMap) -> Result<JsonClick<'a>, JsonLineProblem> {
    let object: HashMap<Cow<'_, str>, &'a RawValue> =
        serde_json::from_slice(line).map_err(|_| {
            match serde_json::from_slice::<IgnoredAny>(line) {
                Ok(_) => JsonLineProblem::NotAnObject,
                Err(_) => JsonLineProblem::InvalidJson,
            }
        })?;
    let token = |name: &str| {
        object
            .get(name)
            .map(|value| value.get())
            .filter(|token| *token != "null")
    };
    let tokens = Field::ALL.map(|field| map.name(field).and_then(token));
    tokens[Field::Url as usize].ok_or(JsonLineProblem::NoUrl)?;
    let time = tokens[Field::EventTs as usize].ok_or(JsonLineProblem::NoTime)?;
    let (micros, time_is_ours) = parse_time(time);
    let client = map.client.iter().map(|name| token(name)).collect();
    Ok(JsonClick {
        tokens,
        client,
        micros,
        time_is_ours,
    })
}

impl<'a> JsonClick<'a> {
    /// The field's JSON token; a referrer that says there is none is none.
    pub fn token(&self, field: Field) -> Option<&'a str> {
        self.tokens[field as usize].filter(|token| {
            field != Field::Referrer || !NO_REFERRER.contains(&text(token).as_ref())
        })
    }

    /// The user as text, if the line names one.
    pub fn user(&self) -> Option<Cow<'a, str>> {
        self.token(Field::UserId).map(text)
    }

    /// What tells this client from others: address, user agent, then the fields mapped as `client`.
    pub fn client(&self) -> Vec<Option<Cow<'a, str>>> {
        let mut parts = vec![
            self.token(Field::Ip).map(text),
            self.token(Field::UserAgent).map(text),
        ];
        parts.extend(self.client.iter().map(|token| token.map(text)));
        parts
    }
}

/// The text of a JSON string; of any other value, and of a string that is no Unicode text, the token itself.
fn text(token: &str) -> Cow<'_, str> {
    let inner = token
        .strip_prefix('"')
        .and_then(|token| token.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) => serde_json::from_str(token).map_or(Cow::Borrowed(token), Cow::Owned),
        None => Cow::Borrowed(token),
    }
}

/// The instant, and whether the decoder would read the same from this token.
fn parse_time(token: &str) -> (Option<i64>, bool) {
    let plain = text(token);
    if let Some(micros) = parse_number(&plain) {
        return (Some(micros), false);
    }
    let instant = DateTime::parse_from_rfc3339(&plain)
        .map(|instant| instant.to_utc())
        .ok()
        .or_else(|| {
            NaiveDateTime::parse_from_str(&plain, "%Y-%m-%d %H:%M:%S%.f")
                .ok()
                .map(|instant| instant.and_utc())
        });
    // second 60 is left to the decoder, which refuses it
    let micros = instant
        .filter(|instant| instant.nanosecond() < 1_000_000_000)
        .map(|instant| instant.timestamp_micros());
    (micros, true)
}

/// Seconds or milliseconds since the epoch, with decimals, floored to microseconds.
fn parse_number(text: &str) -> Option<i64> {
    let (negative, digits) = text
        .strip_prefix('-')
        .map_or((false, text), |digits| (true, digits));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || !numeric(whole) || !numeric(decimals) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    // nine decimals; anything behind them only matters to the floor of a negative number
    let nine = decimals.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nine.fold(0_i128, |nanos, digit| nanos * 10 + i128::from(digit - b'0'));
    let rest = decimals.bytes().skip(9).any(|digit| digit != b'0');
    let scaled = i128::from(whole) * 1_000_000_000 + nanos;
    let scaled = if negative {
        -scaled - i128::from(rest)
    } else {
        scaled
    };
    let micros = scaled.div_euclid(if whole < SECONDS_BELOW {
        1_000
    } else {
        1_000_000
    });
    i64::try_from(micros).ok()
}

#[cfg(test)]
mod tests;
