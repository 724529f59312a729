//! Binary COPY, encoded whole in memory before it starts: a client that stops in the middle of a COPY would hold index
//! entries that no time-out of the server can free.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use clickstream_pipeline::{
    batch::{Batch, Identity},
    event::{Day, EventTime},
    settle::Plan,
    spec::LatePolicy,
};

/// The columns, in the order in which [`encode`] writes them.
pub const COPY_EVENTS: &str = "copy clickstream_events (event_id, user_id, event_ts, event_date, url, referrer, ip, received_at, \
     session_id, user_agent, is_late, source_topic_id, source_partition, source_offset) from stdin (format binary)";
const COLUMNS: i16 = 14;

/// PostgreSQL counts time from 2000-01-01; this many microseconds after the Unix epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// Bytes of a row without its texts: lengths and fixed columns are 125 with an IPv4 address and 137 with an IPv6 one. The
/// batch counts 128 for a row beside its record, which holds the texts and the names of the fields.
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
    /// Plans and encodes what the batch will most likely send by COPY.
    pub fn of(batch: &Batch, policy: LatePolicy) -> Self {
        let rows = Plan::of(batch, policy, false).new;
        let stream = encode(batch, &rows);
        Self {
            batch: batch.identity(),
            rows,
            stream,
        }
    }

    /// The stream, if it is that of these rows. Where a row has left the batch meanwhile, the same places hold other rows.
    pub fn stream_of(self, batch: &Batch, rows: &[u32]) -> Option<Bytes> {
        (self.batch == batch.identity() && self.rows == rows).then_some(self.stream)
    }
}

/// The rows as one binary COPY stream.
pub fn encode(batch: &Batch, rows: &[u32]) -> Bytes {
    let average = batch.bytes() / batch.rows.len().max(1) + ROW_OVERHEAD;
    let mut out = BytesMut::with_capacity(rows.len() * average + 32);
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_i32(0);
    out.put_i32(0);
    for &at in rows {
        let row = &batch.rows[at as usize];
        let texts = batch.texts(row);
        out.put_i16(COLUMNS);
        out.put_i32(16);
        out.put_slice(row.event_id.as_bytes());
        put_text(&mut out, Some(texts.user_id));
        out.put_i32(8);
        out.put_i64(timestamp(row.event_ts));
        out.put_i32(4);
        out.put_i32(date(row.day()));
        put_text(&mut out, Some(texts.url));
        put_text(&mut out, texts.referrer);
        put_ip(&mut out, row.ip);
        out.put_i32(8);
        out.put_i64(timestamp(row.received_at));
        put_text(&mut out, texts.session_id);
        put_text(&mut out, texts.user_agent);
        out.put_i32(1);
        out.put_u8(u8::from(row.late));
        out.put_i32(2);
        out.put_i16(row.source.topic.0);
        out.put_i32(4);
        out.put_i32(row.source.partition);
        out.put_i32(8);
        out.put_i64(row.offset);
    }
    out.put_i16(-1);
    out.freeze()
}

fn put_text(out: &mut BytesMut, text: Option<&str>) {
    let Some(text) = text else {
        return out.put_i32(-1);
    };
    out.put_i32(i32::try_from(text.len()).expect("the decoder admits no text above 8192 bytes"));
    out.put_slice(text.as_bytes());
}

fn put_ip(out: &mut BytesMut, ip: Option<IpAddr>) {
    // length, then: family, netmask bits, is_cidr, address length, address
    match ip {
        None => out.put_i32(-1),
        Some(IpAddr::V4(v4)) => {
            out.put_i32(8);
            out.put_slice(&[PGSQL_AF_INET, 32, 0, 4]);
            out.put_slice(&v4.octets());
        }
        Some(IpAddr::V6(v6)) => {
            out.put_i32(20);
            out.put_slice(&[PGSQL_AF_INET6, 128, 0, 16]);
            out.put_slice(&v6.octets());
        }
    }
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::{
        batch::{Judged, Place},
        decode::{Limits, decode},
        offset::{TopicId, TopicPartition},
        window::TumblingWindow,
    };

    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicId(1),
            partition: number,
        }
    }

    /// A batch of events, each by its partition, its offset and the last digit of its id. An id that
    /// has come before is suspect, as the filter says it.
    fn batch(number: u64, events: &[(i32, i64, u8)]) -> Batch {
        let limits = Limits {
            max_event_bytes: 1_000,
            max_future_skew_micros: 0,
        };
        let received_at = EventTime::from_micros(1_710_114_600_000_000);
        let mut batch = Batch::default();
        let mut seen = Vec::new();
        for &(source, offset, id) in events {
            let payload = format!(
                r#"{{"event_id":"018e2f00-0000-7000-8000-00000000000{id}","user_id":1,"event_ts":1710114600000,"url":"/"}}"#
            );
            let event = decode(payload.as_bytes(), received_at, &limits).expect("a valid event");
            let place = Place {
                source: partition(source),
                offset,
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
        batch
    }

    #[test]
    fn a_stream_is_used_for_the_batch_that_it_was_encoded_from() {
        let batch = batch(1, &[(0, 0, 1), (1, 0, 2)]);
        let prepared = Prepared::of(&batch, LatePolicy::Divert);
        let rows = prepared.rows.clone();
        assert_eq!(rows.len(), 2);
        assert!(prepared.stream_of(&batch, &rows).is_some());
    }

    #[test]
    fn a_stream_is_not_used_once_a_partition_has_left_the_batch() {
        // row 2 has the key of row 1, so only row 0 is surely new; once its partition is fenced, row 1
        // stands in its place
        let mut batch = batch(1, &[(0, 0, 1), (1, 0, 2), (0, 1, 2)]);
        let prepared = Prepared::of(&batch, LatePolicy::Divert);
        let before = prepared.rows.clone();
        batch.remove(partition(0));
        let after = Plan::of(&batch, LatePolicy::Divert, false).new;
        assert_eq!(before, after, "the same places, other rows");
        assert!(prepared.stream_of(&batch, &after).is_none());
    }

    #[test]
    fn a_stream_is_not_used_for_another_batch_of_the_same_size() {
        let prepared = Prepared::of(&batch(1, &[(0, 0, 1)]), LatePolicy::Divert);
        let rows = prepared.rows.clone();
        assert!(prepared.stream_of(&batch(2, &[(0, 1, 2)]), &rows).is_none());
    }
}
