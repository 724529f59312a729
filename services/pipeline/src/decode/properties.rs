//! What an event says beyond its fields, as one JSON object that PostgreSQL's `jsonb` takes in any
//! case.
//!
//! Kept is every entry of the event's object whose value did not become a field, in the structure
//! in which it stands. The entries are taken in their order, and one that would exceed a limit is
//! left out:
//! - an object is taken entry by entry, so a large one keeps those that fit; one of which nothing
//!   is left is left out
//! - an array is kept whole or not at all, also what a field was read from in it
//! - an object or array deeper than `depth`, the event's own object being the first level, is left
//!   out
//! - U+0000 and lone surrogates, which `jsonb` refuses, become U+FFFD
//! - a number of more than 400 digits before or after its point is kept as text
//!
//! Of a repeated key `jsonb` keeps the last. How many entries were left out or changed is counted.

mod compare;
mod json;
mod keys;

use std::fmt::Write as _;

pub use compare::is_same_json;
pub use keys::{
    KeyType, LISTED_LEVELS, ListedKey, ListedKeys, MOST_LISTED, UnknownKeyType, UnlistedKeys,
};

use json::Cursor;

/// Bounds of what is kept of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PropertyLimits {
    /// Longest text of the object, in bytes of UTF-8.
    pub bytes: u16,
    /// Most keys, those of objects inside included.
    pub keys: u16,
    /// Most levels of objects and arrays, the outermost included.
    pub depth: u8,
}

impl Default for PropertyLimits {
    fn default() -> Self {
        Self {
            bytes: 8192,
            keys: 64,
            depth: 5,
        }
    }
}

/// What was kept of an event beyond its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// One JSON object without white space, not empty; `None` when nothing is left to keep.
    pub json: Option<String>,
    /// Entries that were left out for a limit, or changed since `jsonb` does not take them.
    pub trimmed: u32,
}

/// Keeps what stands in an object beyond the values that became fields. `object` is proved to be
/// JSON, begins with a brace and may go on behind its end; `used` are the raw values of fields,
/// slices of it or of anything else.
pub(super) fn collect(object: &str, used: &[&str], limits: PropertyLimits) -> Properties {
    let mut kept = Kept {
        // what most events come to, and no more than an object may
        out: String::with_capacity(usize::from(limits.bytes).min(512)),
        used,
        limits,
        keys: 0,
        open: 0,
        trimmed: 0,
    };
    let is_kept = object.starts_with('{') && kept.object(object, Entries::OneByOne).is_ok();
    let is_empty = !is_kept || kept.out.len() <= 2;
    Properties {
        json: (!is_empty).then_some(kept.out),
        trimmed: kept.trimmed,
    }
}

/// A limit was reached.
#[derive(Clone, Copy)]
struct Full;

/// What becomes of an object when one of its entries does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entries {
    /// The entry is left out.
    OneByOne,
    /// The object is left out, with what it stands in.
    AllOrNothing,
}

struct Kept<'u> {
    out: String,
    used: &'u [&'u str],
    limits: PropertyLimits,
    keys: u16,
    /// Objects and arrays that are begun and not yet ended: each takes a byte more.
    open: usize,
    trimmed: u32,
}

impl Kept<'_> {
    fn object(&mut self, text: &str, entries: Entries) -> Result<(), Full> {
        self.begin('{')?;
        let mut cursor = Cursor::inside(text);
        let mut is_first = true;
        while let Some((key, value)) = cursor.entry() {
            if entries == Entries::OneByOne && self.is_used(value) {
                continue;
            }
            let before = (self.out.len(), self.keys, self.open, self.trimmed);
            let is_kept = self.entry(is_first, key, value, entries);
            if is_kept.is_err() && entries == Entries::AllOrNothing {
                return Err(Full);
            }
            if is_kept.is_ok_and(|is_kept| is_kept) {
                is_first = false;
                continue;
            }
            self.out.truncate(before.0);
            (self.keys, self.open) = (before.1, before.2);
            // what an object lost before it was left out itself is counted; else the entry is
            if is_kept.is_err() {
                self.trimmed = before.3 + 1;
            }
        }
        self.end('}');
        Ok(())
    }

    /// Writes an entry; `false` if nothing of it was to be kept.
    fn entry(
        &mut self,
        is_first: bool,
        key: &str,
        value: &str,
        entries: Entries,
    ) -> Result<bool, Full> {
        if self.keys >= self.limits.keys {
            return Err(Full);
        }
        self.keys += 1;
        if !is_first {
            self.out.push(',');
        }
        self.text(key);
        self.out.push(':');
        let start = self.out.len();
        match value.as_bytes().first() {
            Some(b'{') => self.object(value, entries)?,
            Some(b'[') => self.array(value)?,
            _ => self.scalar(value),
        }
        self.fits()?;
        // an object that lost its last entry, to a field or to a limit; one that was empty says so
        // itself
        let is_emptied = &self.out[start..] == "{}" && Cursor::inside(value).entry().is_some();
        Ok(!is_emptied)
    }

    fn array(&mut self, text: &str) -> Result<(), Full> {
        self.begin('[')?;
        let mut cursor = Cursor::inside(text);
        let mut is_first = true;
        while let Some(value) = cursor.element() {
            if !is_first {
                self.out.push(',');
            }
            is_first = false;
            match value.as_bytes().first() {
                Some(b'{') => self.object(value, Entries::AllOrNothing)?,
                Some(b'[') => self.array(value)?,
                _ => self.scalar(value),
            }
            self.fits()?;
        }
        self.end(']');
        Ok(())
    }

    fn begin(&mut self, bracket: char) -> Result<(), Full> {
        if self.open >= usize::from(self.limits.depth) {
            return Err(Full);
        }
        self.open += 1;
        self.out.push(bracket);
        Ok(())
    }

    fn end(&mut self, bracket: char) {
        self.open -= 1;
        self.out.push(bracket);
    }

    /// Whether what is written, and all that is begun with its end, stays within the limit.
    fn fits(&self) -> Result<(), Full> {
        let len = self.out.len() + self.open;
        (len <= usize::from(self.limits.bytes))
            .then_some(())
            .ok_or(Full)
    }

    fn scalar(&mut self, raw: &str) {
        if raw.starts_with('"') {
            self.text(raw);
        } else if json::is_number(raw) && !json::is_moderate(raw) {
            self.trimmed += 1;
            // digits, a point, signs and an exponent need no escapes
            let _ = write!(self.out, "\"{raw}\"");
        } else {
            self.out.push_str(raw);
        }
    }

    fn text(&mut self, raw: &str) {
        if json::push_storable(&mut self.out, raw) {
            self.trimmed += 1;
        }
    }

    /// Whether a value became a field: it is the same piece of memory.
    fn is_used(&self, value: &str) -> bool {
        let at = value.as_ptr();
        self.used.iter().any(|used| std::ptr::eq(used.as_ptr(), at))
    }
}

#[cfg(test)]
mod tests;
