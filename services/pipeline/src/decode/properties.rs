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
//!
//! What is kept is written in the order in which `jsonb` stores it, by length of the key and then
//! by its bytes: sorting five entries takes PostgreSQL longer than finding them here.

mod compare;
mod json;
mod kept;
mod keys;
mod used;

pub use compare::is_same_json;
pub use keys::{
    KeyType, LISTED_LEVELS, ListedKey, ListedKeys, MOST_LISTED, UnknownKeyType, UnlistedKeys,
};

use kept::Kept;

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
pub(super) fn collect(object: &str, used: &[Option<&str>], limits: PropertyLimits) -> Properties {
    let mut kept = Kept::new(object, used, limits);
    let is_kept = kept.event();
    let (json, trimmed) = kept.into_parts();
    Properties {
        json: is_kept.then_some(json),
        trimmed,
    }
}

#[cfg(test)]
mod tests;
