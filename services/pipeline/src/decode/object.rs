//! The structural pass: proves that the payload is one JSON object and keeps the raw text of the
//! fields we know.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{Field, RejectReason, Rejected};

/// The raw JSON text of every known field that is there.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    raw: [Option<&'a str>; Field::ALL.len()],
    /// Bit `field as u8` is set when that field's key appeared more than once.
    repeated: u16,
}

// one bit of `repeated` for each
const _: () = assert!(Field::ALL.len() <= u16::BITS as usize);

/// What the document says of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    /// It is absent or null.
    Nothing,
    /// Its raw text.
    Raw(&'a str),
    /// Two things.
    Twice,
}

impl<'a> Fields<'a> {
    /// What the document says of a field.
    pub(super) fn seen(&self, field: Field) -> Seen<'a> {
        if self.repeated & bit(field) != 0 {
            return Seen::Twice;
        }
        match self.raw[field as usize] {
            None | Some("null") => Seen::Nothing,
            Some(raw) => Seen::Raw(raw),
        }
    }

    /// The raw text of a field; `None` when it is absent or null.
    pub(super) fn optional(&self, field: Field) -> Result<Option<&'a str>, Rejected> {
        match self.seen(field) {
            Seen::Nothing => Ok(None),
            Seen::Raw(raw) => Ok(Some(raw)),
            Seen::Twice => Err(Rejected::field(
                RejectReason::InvalidField,
                field,
                "key appears twice",
            )),
        }
    }

    /// The raw text of a field that must be there.
    pub(super) fn required(&self, field: Field) -> Result<&'a str, Rejected> {
        self.optional(field)?.ok_or_else(|| {
            Rejected::field(
                RejectReason::MissingField,
                field,
                "required, but absent or null",
            )
        })
    }

    /// The raw text of every field that is there.
    pub(super) fn values(&self) -> &[Option<&'a str>] {
        &self.raw
    }

    pub(super) fn insert(&mut self, field: Field, raw: &'a str) {
        // a null counts as an appearance too: which of the two was meant is not ours to guess
        if self.raw[field as usize].replace(raw).is_some() {
            self.repeat(field);
        }
    }

    /// Notes that the document says two things of a field.
    pub(super) fn repeat(&mut self, field: Field) {
        self.repeated |= bit(field);
    }
}

fn bit(field: Field) -> u16 {
    1 << field as u8
}

/// The document from its opening brace on, which is all that is known of it: it may be no JSON.
pub(super) fn opened(text: &str) -> Result<&str, Rejected> {
    // the four characters JSON calls whitespace; everything before an object's brace
    let body = text.trim_start_matches([' ', '\t', '\n', '\r']);
    if !body.starts_with('{') {
        // a RawValue takes any one valid document, of any depth and with numbers of any size
        serde_json::from_str::<&RawValue>(text).map_err(|error| invalid_json(&error))?;
        return Err(Rejected::record(
            RejectReason::NotAnObject,
            "valid JSON, but not an object",
        ));
    }
    Ok(body)
}

/// Splits the document into its known fields. Depth costs no stack: serde_json skips values in a
/// loop.
pub(super) fn fields(text: &str) -> Result<Fields<'_>, Rejected> {
    opened(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer
        .deserialize_map(Collect)
        .map_err(|error| invalid_json(&error))?;
    deserializer.end().map_err(|error| invalid_json(&error))?;
    Ok(fields)
}

/// Says where the syntax breaks. serde_json's messages for syntax errors are fixed texts without
/// content.
pub(super) fn invalid_json(error: &serde_json::Error) -> Rejected {
    let detail: Cow<'static, str> = match error.classify() {
        Category::Syntax | Category::Eof => error.to_string().into(),
        Category::Data | Category::Io => "not one JSON document".into(),
    };
    Rejected::record(RejectReason::InvalidJson, detail)
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        // keys are read raw as well: an unknown key with a lone surrogate is as unknown as any
        // other
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if let Some(field) = known(key.get()) {
                fields.insert(field, value.get());
            }
        }
        Ok(fields)
    }
}

/// The text of a raw JSON string, if it has one: lone surrogates have none.
pub(super) fn unquoted(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// The field a raw key (quotes included) stands for, in whichever spelling.
fn known(raw: &str) -> Option<Field> {
    if memchr::memchr(b'\\', raw.as_bytes()).is_some() {
        return serde_json::from_str::<String>(raw)
            .ok()
            .and_then(|key| Field::from_key(&key));
    }
    raw.strip_prefix('"')?
        .strip_suffix('"')
        .and_then(Field::from_key)
}
