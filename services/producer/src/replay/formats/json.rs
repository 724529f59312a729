//! JSON objects: click events, and the logs of servers, proxies and content networks that write
//! JSON. One reader for all of them: what they differ in is names.

use std::borrow::Cow;
use std::fmt;

use clickstream_pipeline::decode::Field;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::escapes::mended_json;
use super::found::Found;
use super::names::{Names, WHO};
use super::{LineFormat, prefix};
use crate::replay::fields::FieldMap;
use crate::replay::hit::{Hit, Miss, Unparsable, Value};

/// Objects deeper than this hold nothing that is looked for.
const DEPTH: usize = 6;

/// JSON objects, one a line or however they are laid out.
#[derive(Debug)]
pub struct Json {
    names: Names,
    path: String,
}

impl Json {
    /// Objects whose names are the usual ones or those of `map`.
    #[must_use]
    pub fn new(map: &FieldMap) -> Self {
        Self {
            names: Names::new(map, WHO),
            path: String::new(),
        }
    }

    fn parse<'a>(&mut self, text: &'a str) -> Result<Hit<'a>, Miss> {
        let mut found = Found::new(&self.names);
        self.path.clear();
        let mut walk = Walk {
            names: &mut self.names,
            path: &mut self.path,
            found: &mut found,
            depth: 0,
        };
        let read = object(text, &mut walk);
        if read.is_err() {
            let begins = text.trim_start();
            let other =
                !begins.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
            return Err(if other {
                Unparsable::NotAnObject.into()
            } else {
                Unparsable::InvalidJson.into()
            });
        }
        found.hit()
    }
}

impl LineFormat for Json {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        match prefix::without(line) {
            Cow::Borrowed(line) => self.bare(line),
            Cow::Owned(line) => self.bare(&line).map(Hit::into_owned),
        }
    }

    fn called(&self, field: Field) -> Option<&str> {
        self.names.called(field)
    }
}

impl Json {
    fn bare<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        let text = std::str::from_utf8(line).map_err(|_| Unparsable::InvalidJson)?;
        match self.parse(text) {
            Err(Miss::Unparsable(Unparsable::InvalidJson)) => {
                let mended = mended_json(line).ok_or(Unparsable::InvalidJson)?;
                let text = std::str::from_utf8(&mended).map_err(|_| Unparsable::InvalidJson)?;
                self.parse(text).map(Hit::into_owned)
            }
            read => read,
        }
    }
}

fn object<'a>(text: &'a str, walk: &mut Walk<'_, 'a>) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(walk)?;
    reader.end()
}

/// Goes through an object and takes what is looked for.
struct Walk<'w, 'a> {
    names: &'w mut Names,
    /// Names from the outermost object to here, joined with dots.
    path: &'w mut String,
    found: &'w mut Found<'a>,
    depth: usize,
}

impl<'a> Visitor<'a> for &mut Walk<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut entries: A) -> Result<(), A::Error> {
        let base = self.path.len();
        while let Some(Key(name)) = entries.next_key::<Key<'a>>()? {
            if base > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            let known = self.names.look_up(self.path);
            if known.role.is_none() && !known.leads {
                entries.next_value::<IgnoredAny>()?;
            } else {
                let mut raw = entries.next_value::<&'a RawValue>()?.get();
                if raw.starts_with('[') {
                    raw = first(raw);
                }
                if raw.starts_with('{') {
                    if known.leads && self.depth < DEPTH {
                        let mut below = Walk {
                            names: &mut *self.names,
                            path: &mut *self.path,
                            found: &mut *self.found,
                            depth: self.depth + 1,
                        };
                        // it has been read once already, so it is valid
                        object(raw, &mut below).map_err(A::Error::custom)?;
                    }
                } else if raw != "null"
                    && let Some(role) = known.role
                {
                    self.found.add(role, Value::Token(Cow::Borrowed(raw)));
                }
            }
            self.path.truncate(base);
        }
        Ok(())
    }
}

/// The first element of a list, or `null`.
fn first(list: &str) -> &str {
    struct First;
    impl<'a> Visitor<'a> for First {
        type Value = &'a str;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<&'a str, A::Error> {
            let first = list.next_element::<&'a RawValue>()?;
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first.map_or("null", RawValue::get))
        }
    }
    serde_json::Deserializer::from_str(list)
        .deserialize_seq(First)
        .unwrap_or("null")
}

/// A name, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests;
