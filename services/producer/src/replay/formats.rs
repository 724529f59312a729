//! What reads the lines of each format of the closed list in [`super::format`], a file each: from a
//! line to a [`Hit`].

pub mod access_log;
pub mod columns;
pub mod delimited;
mod escapes;
mod found;
pub mod json;
pub mod ltsv;
pub mod names;
pub mod pattern;
pub mod prefix;
pub mod w3c;

use std::fmt;

use clickstream_pipeline::decode::Field;

use super::hit::{Hit, Miss};

/// Reads lines of one format, in the order in which an input has them: some formats name their
/// fields on the way.
pub trait LineFormat: Send + fmt::Debug {
    /// Reads one line, without its line ending.
    ///
    /// # Errors
    /// Why the line is no hit.
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss>;

    /// What the lines so far call a field of the event, where they name their fields.
    fn called(&self, _field: Field) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests;
