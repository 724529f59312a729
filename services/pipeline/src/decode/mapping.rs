//! Events that do not look like ours: from the raw JSON of a record to the raw text of each field,
//! by rules.
//!
//! ```text
//!  record ─▶ prefix of a schema registry ─▶ envelope ─▶ batch ─▶ fields          all pointers in one pass
//!            5 bytes, 0x00 in front         object or   array    the first pointer that leads
//!                                           its text             to something, or a constant
//! ```
//! A value is read where it stands and as it stands: what a field may hold is decided afterwards,
//! as for any event.

mod pointer;
mod presets;
mod rules;
mod trie;
mod walk;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use pointer::{MAX_POINTER_CHARS, MAX_STEPS, Pointer, PointerError, Step};
pub use presets::Preset;
pub use rules::{MAX_POINTERS, MappingRules};

/// Most events of one record: all of them are in one flush.
pub const MAX_ELEMENTS: usize = 1_000;

use super::columns::PromotedColumn;
use super::object::{self, Fields, Seen};
use super::{Field, RejectReason, Rejected};
use trie::Trie;
use walk::{Found, Walk};

/// Finds the fields of events by rules that were compiled once.
#[derive(Clone, Debug)]
pub(super) struct Mapper {
    trie: Trie,
    /// The raw JSON text of each constant.
    constants: [Option<Box<str>>; Field::ALL.len()],
    rules: MappingRules,
}

/// Where batches stand, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batches {
    /// Each record is one event.
    None,
    /// An array inside of the record.
    Inside,
    /// The record is an array, of which each element is read as a record.
    Records,
}

/// What a record turned out to be.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// One event.
    Event(Located<'a>),
    /// A text that holds the event, or the batch.
    Text(Text<'a>),
    /// An array of events.
    Batch(Elements<'a>),
}

/// One event: its fields, and where it stands.
#[derive(Debug)]
pub(super) struct Located<'a> {
    pub(super) fields: Fields<'a>,
    /// The text from its opening brace on, which may go on behind its end; `None` if there is no
    /// event at the envelope.
    pub(super) body: Option<&'a str>,
    /// What the record says of each column.
    pub(super) columns: Vec<Seen<'a>>,
    /// Whether its id is the one that the record has for all its elements.
    pub(super) has_id_of_record: bool,
}

/// What stands in a text inside the record.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) text: Cow<'a, str>,
    outer: Found<'a>,
}

/// The raw elements of a batch, and what the record itself says of all of them.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    pub(super) raw: Vec<&'a RawValue>,
    outer: Found<'a>,
}

impl Mapper {
    /// Compiles the rules; none if events are read as they are without any.
    pub(super) fn new(rules: &MappingRules, columns: &[PromotedColumn]) -> Option<Self> {
        let constant = |field: Field| {
            let text = rules.constants.get(field.as_str())?;
            serde_json::to_string(text).ok().map(String::into_boxed_str)
        };
        (!rules.is_own_format() || !columns.is_empty()).then(|| Self {
            trie: Trie::new(rules, columns),
            constants: Field::ALL.map(constant),
            rules: rules.clone(),
        })
    }

    /// Finds what a record holds.
    ///
    /// # Errors
    /// The record is no JSON object, or there is nothing of the right form at the envelope or the
    /// batch.
    pub(super) fn read<'a>(&'a self, text: &'a str) -> Result<Read<'a>, Rejected> {
        self.read_at(0, text, Found::default())
    }

    /// Finds what a text inside the record holds.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_text<'a>(&'a self, inner: &'a Text<'a>) -> Result<Read<'a>, Rejected> {
        self.read_at(self.trie.envelope, &inner.text, inner.outer.clone())
            .map_err(|rejected| {
                let at = self.rules.envelope.as_deref().unwrap_or_default();
                let detail = format!("the text at {at}: {}", rejected.detail);
                Rejected::record(rejected.reason, detail)
            })
    }

    fn read_at<'a>(
        &'a self,
        place: usize,
        text: &'a str,
        outer: Found<'a>,
    ) -> Result<Read<'a>, Rejected> {
        let text = object::opened(text)?;
        let walk = Walk::through(&self.trie, place, text, outer)
            .map_err(|error| object::invalid_json(&error))?;
        if walk.is_batch_repeated {
            // events of one of the two would be lost without a trace
            let at = self.rules.batch.as_deref().unwrap_or_default();
            let detail = format!("a key appears twice on the way to the batch at {at}");
            return Err(Rejected::record(RejectReason::NotAnObject, detail));
        }
        if let Some(raw) = walk.quoted {
            return self.quoted(raw, walk.found).map(Read::Text);
        }
        if let Some(raw) = walk.batch.filter(|raw| *raw != "null") {
            return self.elements(raw, walk.found).map(Read::Batch);
        }
        let begins_here = place == self.trie.envelope;
        let body = walk.event.or(begins_here.then_some(text));
        // a record without an array is one event: topics hold both, single events and batches
        let found = if self.batches() == Batches::Inside {
            self.single(body, walk.found)?
        } else {
            walk.found
        };
        Ok(Read::Event(self.located(&found, body)))
    }

    /// The fields of an event that stands where a batch would.
    fn single<'a>(
        &'a self,
        body: Option<&'a str>,
        outer: Found<'a>,
    ) -> Result<Found<'a>, Rejected> {
        let Some(body) = body else {
            return Ok(outer);
        };
        // the text may go on behind the event, which was read once already: only the event is taken
        // out of it
        let mut values = serde_json::Deserializer::from_str(body).into_iter::<&RawValue>();
        let Some(Ok(event)) = values.next() else {
            return Ok(outer);
        };
        Walk::through(&self.trie, self.trie.event, event.get(), outer)
            .map(|walk| walk.found)
            .map_err(|error| object::invalid_json(&error))
    }

    fn quoted<'a>(&self, raw: &'a str, outer: Found<'a>) -> Result<Text<'a>, Rejected> {
        match object::unquoted(raw) {
            Some(text) => Ok(Text { text, outer }),
            None => Err(Rejected::record(
                RejectReason::InvalidJson,
                "the text at the envelope contains a lone surrogate",
            )),
        }
    }

    fn elements<'a>(&self, raw: &'a str, outer: Found<'a>) -> Result<Elements<'a>, Rejected> {
        if !is_array(raw) {
            let at = self.rules.batch.as_deref().unwrap_or_default();
            let detail = format!("the value at {at} is not an array of events");
            return Err(Rejected::record(RejectReason::NotAnObject, detail));
        }
        let raw = elements(raw)?;
        Ok(Elements { raw, outer })
    }

    /// Where batches stand.
    pub(super) fn batches(&self) -> Batches {
        match self.rules.batch.as_deref() {
            None => Batches::None,
            Some("") => Batches::Records,
            Some(_) => Batches::Inside,
        }
    }

    /// Finds the fields of one element of a batch.
    ///
    /// # Errors
    /// The element is no object.
    pub(super) fn element<'a>(
        &'a self,
        elements: &Elements<'a>,
        raw: &'a RawValue,
    ) -> Result<Located<'a>, Rejected> {
        let text = object::opened(raw.get())?;
        let walk = Walk::through(&self.trie, self.trie.event, text, elements.outer.clone())
            .map_err(|error| object::invalid_json(&error))?;
        Ok(Located {
            has_id_of_record: walk.found.is_of(&elements.outer, Field::EventId),
            ..self.located(&walk.found, Some(text))
        })
    }

    fn located<'a>(&'a self, found: &Found<'a>, body: Option<&'a str>) -> Located<'a> {
        Located {
            fields: self.fields(found),
            body,
            columns: found.columns(&self.trie).collect(),
            has_id_of_record: false,
        }
    }

    /// Whether every field stands at its own name, so that only columns are looked for by pointers.
    pub(super) fn is_own_format(&self) -> bool {
        self.rules.is_own_format()
    }

    /// What a person has to know when a required field is missing.
    pub(super) fn missing(&self, field: Field) -> String {
        match self.rules.fields.get(field.as_str()) {
            None => format!("{field}: nothing at /{field}"),
            Some(pointers) if pointers.is_empty() => {
                format!("{field}: no pointer in spec.events.fields leads to it")
            }
            Some(pointers) => format!("{field}: nothing at {}", pointers.join(" or ")),
        }
    }

    fn fields<'a>(&'a self, found: &Found<'a>) -> Fields<'a> {
        let mut fields = Fields::default();
        for field in Field::ALL {
            let constant = self.constants[field as usize].as_deref();
            if let Some(raw) = found.raw[field as usize].or(constant) {
                fields.insert(field, raw);
            }
            if found.is_ambiguous(&self.trie, field) {
                fields.repeat(field);
            }
        }
        fields
    }
}

/// Whether a document is an array, if it is JSON.
pub(super) fn is_array(text: &str) -> bool {
    begins_array(text.as_bytes())
}

/// Whether bytes begin as an array does.
pub(super) fn begins_array(payload: &[u8]) -> bool {
    let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    payload.iter().find(|byte| !space(byte)) == Some(&b'[')
}

/// The raw elements of an array.
///
/// # Errors
/// The text is not one array, or it has more than [`MAX_ELEMENTS`].
pub(super) fn elements(text: &str) -> Result<Vec<&RawValue>, Rejected> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let few = deserializer
        .deserialize_seq(Few)
        .and_then(|few| deserializer.end().map(|()| few))
        .map_err(|error| object::invalid_json(&error))?;
    few.ok_or_else(|| {
        let detail = format!("more than {MAX_ELEMENTS} events in one record");
        Rejected::record(RejectReason::TooLarge, detail)
    })
}

/// The elements of an array; `None` if there are more than [`MAX_ELEMENTS`].
struct Few;

impl<'de> Visitor<'de> for Few {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() == MAX_ELEMENTS {
                // the rest has to be JSON all the same
                while array.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            elements.push(element);
        }
        Ok(Some(elements))
    }
}

#[cfg(test)]
mod tests;
