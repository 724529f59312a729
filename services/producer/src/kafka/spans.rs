//! Spans of sampled records, from their handing over to their acknowledgement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clickstream_telemetry::tracing::{self as traces, RemoteSpan, TRACEPARENT, TRACESTATE};
use rdkafka::message::{Header, OwnedHeaders};
use tracing::{Span, debug_span, field};

use crate::record::Record;

/// Marks the opaque value of a record that has a span; the others are microseconds, which never get
/// that far.
const HAS_SPAN: usize = 1 << (usize::BITS - 1);

/// The spans of records that are not acknowledged yet. The queue's bound is theirs too.
#[derive(Default)]
pub struct Spans {
    open: Mutex<HashMap<usize, Open>>,
    next: AtomicUsize,
}

struct Open {
    span: Span,
    begun: usize,
}

impl Spans {
    /// Keeps the span of a record that was begun at this microsecond, and returns the opaque value
    /// to send with it.
    pub fn keep(&self, span: Span, begun: usize) -> usize {
        let key = HAS_SPAN | self.next.fetch_add(1, Ordering::Relaxed);
        self.with(|open| open.insert(key, Open { span, begun }));
        key
    }

    /// The microsecond at which the record with this opaque value was begun, and its span if it has
    /// one.
    pub fn take(&self, opaque: usize) -> (usize, Option<Span>) {
        if opaque & HAS_SPAN == 0 {
            return (opaque, None);
        }
        match self.with(|open| open.remove(&opaque)) {
            Some(Open { span, begun }) => (begun, Some(span)),
            None => (0, None),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<usize, Open>) -> T) -> T {
        f(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The span of a record, if it is one of those that are sampled. The key stays out of it: it is a
/// person's id.
pub fn begin(topic: &str, record: &Record) -> Option<Span> {
    traces::message(|| {
        debug_span!(
            parent: None,
            "send",
            otel.name = format!("send {topic}"),
            otel.kind = "producer",
            messaging.system = "kafka",
            messaging.operation.name = "send",
            messaging.operation.r#type = "send",
            messaging.destination.name = topic,
            messaging.destination.partition.id = field::Empty,
            messaging.kafka.offset = field::Empty,
            messaging.message.body.size = record.payload.len(),
        )
    })
}

/// The headers that tell a consumer of this span; none where nobody would look it up.
pub fn headers(span: &Span) -> Option<OwnedHeaders> {
    let (parent, state) = RemoteSpan::of(span)?.headers();
    let headers = OwnedHeaders::new().insert(Header {
        key: TRACEPARENT,
        value: Some(&parent),
    });
    Some(match &state {
        Some(state) => headers.insert(Header {
            key: TRACESTATE,
            value: Some(state),
        }),
        None => headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_span_is_told_from_one_with() {
        let spans = Spans::default();
        assert_eq!(spans.take(77).0, 77);
        let first = spans.keep(Span::none(), 5);
        let second = spans.keep(Span::none(), 5);
        assert_ne!(first, second);
        let (begun, span) = spans.take(second);
        assert_eq!((begun, span.is_some()), (5, true));
        // each is reported once
        assert!(spans.take(second).1.is_none());
        assert!(spans.take(first).1.is_some());
    }
}
