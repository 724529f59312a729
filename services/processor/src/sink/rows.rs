//! Values of columns that PostgreSQL's client has no type for, and keys as arrays for `unnest`.

use bytes::{BufMut, BytesMut};
use clickstream_pipeline::{
    batch::Batch,
    event::{Day, EventTime},
};
use postgres_protocol::types;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::copy;

/// The form of `jsonb` on the wire: its text.
pub(super) const JSONB_FORM: u8 = 1;

/// An instant, written as `timestamptz` to the microsecond.
#[derive(Copy, Clone, Debug)]
pub struct Timestamptz(pub EventTime);

/// Bits, the highest one of a byte first, written as `bit varying`.
#[derive(Copy, Clone, Debug)]
pub struct Bits<'a>(pub &'a [u8]);

/// A UTC day, written as `date`.
#[derive(Copy, Clone, Debug)]
pub struct Date(pub Day);

/// The text of a JSON value, written as `jsonb`.
#[derive(Copy, Clone, Debug)]
pub struct Jsonb<'a>(pub &'a str);

type SqlResult = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl ToSql for Timestamptz {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> SqlResult {
        types::timestamp_to_sql(copy::timestamp(self.0), out);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl ToSql for Bits<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> SqlResult {
        types::varbit_to_sql(8 * self.0.len(), self.0.iter().copied(), out)?;
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::VARBIT
    }

    to_sql_checked!();
}

impl ToSql for Date {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> SqlResult {
        types::date_to_sql(copy::date(self.0), out);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::DATE
    }

    to_sql_checked!();
}

impl ToSql for Jsonb<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> SqlResult {
        out.put_u8(JSONB_FORM);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

/// The keys alone.
#[derive(Default)]
pub struct KeyColumns {
    pub event_id: Vec<Uuid>,
    pub event_date: Vec<Date>,
}

impl KeyColumns {
    pub fn of(batch: &Batch, rows: &[u32]) -> Self {
        let keys = rows.iter().map(|&at| &batch.rows[at as usize]);
        let (event_id, event_date) = keys.map(|row| (row.event_id, Date(row.day()))).unzip();
        Self {
            event_id,
            event_date,
        }
    }
}
