//! A valid click event and the two clocks' worth of types it needs: the instant and the UTC day.

pub mod id;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use uuid::Uuid;

use crate::{
    decode::{Cleaned, columns::Promoted},
    derived::Derived,
};

/// What happened where an event says nothing else.
pub const PAGE_VIEW: &str = "page_view";

/// Microseconds in a day; event time has no leap seconds.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Microseconds since the Unix epoch, UTC.
///
/// The type holds any instant; the events a pipeline accepts lie between [`EventTime::MIN`] and
/// [`EventTime::MAX`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventTime(i64);

impl EventTime {
    /// The first instant an event may have: 2000-01-01T00:00:00Z.
    pub const MIN: Self = Self(946_684_800_000_000);
    /// The last instant an event may have: the microsecond before 2100-01-01T00:00:00Z.
    pub const MAX: Self = Self(4_102_444_800_000_000 - 1);

    /// The instant this many microseconds after (or before) the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The UTC day that holds this instant.
    #[must_use]
    pub const fn day(self) -> Day {
        // i64 microseconds are at most 106_751_992 days either way, so the cast keeps the value
        Day(self.0.div_euclid(MICROS_PER_DAY) as i32)
    }

    /// Whether an event may carry this instant.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        Self::MIN.0 <= self.0 && self.0 <= Self::MAX.0
    }
}

impl fmt::Display for EventTime {
    /// RFC 3339 in UTC with as many decimals (0, 3 or 6) as the instant needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_micros(self.0) {
            Some(instant) => f.write_str(&instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{}us since 1970", self.0),
        }
    }
}

/// Days since the Unix epoch, UTC.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(i32);

impl Day {
    /// The day this many days after (or before) 1970-01-01.
    #[must_use]
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// The day with this date of the proleptic Gregorian calendar, if there is one.
    #[must_use]
    pub fn from_ymd(year: i32, month: i32, day: i32) -> Option<Self> {
        let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        let date = NaiveDate::from_ymd_opt(year, month, day)?;
        // chrono's calendar spans fewer than 2e8 days, so the count fits
        i32::try_from(
            date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive())
                .num_days(),
        )
        .ok()
        .map(Self)
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub const fn days(self) -> i32 {
        self.0
    }

    /// The day's first instant; for days that no [`EventTime`] can lie in, the nearest one that
    /// exists.
    #[must_use]
    pub const fn start(self) -> EventTime {
        EventTime((self.0 as i64).saturating_mul(MICROS_PER_DAY))
    }

    /// The calendar date; days beyond chrono's calendar (about 262 000 years either way) become its
    /// first or last.
    #[must_use]
    pub fn date(self) -> NaiveDate {
        let epoch = DateTime::UNIX_EPOCH.date_naive();
        epoch
            .checked_add_signed(TimeDelta::days(i64::from(self.0)))
            .unwrap_or(if self.0 < 0 {
                NaiveDate::MIN
            } else {
                NaiveDate::MAX
            })
    }
}

impl From<Day> for NaiveDate {
    fn from(day: Day) -> Self {
        day.date()
    }
}

impl fmt::Display for Day {
    /// `YYYY-MM-DD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date().format("%Y-%m-%d"))
    }
}

/// Who clicked: JSON strings and 64-bit integers are both taken, and both are stored as text.
///
/// `Text("7")` and `Number(7)` are the same user; compare their text forms, not the variants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserId<'a> {
    /// 1 to 128 Unicode scalar values.
    Text(Cow<'a, str>),
    /// Any 64-bit integer.
    Number(i64),
}

impl UserId<'_> {
    /// Appends the text form, without allocating beyond `out`'s own growth.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Number(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes())
            }
        }
    }

    /// The same user without a borrow of the payload.
    #[must_use]
    pub fn into_owned(self) -> UserId<'static> {
        match self {
            Self::Text(text) => UserId::Text(Cow::Owned(text.into_owned())),
            Self::Number(number) => UserId::Number(number),
        }
    }
}

impl fmt::Display for UserId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => f.write_str(itoa::Buffer::new().format(*number)),
        }
    }
}

/// An event that passed every rule of the decoder, borrowing from its payload where it can.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// The producer's id of this click; never nil.
    pub event_id: Uuid,
    /// Who clicked.
    pub user_id: UserId<'a>,
    /// When, floored to microseconds.
    pub event_ts: EventTime,
    /// What was clicked, 1 to 8192 bytes.
    pub url: Cow<'a, str>,
    /// Where the user came from, at most 8192 bytes.
    pub referrer: Option<Cow<'a, str>>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The visit this click belongs to, 1 to 128 Unicode scalar values.
    pub session_id: Option<Cow<'a, str>>,
    /// The client's own description, at most 1024 bytes.
    pub user_agent: Option<Cow<'a, str>>,
    /// What happened; `None`: a [`PAGE_VIEW`].
    pub event_name: Option<Cow<'a, str>>,
    /// The site, where it is known.
    pub site: Option<Cow<'a, str>>,
    /// What the event says beside its fields: the text of a JSON object.
    pub properties: Option<Cow<'a, str>>,
    /// Which of the optional fields are not what the record says.
    pub cleaned: Cleaned,
    /// Entries of the properties that a limit left out, or that had to be changed to be stored.
    pub trimmed: u32,
    /// What has columns of its own by the rules, in their order; empty where the rules name none.
    pub columns: Vec<Promoted<'a>>,
    /// What follows from the fields by the rules; `None` where the rules ask for nothing.
    pub derived: Option<Box<Derived<'a>>>,
}

impl Event<'_> {
    /// The same event without a borrow of the payload.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Event {
            event_id: self.event_id,
            user_id: self.user_id.into_owned(),
            event_ts: self.event_ts,
            url: owned(self.url),
            referrer: self.referrer.map(owned),
            ip: self.ip,
            session_id: self.session_id.map(owned),
            user_agent: self.user_agent.map(owned),
            event_name: self.event_name.map(owned),
            site: self.site.map(owned),
            properties: self.properties.map(owned),
            cleaned: self.cleaned,
            trimmed: self.trimmed,
            columns: self.columns.into_iter().map(Promoted::into_owned).collect(),
            derived: self.derived.map(|derived| Box::new(derived.into_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
