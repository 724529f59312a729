//! Log files as lines: plain or packed, from disk or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Format;
use super::detect::{Layout, detect};
use super::fields::FieldMap;
use super::objects::Objects;
use super::packing::{Bytes, OTHERS, Packer, is_tar};
use super::quoted::Quoted;
use super::utf16::Utf16;

/// The name that means standard input.
pub const STANDARD_INPUT: &str = "-";

/// Longer lines are no log lines; the bound keeps memory in hand when a file has no line ends at
/// all.
pub const MAX_LINE_BYTES: usize = 1 << 20;

pub(super) const BUFFER_BYTES: usize = 128 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An input that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be opened.
    #[error("{}: cannot be opened", path.display())]
    Open {
        /// The file as it was named.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is packed in a way that is not read here.
    #[error(
        "{name}: is packed with {packer}, which is not read here: {unpack} {name} > unpacked.log"
    )]
    Packed {
        /// The file as it was named.
        name: String,
        /// What it is packed with.
        packer: &'static str,
        /// The command that unpacks it to standard output.
        unpack: &'static str,
    },
    /// A packed file ends too early, or does not go on as its packer has it.
    #[error(
        "{name}: {packer} data that is damaged or cut off behind line {lines}; {unpack} {name} > saved.log saves what lies before it"
    )]
    Damaged {
        /// The file as it was named.
        name: String,
        /// What it is packed with.
        packer: &'static str,
        /// The command that unpacks it to standard output.
        unpack: &'static str,
        /// Lines read before.
        lines: u64,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// Reading failed on the way.
    #[error("{name}: cannot be read beyond line {lines}")]
    Read {
        /// The file as it was named.
        name: String,
        /// Lines read before.
        lines: u64,
        /// What the system or the decompressor says.
        #[source]
        source: io::Error,
    },
}

/// Lines of one input, numbered from 1.
pub struct Input {
    name: String,
    reader: Bytes,
    format: Format,
    looks: Arc<str>,
    records: Records,
    packer: Option<Packer>,
    lines: u64,
}

/// How records are found.
enum Records {
    /// One a line.
    Lines,
    /// JSON objects over several lines.
    Objects(Objects),
    /// Values behind a header, over several lines where they have quotes.
    Quoted(Quoted),
}

/// One line as it was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The line without its end.
    Text(&'a [u8]),
    /// The line was longer than [`MAX_LINE_BYTES`] and has been passed over.
    TooLong,
}

impl Input {
    /// Opens a file, or standard input for `-`. Packing is recognised by the first bytes, and so is
    /// the format when none is given.
    ///
    /// # Errors
    /// The file cannot be opened, or its first bytes cannot be read.
    pub fn open(path: &Path, format: Option<&Format>, map: &FieldMap) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let reader: Bytes = if path == Path::new(STANDARD_INPUT) {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()))
        } else {
            let file = File::open(path).map_err(|source| InputError::Open {
                path: path.to_owned(),
                source,
            })?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
        };
        Self::new(name, reader, format, map)
    }

    /// Lines of any reader; `name` stands in messages.
    ///
    /// # Errors
    /// The first bytes cannot be read, or are those of a packer that is not known here.
    pub fn new(
        name: String,
        reader: Bytes,
        format: Option<&Format>,
        map: &FieldMap,
    ) -> Result<Self, InputError> {
        let mut input = Self {
            name,
            reader,
            format: Format::AccessLog,
            looks: "".into(),
            records: Records::Lines,
            packer: None,
            lines: 0,
        };
        match input.begin(format, map) {
            Ok(None) => Ok(input),
            Ok(Some((packer, unpack))) => Err(InputError::Packed {
                name: input.name,
                packer,
                unpack,
            }),
            Err(source) => Err(input.error(source)),
        }
    }

    /// Looks at the first bytes, and takes away what is no text; what is packed otherwise is named.
    fn begin(
        &mut self,
        format: Option<&Format>,
        map: &FieldMap,
    ) -> io::Result<Option<(&'static str, &'static str)>> {
        let head = self.reader.fill_buf()?;
        let other = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic));
        if let Some((_, packer, unpack)) = other {
            return Ok(Some((packer, unpack)));
        }
        self.packer = Packer::of(head);
        if let Some(packer) = self.packer {
            self.replace(|packed| packer.unpacked(packed));
        }
        if is_tar(self.reader.fill_buf()?) {
            return Ok(Some(("tar", "tar -xOf")));
        }
        if let Some((length, high_first)) = Utf16::mark(self.reader.fill_buf()?) {
            self.reader.consume(length);
            self.replace(|units| {
                Box::new(BufReader::with_capacity(
                    BUFFER_BYTES,
                    Utf16::new(units, high_first),
                ))
            });
        }
        if self.reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            self.reader.consume(BYTE_ORDER_MARK.len());
        }
        skip_nuls(&mut self.reader)?;
        let detected = detect(self.reader.fill_buf()?, format, map);
        self.format = detected.format;
        self.looks = detected.looks.into();
        self.records = match detected.layout {
            Layout::Lines => Records::Lines,
            Layout::Objects => Records::Objects(Objects::default()),
            Layout::Quoted(delimiter) => Records::Quoted(Quoted::new(delimiter)),
        };
        Ok(None)
    }

    fn replace(&mut self, wrap: impl FnOnce(Bytes) -> Bytes) {
        let bytes = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = wrap(bytes);
    }

    fn error(&self, source: io::Error) -> InputError {
        let (name, lines) = (self.name.clone(), self.lines);
        let damage = [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::InvalidData,
            io::ErrorKind::InvalidInput,
            io::ErrorKind::Other,
        ];
        match self.packer {
            Some(packer) if damage.contains(&source.kind()) => InputError::Damaged {
                name,
                packer: packer.name(),
                unpack: packer.command(),
                lines,
                source,
            },
            _ => InputError::Read {
                name,
                lines,
                source,
            },
        }
    }

    /// The format given, or else recognised by the first lines.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// What it looks like, and which option to use should it not be understood.
    #[must_use]
    pub fn looks(&self) -> &Arc<str> {
        &self.looks
    }

    /// Reads the next line into `buffer` and numbers it; `None` at the end of the input. Where
    /// records go over several lines, it is the next record, and the number of the line on which
    /// it begins.
    ///
    /// # Errors
    /// The input cannot be read on.
    pub fn next_line<'a>(
        &mut self,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<(u64, Line<'a>)>, InputError> {
        let read = match &mut self.records {
            Records::Objects(objects) => objects.next(&mut self.reader, buffer),
            Records::Quoted(quoted) => quoted.next(&mut self.reader, buffer),
            Records::Lines => read(&mut self.reader, buffer).map(|line| {
                line.map(|line| {
                    self.lines += 1;
                    (self.lines, line)
                })
            }),
        };
        match read {
            Ok(Some((number, line))) => {
                self.lines = number;
                Ok(Some((number, line)))
            }
            Ok(None) => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }
}

/// Passes over what a file that was cut off while its writer went on (`copytruncate`) begins with.
fn skip_nuls(reader: &mut Bytes) -> io::Result<()> {
    loop {
        let head = reader.fill_buf()?;
        let nuls = head.iter().take_while(|byte| **byte == 0).count();
        if nuls == 0 {
            return Ok(());
        }
        reader.consume(nuls);
    }
}

/// Reads a line into `buffer`.
pub(super) fn read<'a>(
    reader: &mut Bytes,
    buffer: &'a mut Vec<u8>,
) -> io::Result<Option<Line<'a>>> {
    buffer.clear();
    skip_nuls(reader)?;
    let bound = MAX_LINE_BYTES as u64 + 2;
    if reader.take(bound).read_until(b'\n', buffer)? == 0 {
        return Ok(None);
    }
    let ended = buffer.last() == Some(&b'\n');
    let mut line = buffer.as_slice();
    line = line.strip_suffix(b"\n").unwrap_or(line);
    line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() <= MAX_LINE_BYTES {
        return Ok(Some(Line::Text(line)));
    }
    if !ended {
        reader.skip_until(b'\n')?;
    }
    Ok(Some(Line::TooLong))
}

#[cfg(test)]
mod tests;
