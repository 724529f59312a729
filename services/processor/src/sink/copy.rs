//! Binary COPY, encoded whole in memory before it starts: a client that stops in the middle of a
//! COPY would hold index entries that no time-out of the server can free.

use std::net::IpAddr;

use bytes::Bytes;
use clickstream_pipeline::{
    batch::{Batch, Identity},
    engine::Flush,
    event::{Day, EventTime},
};
use uuid::Uuid;

use super::{
    Topics,
    columns::{Entry, Table, Width, append},
    promoted,
    rows::{Date, JSONB_FORM, Jsonb, Timestamptz},
};

/// PostgreSQL counts time from 2000-01-01; this many microseconds after the Unix epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// Bytes of a row without its texts: lengths and fixed columns are 125 with an IPv4 address and 137
/// with an IPv6 one. The batch counts 128 for a row beside its record, which holds the texts and
/// the names of the fields.
const ROW_OVERHEAD: usize = 16;
/// Address families of the wire format of `inet`.
const PGSQL_AF_INET: u8 = 2;
const PGSQL_AF_INET6: u8 = 3;

/// Microseconds since PostgreSQL's epoch.
pub fn timestamp(time: EventTime) -> i64 {
    time.micros() - POSTGRES_EPOCH_MICROS
}

/// Days since PostgreSQL's epoch.
pub fn date(day: Day) -> i32 {
    day.days() - POSTGRES_EPOCH_DAYS
}

/// A COPY stream that was encoded ahead, while the flush before was being committed.
pub struct Prepared {
    batch: Identity,
    rows: Vec<u32>,
    stream: Bytes,
}

impl Prepared {
    /// Plans the flush, and encodes what it will most likely send by COPY.
    pub fn of(flush: &mut Flush) -> Self {
        let rows = flush.plan().new.clone();
        let stream = encode(&flush.batch, &rows);
        Self {
            batch: flush.batch.identity(),
            rows,
            stream,
        }
    }

    /// The stream, if it is that of these rows. Where a row has left the batch meanwhile, the same
    /// places hold other rows.
    pub fn stream_of(self, batch: &Batch, rows: &[u32]) -> Option<Bytes> {
        (self.batch == batch.identity() && self.rows == rows).then_some(self.stream)
    }
}

/// The rows as one binary COPY stream into [`Table::Events`], as wide as the batch needs it.
pub fn encode(batch: &Batch, rows: &[u32]) -> Bytes {
    let width = Width::of(batch);
    let promoted = batch.promoted();
    let columns = Table::Events.written(width).count() + promoted.len();
    let columns = i16::try_from(columns).expect("a table of few columns");
    // names of topics stand in the late ledger alone
    let topics = Topics::new();
    let average = batch.bytes() / batch.rows.len().max(1) + ROW_OVERHEAD;
    let mut out = Vec::with_capacity(rows.len() * average + 32);
    // flags and the length of an extension: none
    out.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for &at in rows {
        out.extend_from_slice(&columns.to_be_bytes());
        let entry = Entry::of(batch, at, &topics);
        append(&entry, width, &mut out);
        promoted::append(&entry, promoted, &mut out);
    }
    out.extend_from_slice(&(-1i16).to_be_bytes());
    Bytes::from(out)
}

/// A value in the binary form of its SQL type: its length, then its bytes.
pub trait Binary {
    /// Appends it.
    fn put(self, out: &mut Vec<u8>);
}

/// Appends the length and the bytes of a value of a fixed length as one piece: half the cost of
/// two.
#[inline]
fn put_fixed<const N: usize>(bytes: [u8; N], out: &mut Vec<u8>) {
    const { assert!(N < 256) };
    let mut piece = [0; 260];
    piece[3] = N as u8;
    piece[4..4 + N].copy_from_slice(&bytes);
    out.extend_from_slice(&piece[..4 + N]);
}

impl<T: Binary> Binary for Option<T> {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
}

impl Binary for &str {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        let length = i32::try_from(self.len()).expect("no text is longer than its record");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.as_bytes());
    }
}

impl Binary for Jsonb<'_> {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        let length = i32::try_from(self.0.len() + 1).expect("no value is longer than its record");
        out.extend_from_slice(&length.to_be_bytes());
        out.push(JSONB_FORM);
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl Binary for Uuid {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        put_fixed(self.into_bytes(), out);
    }
}

impl Binary for bool {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        put_fixed([u8::from(self)], out);
    }
}

impl Binary for i16 {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        put_fixed(self.to_be_bytes(), out);
    }
}

impl Binary for i32 {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        put_fixed(self.to_be_bytes(), out);
    }
}

impl Binary for i64 {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        put_fixed(self.to_be_bytes(), out);
    }
}

impl Binary for f64 {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        put_fixed(self.to_be_bytes(), out);
    }
}

impl Binary for Timestamptz {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        timestamp(self.0).put(out);
    }
}

impl Binary for Date {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        date(self.0).put(out);
    }
}

impl Binary for IpAddr {
    #[inline]
    fn put(self, out: &mut Vec<u8>) {
        // family, netmask bits, is_cidr, address length, address
        match self {
            Self::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                put_fixed([PGSQL_AF_INET, 32, 0, 4, a, b, c, d], out);
            }
            Self::V6(v6) => {
                let mut inet = [0; 20];
                inet[..4].copy_from_slice(&[PGSQL_AF_INET6, 128, 0, 16]);
                inet[4..].copy_from_slice(&v6.octets());
                put_fixed(inet, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use clickstream_pipeline::{
        batch::{Judged, Place},
        offset::{TopicId, TopicPartition},
        settle::Plan,
        spec::SemanticSpec,
        window::TumblingWindow,
    };

    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicId(1),
            partition: number,
        }
    }

    /// A flush of events, each by its partition, its offset and the last digit of its id. An id
    /// that has come before is suspect, as the filter says it.
    fn flush(number: u64, events: &[(i32, i64, u8)]) -> Flush {
        let decoder = SemanticSpec::default().decoder();
        let received_at = EventTime::from_micros(1_710_114_600_000_000);
        let mut batch = Batch::default();
        let mut seen = Vec::new();
        for &(source, offset, id) in events {
            let payload = format!(
                r#"{{"event_id":"018e2f00-0000-7000-8000-00000000000{id}","user_id":1,"event_ts":1710114600000,"url":"/"}}"#
            );
            let event = decoder
                .decode(payload.as_bytes(), received_at)
                .expect("a valid event");
            let place = Place {
                source: partition(source),
                offset,
                index: 0,
                received_at,
            };
            let judged = Judged {
                window: TumblingWindow::new(60).containing(event.event_ts),
                late: false,
                suspect: seen.contains(&id),
            };
            seen.push(id);
            batch.push_event(place, payload.as_bytes(), &event, judged);
        }
        batch.number(number);
        Flush::new(batch, BTreeMap::new(), Arc::new(SemanticSpec::default()))
    }

    #[test]
    fn a_stream_is_used_for_the_batch_that_it_was_encoded_from() {
        let mut flush = flush(1, &[(0, 0, 1), (1, 0, 2)]);
        let prepared = Prepared::of(&mut flush);
        let rows = prepared.rows.clone();
        assert_eq!(rows.len(), 2);
        assert_eq!(flush.planned().expect("planned").new, rows);
        assert!(prepared.stream_of(&flush.batch, &rows).is_some());
    }

    #[test]
    fn a_stream_is_not_used_once_a_partition_has_left_the_batch() {
        // row 2 has the key of row 1, so only row 0 is surely new; once its partition is fenced,
        // row 1 stands in its place
        let mut flush = flush(1, &[(0, 0, 1), (1, 0, 2), (0, 1, 2)]);
        let prepared = Prepared::of(&mut flush);
        let before = prepared.rows.clone();
        flush.batch.remove(partition(0));
        assert!(flush.planned().is_none(), "a plan of other rows");
        let after = Plan::of(&flush.batch, flush.rules.late_policy, false).new;
        assert_eq!(before, after, "the same places, other rows");
        assert!(prepared.stream_of(&flush.batch, &after).is_none());
    }

    #[test]
    fn a_stream_is_not_used_for_another_batch_of_the_same_size() {
        let prepared = Prepared::of(&mut flush(1, &[(0, 0, 1)]));
        let rows = prepared.rows.clone();
        let other = flush(2, &[(0, 1, 2)]).batch;
        assert!(prepared.stream_of(&other, &rows).is_none());
    }
}
