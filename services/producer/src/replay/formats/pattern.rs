//! Access logs in a form of their own, as a server's configuration has it: Apache's `LogFormat`,
//! nginx's `log_format`.

mod compile;

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime};

use super::LineFormat;
use super::escapes::readable;
use super::found::Found;
use super::names::{Names, Role};
use crate::replay::fields::FieldMap;
use crate::replay::hit::{Hit, Miss, Unparsable, Value};

pub use self::compile::InvalidPattern;

/// A form of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pieces: Arc<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Text that stands in every line.
    Literal(Vec<u8>),
    /// What differs from line to line, up to the text behind it.
    Value(Option<(Role, u8)>, Kind),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// As it stands.
    Plain,
    /// A time in a form of its own, as `strftime` has it.
    Time(String),
}

/// Lines of one form.
#[derive(Debug)]
pub struct PatternLines {
    pattern: Pattern,
    names: Names,
}

impl PatternLines {
    /// Lines of this form.
    #[must_use]
    pub fn new(pattern: &Pattern) -> Self {
        Self {
            pattern: pattern.clone(),
            names: Names::new(&FieldMap::default(), &[]),
        }
    }
}

impl LineFormat for PatternLines {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        let mut found = Found::new(&self.names);
        let rest = self
            .pattern
            .take(line, &mut found)
            .ok_or(Unparsable::OtherForm)?;
        // servers append fields; glued on, it is a broken line
        if !(rest.is_empty() || rest.starts_with(b" ") || rest.starts_with(b"\t")) {
            return Err(Unparsable::OtherForm.into());
        }
        found.hit()
    }
}

impl Pattern {
    /// Takes the values out of a line; what is left is behind the last piece.
    fn take<'a>(&self, line: &'a [u8], found: &mut Found<'a>) -> Option<&'a [u8]> {
        let mut rest = line;
        let mut quoted = false;
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Literal(text) => {
                    rest = rest.strip_prefix(text.as_slice())?;
                    quoted = text.ends_with(b"\"");
                }
                Piece::Value(role, kind) => {
                    // a query follows its path without anything between them
                    let query = pieces.next_if(|next| matches!(next, Piece::Value(..)));
                    let end = match pieces.peek() {
                        Some(Piece::Literal(text)) => find(rest, text, quoted)?,
                        _ => rest.len(),
                    };
                    let (value, behind) = rest.split_at(end);
                    rest = behind;
                    let value = match query {
                        Some(Piece::Value(Some(role), _)) => {
                            let at = memchr::memchr(b'?', value).unwrap_or(value.len());
                            add(found, *role, &Kind::Plain, &value[at..]);
                            &value[..at]
                        }
                        _ => value,
                    };
                    if let Some(role) = role {
                        add(found, *role, kind, value);
                    }
                }
            }
        }
        Some(rest)
    }
}

fn add<'a>(found: &mut Found<'a>, role: (Role, u8), kind: &Kind, value: &'a [u8]) {
    let text = readable(value);
    let text = match kind {
        Kind::Plain => text,
        Kind::Time(form) => match instant(&text, form) {
            Some(micros) => Cow::Owned(micros),
            None => text,
        },
    };
    found.add(role, Value::Text(text));
}

/// The time in a spelling that needs no form.
fn instant(text: &str, form: &str) -> Option<String> {
    let instant = DateTime::parse_from_str(text, form)
        .map(|instant| instant.to_utc())
        .or_else(|_| NaiveDateTime::parse_from_str(text, form).map(|naive| naive.and_utc()))
        .ok()?;
    Some(instant.to_rfc3339())
}

/// Where the text behind a value begins; inside of quotes, a backslash takes the meaning from what
/// is behind it.
fn find(rest: &[u8], text: &[u8], quoted: bool) -> Option<usize> {
    if !quoted || !text.starts_with(b"\"") {
        return memchr::memmem::find(rest, text);
    }
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', rest.get(from..)?)?;
        if rest[at] == b'"' && rest[at..].starts_with(text) {
            return Some(at);
        }
        from = at + if rest[at] == b'\\' { 2 } else { 1 };
    }
}

#[cfg(test)]
mod tests;
