//! The closed list of formats, each in a file of its own: a reader from a line to a [`Hit`].

pub mod access_log;
mod escapes;
pub mod json;
pub mod names;

use super::Format;
use super::fields::FieldMap;
use super::hit::{Hit, Miss};

/// Reads lines of one format, in the order in which an input has them: some formats name their
/// fields on the way.
pub trait LineFormat: Send {
    /// Reads one line, without its line ending.
    ///
    /// # Errors
    /// Why the line is no hit.
    fn read<'a>(&mut self, line: &'a [u8]) -> Result<Hit<'a>, Miss>;
}

impl Format {
    /// A reader that has seen nothing yet.
    #[must_use]
    pub fn reader(&self, map: &FieldMap) -> Box<dyn LineFormat> {
        match self {
            Self::AccessLog => Box::new(access_log::AccessLog),
            Self::Json => Box::new(json::Json::new(map)),
        }
    }
}
