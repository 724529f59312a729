//! Column values in the form in which they are compared: exact, and without a detour over a
//! calendar.

use std::{error::Error, net::IpAddr};

use clickstream_pipeline::event::{Day, EventTime};
use postgres_protocol::types::{date_from_sql, inet_from_sql, timestamp_from_sql, varbit_from_sql};
use tokio_postgres::types::{FromSql, Type, accepts};

/// PostgreSQL counts time from 2000-01-01; this many microseconds after the Unix epoch.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
const EPOCH_DAYS: i32 = 10_957;

/// A `timestamptz`. The infinities stay outside every instant that an event can have.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Instant(pub EventTime);

/// A `date`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Date(pub Day);

/// A `bit(n)`, the highest bit of a byte first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Bits<'a>(pub &'a [u8]);

/// An `inet`. Events hold single addresses; another netmask than the full one is a difference.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Address {
    ip: IpAddr,
    netmask: u8,
}

/// A `jsonb`, as its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Json<'a>(pub &'a str);

impl Address {
    /// The column value of a single address.
    pub fn single(ip: IpAddr) -> Self {
        let netmask = if ip.is_ipv4() { 32 } else { 128 };
        Self { ip, netmask }
    }
}

impl<'a> FromSql<'a> for Instant {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = timestamp_from_sql(raw)?.saturating_add(EPOCH_MICROS);
        Ok(Self(EventTime::from_micros(micros)))
    }

    accepts!(TIMESTAMPTZ);
}

impl<'a> FromSql<'a> for Bits<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(varbit_from_sql(raw)?.bytes()))
    }

    accepts!(BIT);
}

impl<'a> FromSql<'a> for Json<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match raw {
            [1, text @ ..] => Ok(Self(str::from_utf8(text)?)),
            _ => Err("jsonb of an unknown form".into()),
        }
    }

    accepts!(JSONB);
}

impl<'a> FromSql<'a> for Date {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Day::from_days(
            date_from_sql(raw)?.saturating_add(EPOCH_DAYS),
        )))
    }

    accepts!(DATE);
}

impl<'a> FromSql<'a> for Address {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let inet = inet_from_sql(raw)?;
        Ok(Self {
            ip: inet.addr(),
            netmask: inet.netmask(),
        })
    }

    accepts!(INET);
}
