//! Comma- or tab-separated values whose first record names the columns.

use std::borrow::Cow;

use clickstream_pipeline::decode::Field;

use super::LineFormat;
use super::found::Found;
use super::names::{Names, Role, WHO};
use crate::replay::fields::FieldMap;
use crate::replay::hit::{Hit, Miss, Skipped, Unparsable, Value};

/// Lines of values behind a header.
#[derive(Debug)]
pub struct Delimited {
    names: Names,
    delimiter: Option<u8>,
    header: Option<Vec<Option<(Role, u8)>>>,
}

impl Delimited {
    /// Values between commas or semicolons, as the header has them.
    #[must_use]
    pub fn csv(map: &FieldMap) -> Self {
        Self {
            names: Names::new(map, WHO),
            delimiter: None,
            header: None,
        }
    }

    /// Values between tabs.
    #[must_use]
    pub fn tsv(map: &FieldMap) -> Self {
        Self {
            delimiter: Some(b'\t'),
            ..Self::csv(map)
        }
    }
}

impl LineFormat for Delimited {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        let text = std::str::from_utf8(line).map_err(|_| Unparsable::OtherForm)?;
        let delimiter = *self.delimiter.get_or_insert_with(|| delimiter(line));
        let values = Values {
            rest: Some(text),
            delimiter,
        };
        let Some(header) = &self.header else {
            let mut header = Vec::new();
            for name in values {
                let name = name.ok_or(Unparsable::OtherForm)?;
                header.push(self.names.look_up(name.trim()).role);
            }
            self.header = Some(header);
            return Err(Skipped::Directive.into());
        };
        let mut found = Found::new(&self.names);
        let mut columns = header.iter();
        for value in values {
            let value = value.ok_or(Unparsable::OtherForm)?;
            if let Some(role) = columns.next().ok_or(Unparsable::Columns)? {
                found.add(*role, Value::Text(value));
            }
        }
        if columns.next().is_some() {
            return Err(Unparsable::Columns.into());
        }
        found.hit()
    }

    fn called(&self, field: Field) -> Option<&str> {
        self.names.called(field)
    }
}

/// What stands between the names of a header, as its first line has it.
pub(in crate::replay) fn delimiter(header: &[u8]) -> u8 {
    let end = memchr::memchr(b'\n', header).unwrap_or(header.len());
    let count = |delimiter| memchr::memchr_iter(delimiter, &header[..end]).count();
    *b",;\t|"
        .iter()
        .rev()
        .max_by_key(|delimiter| count(**delimiter))
        .unwrap_or(&b',')
}

/// The values of a line; `None` for one whose quotes are not in order.
pub(in crate::replay) struct Values<'a> {
    pub(in crate::replay) rest: Option<&'a str>,
    pub(in crate::replay) delimiter: u8,
}

impl<'a> Iterator for Values<'a> {
    type Item = Option<Cow<'a, str>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let Some(mut inside) = rest.strip_prefix('"') else {
            let end = memchr::memchr(self.delimiter, rest.as_bytes());
            self.rest = end.map(|end| &rest[end + 1..]);
            return Some(Some(Cow::Borrowed(&rest[..end.unwrap_or(rest.len())])));
        };
        let mut value = Cow::Borrowed("");
        loop {
            let Some((text, behind)) = inside.split_once('"') else {
                return Some(None);
            };
            value += text;
            // a doubled quote stands for one
            if let Some(more) = behind.strip_prefix('"') {
                value += "\"";
                inside = more;
                continue;
            }
            self.rest = match behind.as_bytes().first() {
                None => None,
                Some(byte) if *byte == self.delimiter => Some(&behind[1..]),
                Some(_) => return Some(None),
            };
            return Some(Some(value));
        }
    }
}
