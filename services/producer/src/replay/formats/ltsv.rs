//! Labelled tab-separated values: `time:…<TAB>host:…<TAB>req:…`.

use clickstream_pipeline::decode::Field;

use super::LineFormat;
use super::escapes::readable;
use super::found::Found;
use super::names::{Names, Role};
use crate::replay::fields::FieldMap;
use crate::replay::hit::{Hit, Miss, Unparsable, Value};

/// What labels mean here and not elsewhere: the host is the client, as in Apache's `%h`.
const LABELS: &[(&str, Role)] = &[("host", Role::Client)];

/// Lines of labels and values.
#[derive(Debug)]
pub struct Ltsv(Names);

impl Ltsv {
    /// Lines with the usual labels, or those of `map`.
    #[must_use]
    pub fn new(map: &FieldMap) -> Self {
        Self(Names::new(map, LABELS))
    }
}

impl LineFormat for Ltsv {
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss> {
        let mut found = Found::new(&self.0);
        for field in line.split(|byte| *byte == b'\t') {
            if field.is_empty() {
                continue;
            }
            let colon = memchr::memchr(b':', field).ok_or(Unparsable::OtherForm)?;
            let label = std::str::from_utf8(&field[..colon]).map_err(|_| Unparsable::OtherForm)?;
            if let Some(role) = self.0.look_up(label).role {
                found.add(role, Value::Text(readable(&field[colon + 1..])));
            }
        }
        found.hit()
    }

    fn called(&self, field: Field) -> Option<&str> {
        self.0.called(field)
    }
}
