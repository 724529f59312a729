//! From the bytes of a Kafka record to a valid [`Event`], or to the first reason against it.
//!
//! One pass over the document finds the raw text of the eight known fields and proves the rest to be JSON, without
//! recursion and without building values nobody asked for; then each field is read from its raw text. An event
//! without escape sequences is decoded without a single allocation.

mod field;
mod object;
mod reason;
mod timestamp;

pub use reason::{Field, RejectReason, Rejected, UnknownRejectReason};

use crate::event::{Event, EventTime};
use crate::spec::{RulesVersion, SemanticSpec};

/// Reads records by the rules of one spec, from which it was compiled.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Longer payloads are [`RejectReason::TooLarge`]; in bytes.
    max_event_bytes: usize,
    /// Events dated later than this after `received_at` are [`RejectReason::TimestampInFuture`]; in microseconds.
    max_future_skew_micros: i64,
    /// Which spellings are read.
    version: RulesVersion,
}

impl Decoder {
    /// Compiles the rules of a spec.
    #[must_use]
    pub fn new(spec: &SemanticSpec) -> Self {
        Self {
            max_event_bytes: spec.max_event_bytes,
            max_future_skew_micros: spec.max_future_skew_micros,
            version: spec.events.version,
        }
    }

    /// Reads one record's payload, whose Kafka timestamp is `received_at`. The event borrows from the payload, and
    /// from the decoder what stands in the rules.
    ///
    /// # Errors
    /// The first [`RejectReason`] that applies: first to the payload as a whole, then to its fields in the order of
    /// [`Field::ALL`].
    pub fn decode<'a>(
        &'a self,
        payload: &'a [u8],
        received_at: EventTime,
    ) -> Result<Event<'a>, Rejected> {
        if payload.is_empty() {
            return Err(Rejected::record(
                RejectReason::Empty,
                "the payload has no bytes",
            ));
        }
        if payload.len() > self.max_event_bytes {
            let detail = format!("longer than {} bytes", self.max_event_bytes);
            return Err(Rejected::record(RejectReason::TooLarge, detail));
        }
        let text = std::str::from_utf8(payload).map_err(|error| {
            let detail = format!("not UTF-8 from byte {}", error.valid_up_to());
            Rejected::record(RejectReason::InvalidUtf8, detail)
        })?;
        let fields = object::fields(text)?;

        // evaluated top down: this order is the order of the reasons
        let event_id = field::event_id(&fields)?;
        let user_id = field::user_id(&fields)?;
        let event_ts = field::event_ts(&fields, received_at, self)?;
        let url = field::url(&fields)?;
        let referrer = field::referrer(&fields)?;
        let ip = field::ip(&fields)?;
        let session_id = field::session_id(&fields)?;
        let user_agent = field::user_agent(&fields)?;
        Ok(Event {
            event_id,
            user_id,
            event_ts,
            url,
            referrer,
            ip,
            session_id,
            user_agent,
        })
    }
}

#[cfg(test)]
mod tests;
