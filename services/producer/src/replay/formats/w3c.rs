//! The W3C's extended log format, whose `#Fields:` line names the columns: IIS, and Amazon
//! CloudFront's standard logs.

use std::borrow::Cow;

use clickstream_pipeline::decode::Field;
use percent_encoding::percent_decode_str;

use super::LineFormat;
use super::escapes::readable;
use super::found::Found;
use super::names::{Names, Role};
use crate::replay::fields::FieldMap;
use crate::replay::hit::{Hit, Miss, Skipped, Unparsable, Value};

/// Lines whose columns are named by the `#Fields:` line before them.
#[derive(Debug)]
pub struct W3c {
    names: Names,
    columns: Vec<Option<(Role, u8)>>,
}

impl W3c {
    /// No line has named the columns yet.
    #[must_use]
    pub fn new(map: &FieldMap) -> Self {
        Self {
            names: Names::new(map, &[]),
            columns: Vec::new(),
        }
    }
}

impl LineFormat for W3c {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        if let Some(directive) = line.strip_prefix(b"#") {
            if let Some(fields) = directive.strip_prefix(b"Fields:") {
                let fields = String::from_utf8_lossy(fields);
                self.columns = fields
                    .split_ascii_whitespace()
                    .map(|name| self.names.look_up(name).role)
                    .collect();
            }
            return Err(Skipped::Directive.into());
        }
        if self.columns.is_empty() {
            return Err(Unparsable::NoHeader.into());
        }
        let separator = if memchr::memchr(b'\t', line).is_some() {
            b'\t'
        } else {
            b' '
        };
        let mut found = Found::new(&self.names);
        let mut values = line.split(|byte| *byte == separator);
        for column in &self.columns {
            let value = values.next().ok_or(Unparsable::Columns)?;
            if let Some(role) = column {
                let text = readable(value);
                let text = if role.0 == Role::UserAgent {
                    spaced(text)
                } else {
                    text
                };
                found.add(*role, Value::Text(text));
            }
        }
        if values.any(|value| !value.is_empty()) {
            return Err(Unparsable::Columns.into());
        }
        found.hit()
    }

    fn called(&self, field: Field) -> Option<&str> {
        self.names.called(field)
    }
}

/// A user agent with the spaces that would have ended its column: IIS writes them as `+`,
/// CloudFront as `%20`.
fn spaced(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('%') {
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        // a percent sign of the client's own is written as %25
        let twice = percent_decode_str(&decoded)
            .decode_utf8_lossy()
            .into_owned();
        let text = if decoded.contains("%20") {
            twice
        } else {
            decoded
        };
        return Cow::Owned(text.replace('\0', ""));
    }
    if text.contains('+') && !text.contains(' ') {
        return Cow::Owned(text.replace('+', " "));
    }
    text
}
