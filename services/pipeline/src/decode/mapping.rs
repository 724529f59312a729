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

use serde_json::value::RawValue;

pub use pointer::{MAX_POINTER_CHARS, MAX_STEPS, Pointer, PointerError, Step};
pub use presets::Preset;
pub use rules::{MAX_POINTERS, MappingRules};

use super::object::{self, Fields};
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
    pub(super) fn new(rules: &MappingRules) -> Option<Self> {
        let constant = |field: Field| {
            let text = rules.constants.get(field.as_str())?;
            serde_json::to_string(text).ok().map(String::into_boxed_str)
        };
        (!rules.is_own_format()).then(|| Self {
            trie: Trie::new(rules),
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
        self.read_at(self.trie.envelope, &inner.text, inner.outer)
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
        if let Some(raw) = walk.quoted {
            return self.quoted(raw, walk.found).map(Read::Text);
        }
        if let Some(raw) = walk.batch.filter(|raw| *raw != "null") {
            return self.elements(raw, walk.found).map(Read::Batch);
        }
        let begins_here = place == self.trie.envelope;
        let body = walk.event.or(begins_here.then_some(text));
        // a record without an array is one event: topics hold both, single events and batches
        let found = if self.rules.batch.is_some() {
            self.single(body, walk.found)?
        } else {
            walk.found
        };
        let fields = self.fields(&found);
        Ok(Read::Event(Located { fields, body }))
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
        match walk::unquoted(raw) {
            Some(text) => Ok(Text { text, outer }),
            None => Err(Rejected::record(
                RejectReason::InvalidJson,
                "the text at the envelope contains a lone surrogate",
            )),
        }
    }

    fn elements<'a>(&self, raw: &'a str, outer: Found<'a>) -> Result<Elements<'a>, Rejected> {
        let at = self.rules.batch.as_deref().unwrap_or_default();
        let raw = serde_json::from_str(raw).map_err(|_| {
            let detail = format!("the value at {at} is not an array of events");
            Rejected::record(RejectReason::NotAnObject, detail)
        })?;
        Ok(Elements { raw, outer })
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
        let walk = Walk::through(&self.trie, self.trie.event, text, elements.outer)
            .map_err(|error| object::invalid_json(&error))?;
        Ok(Located {
            fields: self.fields(&walk.found),
            body: Some(text),
        })
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

#[cfg(test)]
mod tests;
