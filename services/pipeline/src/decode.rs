//! From the bytes of a Kafka record to a valid [`Event`], or to the first reason against it.
//!
//! One pass over the document finds the raw text of the known fields and proves the rest to be
//! JSON, without recursion and without building values nobody asked for; then each field is read
//! from its raw text. An event without escape sequences is decoded without a single allocation.

mod address;
mod clean;
mod cleaned;
pub mod columns;
mod field;
mod hint;
pub mod mapping;
mod object;
pub mod properties;
mod reason;
mod split;
mod timestamp;

use std::borrow::Cow;
use std::sync::Arc;

pub use cleaned::{CleanReason, Cleaned, CleanedCounts};
pub use reason::{Field, RejectReason, Rejected, UnknownRejectReason};
pub use split::MAX_BATCH_DAYS;

use columns::PromotedColumn;
use mapping::{Batches, Located, Mapper, Read};
use object::Fields;
use properties::PropertyLimits;
use split::Split;

use crate::derived::{Deriver, Source};
use crate::event::{self, Event, EventTime};
use crate::spec::{EventIds, IpRange, OptionalFields, RulesVersion, SemanticSpec};

/// Reads records by the rules of one spec, from which it was compiled.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Longer payloads are [`RejectReason::TooLarge`]; in bytes.
    max_event_bytes: usize,
    /// Events dated later than this after `received_at` are [`RejectReason::TimestampInFuture`]; in
    /// microseconds.
    max_future_skew_micros: i64,
    /// Which spellings are read.
    version: RulesVersion,
    /// Where ids come from.
    ids: EventIds,
    /// The proxies whose word on the client's address is taken; `None` where fields are not cleaned
    /// at all.
    cleaning: Option<Box<[IpRange]>>,
    /// Where the fields stand, unless at their own names, and the columns; compiled.
    mapper: Option<Mapper>,
    /// What has columns of its own.
    columns: Arc<[PromotedColumn]>,
    /// Whether a schema registry's prefix is taken off.
    strip_registry_prefix: bool,
    /// How much is kept of what is no field, if anything.
    properties: Option<PropertyLimits>,
    /// What follows from the fields, if the rules ask for it; compiled.
    deriver: Option<Deriver>,
}

/// One of the events that a record holds, or what stands in the place of one.
#[derive(Debug)]
pub struct Element<'a> {
    /// Its place in the record's array; 0 in a record that is one event or cannot be read.
    pub index: i16,
    /// Its bytes: of a batch the element alone, otherwise the record's whole value.
    pub payload: &'a [u8],
    /// The event, or the first reason against it.
    pub verdict: Result<Event<'a>, Rejected>,
}

/// Bytes that a schema registry's serializers put in front: 0x00 and the schema's id.
const REGISTRY_PREFIX_BYTES: usize = 5;

impl Decoder {
    /// Compiles the rules of a spec.
    #[must_use]
    pub fn new(spec: &SemanticSpec) -> Self {
        let cleans = spec.events.version > RulesVersion::First
            && spec.events.optional_fields == OptionalFields::Clean;
        Self {
            max_event_bytes: spec.max_event_bytes,
            max_future_skew_micros: spec.max_future_skew_micros,
            version: spec.events.version,
            ids: spec.events.id,
            cleaning: cleans.then(|| spec.events.trusted_proxies.as_slice().into()),
            mapper: Mapper::new(&spec.events.mapping, &spec.events.columns),
            columns: spec.events.columns.as_slice().into(),
            strip_registry_prefix: spec.events.mapping.strip_registry_prefix,
            properties: spec.events.properties,
            deriver: Deriver::new(&spec.events.derived),
        }
    }

    /// What has columns of its own, in the order of [`Event::columns`].
    #[must_use]
    pub fn promoted(&self) -> &Arc<[PromotedColumn]> {
        &self.columns
    }

    /// Reads one record's payload, whose Kafka timestamp is `received_at`. The event borrows from
    /// the payload, and from the decoder what stands in the rules.
    ///
    /// # Errors
    /// The first [`RejectReason`] that applies: first to the payload as a whole, then to its fields
    /// in the order of [`Field::ALL`].
    pub fn decode<'a>(
        &'a self,
        payload: &'a [u8],
        received_at: EventTime,
    ) -> Result<Event<'a>, Rejected> {
        self.text(payload)
            .and_then(|text| match &self.mapper {
                None => self
                    .plain(text, received_at)
                    .map_err(|rejected| self.with_likely_key(rejected, text)),
                Some(mapper) => self.mapped(mapper, text, received_at).map_err(|rejected| {
                    match mapper.is_own_format() {
                        true => self.with_likely_key(rejected, text),
                        false => rejected,
                    }
                }),
            })
            .map_err(|rejected| self.with_beginning(rejected, payload))
    }

    /// Reads one record's payload and hands over what it holds, in its order: one event, unless the
    /// rules say where a batch stands. Of a batch each element is an event or rejected by itself,
    /// and an empty one holds nothing; a record that cannot be read at all is rejected once, at
    /// place 0.
    pub fn decode_each(
        &self,
        payload: &[u8],
        received_at: EventTime,
        mut each: impl FnMut(Element<'_>),
    ) {
        let batches = |mapper: &&Mapper| mapper.batches() != Batches::None;
        let Some(mapper) = self.mapper.as_ref().filter(batches) else {
            return each(Element {
                index: 0,
                payload,
                verdict: self.decode(payload, received_at),
            });
        };
        let mut split = Split {
            decoder: self,
            mapper,
            payload,
            received_at,
            days: Vec::new(),
        };
        let read = self.text(payload);
        if let Err(rejected) = read.and_then(|text| split.record(text, &mut each)) {
            each(Element {
                index: 0,
                payload,
                verdict: Err(self.with_beginning(rejected, payload)),
            });
        }
    }

    /// The text of a payload, without what a schema registry puts in front.
    fn text<'a>(&self, payload: &'a [u8]) -> Result<&'a str, Rejected> {
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
        let prefix = self.prefix_of(payload);
        std::str::from_utf8(&payload[prefix..]).map_err(|error| {
            let detail = format!("not UTF-8 from byte {}", prefix + error.valid_up_to());
            Rejected::record(RejectReason::InvalidUtf8, detail)
        })
    }

    /// Says what a payload that is no JSON begins with.
    fn with_beginning(&self, rejected: Rejected, payload: &[u8]) -> Rejected {
        match self.version {
            RulesVersion::First => rejected,
            RulesVersion::Second => {
                let prefix = self.prefix_of(payload);
                hint::of_payload(rejected, &payload[prefix..])
            }
        }
    }

    /// Reads an event of this project's own format.
    fn plain<'a>(&'a self, text: &'a str, received_at: EventTime) -> Result<Event<'a>, Rejected> {
        let fields = object::fields(text)?;
        let event = self.event(&fields, received_at)?;
        Ok(self.with_properties(event, &fields, object::opened(text).ok()))
    }

    /// Names the key that a missing field probably stands under.
    fn with_likely_key(&self, rejected: Rejected, text: &str) -> Rejected {
        match (self.version, rejected.reason, rejected.field) {
            (RulesVersion::Second, RejectReason::MissingField, Some(field)) => Rejected {
                detail: hint::of_missing(field, text).into(),
                ..rejected
            },
            _ => rejected,
        }
    }

    /// Bytes in front of the document. No JSON begins with 0x00, so records with and without a
    /// prefix may be mixed.
    fn prefix_of(&self, payload: &[u8]) -> usize {
        let is_prefixed = self.strip_registry_prefix
            && payload.first() == Some(&0)
            && payload.len() >= REGISTRY_PREFIX_BYTES;
        if is_prefixed {
            REGISTRY_PREFIX_BYTES
        } else {
            0
        }
    }

    fn mapped<'a>(
        &'a self,
        mapper: &'a Mapper,
        text: &'a str,
        received_at: EventTime,
    ) -> Result<Event<'a>, Rejected> {
        match mapper.read(text)? {
            Read::Event(found) => self.located(mapper, &found, received_at),
            Read::Text(inner) => match mapper.read_text(&inner)? {
                Read::Event(found) => self
                    .located(mapper, &found, received_at)
                    .map(Event::into_owned),
                Read::Text(_) | Read::Batch(_) => Err(several()),
            },
            Read::Batch(_) => Err(several()),
        }
    }

    fn located<'a>(
        &'a self,
        mapper: &Mapper,
        found: &Located<'a>,
        received_at: EventTime,
    ) -> Result<Event<'a>, Rejected> {
        let event = self.event(&found.fields, received_at);
        let event = event.map_err(|rejected| match (rejected.reason, rejected.field) {
            (RejectReason::MissingField, Some(field)) if !mapper.is_own_format() => Rejected {
                detail: mapper.missing(field).into(),
                ..rejected
            },
            _ => rejected,
        })?;
        let event = self.with_properties(event, &found.fields, found.body);
        let columns = self.columns.iter().zip(&found.columns);
        Ok(Event {
            columns: columns
                .map(|(column, &seen)| columns::promote(column.r#type, seen))
                .collect(),
            ..event
        })
    }

    /// The event with what stands in its object beside the fields, if the rules keep that.
    fn with_properties<'a>(
        &self,
        event: Event<'a>,
        fields: &Fields<'_>,
        object: Option<&str>,
    ) -> Event<'a> {
        let (Some(limits), Some(object)) = (self.properties, object) else {
            return event;
        };
        let kept = properties::collect(object, fields.values(), limits);
        Event {
            properties: kept.json.map(Cow::Owned),
            trimmed: kept.trimmed,
            ..event
        }
    }

    fn event<'a>(
        &'a self,
        fields: &Fields<'a>,
        received_at: EventTime,
    ) -> Result<Event<'a>, Rejected> {
        // evaluated top down: this order is the order of the reasons
        let event_id = match self.ids {
            EventIds::EventId => Some(field::event_id(fields, self.version)?),
            EventIds::FromFields => None,
        };
        let user_id = field::user_id(fields)?;
        let event_ts = field::event_ts(fields, received_at, self)?;
        let url = field::url(fields)?;
        let rest = match &self.cleaning {
            Some(proxies) => clean::fields(fields, proxies),
            None => self.optional(fields)?,
        };
        let event_id = event_id.unwrap_or_else(|| {
            event::id::of_fields(&event::id::Fields {
                user_id: &user_id,
                event_ts,
                url: &url,
                referrer: rest.referrer.as_deref(),
                ip: rest.ip,
                session_id: rest.session_id.as_deref(),
                user_agent: rest.user_agent.as_deref(),
                event_name: rest.event_name.as_deref(),
                site: rest.site.as_deref(),
            })
        });
        let derived = self.deriver.as_ref().map(|deriver| {
            Box::new(deriver.derive(Source {
                url: &url,
                referrer: rest.referrer.as_ref(),
                user_agent: rest.user_agent.as_deref(),
            }))
        });
        let of_url = || self.deriver.as_ref().and_then(|rules| rules.site(&url));
        let site = rest.site.or_else(of_url);
        Ok(Event {
            event_id,
            user_id,
            event_ts,
            url,
            referrer: rest.referrer,
            ip: rest.ip,
            session_id: rest.session_id,
            user_agent: rest.user_agent,
            event_name: rest.event_name,
            site,
            properties: None,
            trimmed: 0,
            columns: Vec::new(),
            cleaned: rest.cleaned,
            derived,
        })
    }

    /// The optional fields as they are.
    fn optional<'a>(&self, fields: &Fields<'a>) -> Result<clean::Optional<'a>, Rejected> {
        let referrer = field::referrer(fields)?;
        let ip = field::ip(fields)?;
        let session_id = field::session_id(fields)?;
        let user_agent = field::user_agent(fields)?;
        // of these two the first release knew nothing
        let (event_name, site) = match self.version {
            RulesVersion::First => (None, None),
            RulesVersion::Second => (field::event_name(fields)?, field::site(fields)?),
        };
        Ok(clean::Optional {
            referrer,
            ip,
            session_id,
            user_agent,
            event_name,
            site,
            cleaned: Cleaned::default(),
        })
    }
}

/// What is wrong with a text that stands in for a field that events lack, by the field's own rules.
///
/// # Errors
/// The rule that it breaks.
pub fn check_constant(field: Field, text: &str) -> Result<(), Rejected> {
    field::check(field, text)
}

/// The verdict on a batch where one event was expected.
fn several() -> Rejected {
    Rejected::record(RejectReason::NotAnObject, "several events in one record")
}

#[cfg(test)]
mod tests;
