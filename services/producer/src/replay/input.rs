//! Log files as lines: plain or packed, from disk or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Format;
use super::detect::{Layout, detect};
use super::fields::FieldMap;
use super::objects::Objects;
use super::packing::{Bytes, OTHERS, Packer};
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
    /// Set where records are JSON objects over several lines.
    objects: Option<Objects>,
    packer: Option<Packer>,
    lines: u64,
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
            objects: None,
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
        self.objects = (detected.layout == Layout::Objects).then(Objects::default);
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
    /// records are objects over several lines, it is the next object, and the number of the line on
    /// which it begins.
    ///
    /// # Errors
    /// The input cannot be read on.
    pub fn next_line<'a>(
        &mut self,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<(u64, Line<'a>)>, InputError> {
        let read = match &mut self.objects {
            Some(objects) => objects.next(&mut self.reader, buffer),
            None => read(&mut self.reader, buffer).map(|line| {
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

fn read<'a>(reader: &mut Bytes, buffer: &'a mut Vec<u8>) -> io::Result<Option<Line<'a>>> {
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use std::io::{Cursor, Write};
    use std::path::Path;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::{FieldMap, Input, InputError, Line, MAX_LINE_BYTES};

    fn open(bytes: Vec<u8>) -> Result<Input, InputError> {
        let map = FieldMap::default();
        Input::new("log".into(), Box::new(Cursor::new(bytes)), None, &map)
    }

    fn input(bytes: impl Into<Vec<u8>>) -> Input {
        open(bytes.into()).unwrap()
    }

    fn lines(mut input: Input) -> Vec<String> {
        let mut buffer = Vec::new();
        let mut lines = Vec::new();
        while let Some((number, line)) = input.next_line(&mut buffer).unwrap() {
            lines.push(match line {
                Line::Text(text) => format!("{number}:{}", String::from_utf8_lossy(text)),
                Line::TooLong => format!("{number} too long"),
            });
        }
        lines
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_are_numbered_and_lose_their_ends() {
        assert_eq!(
            lines(input("\u{feff}a\r\n\nb\nlast")),
            ["1:a", "2:", "3:b", "4:last"]
        );
        assert!(lines(input("")).is_empty());
    }

    #[test]
    fn compressed_input_is_recognised_even_in_several_members() {
        let mut bytes = gzip("a\nb\n");
        bytes.extend(gzip("c\n"));
        assert_eq!(lines(input(bytes)), ["1:a", "2:b", "3:c"]);
    }

    #[test]
    fn a_compressed_input_cut_off_is_an_error_that_counts_what_was_read() {
        let mut bytes = gzip("a\nb\n");
        bytes.truncate(bytes.len() - 4);
        let mut input = input(bytes);
        let mut buffer = Vec::new();
        let error = loop {
            match input.next_line(&mut buffer) {
                Ok(line) => assert!(line.is_some(), "the end was not noticed"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, InputError::Damaged { lines: 2, .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("gzip -dc log > saved.log"),
            "{error}"
        );
    }

    #[test]
    fn another_packer_is_refused_with_the_command_that_unpacks() {
        let heads: [(&[u8], &str); 2] = [
            (b"\x04\x22\x4d\x18\x60", "lz4 -dc log"),
            (b"PK\x03\x04\x14", "unzip -p log"),
        ];
        for (head, unpack) in heads {
            let error = open(head.to_vec()).map(|_| ()).unwrap_err();
            assert!(matches!(error, InputError::Packed { .. }), "{error:?}");
            assert!(error.to_string().contains(unpack), "{error}");
        }
        // a host's name is no packer
        assert_eq!(lines(input("BZh9 - -")), ["1:BZh9 - -"]);
    }

    #[test]
    fn a_log_that_was_cut_off_while_it_was_written_begins_behind_the_hole() {
        let hole = vec![0; 3 * MAX_LINE_BYTES];
        let log = [hole.as_slice(), b"a\n\0\0b\nc\0d\n"].concat();
        assert_eq!(lines(input(log)), ["1:a", "2:b", "3:c\0d"]);
    }

    #[test]
    fn text_of_sixteen_bits_is_text() {
        let text = "\u{feff}a\r\nzugriffe-größe 😀\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big] {
            assert_eq!(lines(input(bytes)), ["1:a", "2:zugriffe-größe 😀"]);
        }
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut bytes = vec![b'x'; 3 * MAX_LINE_BYTES];
        bytes.extend(b"\nb\n");
        bytes.extend(vec![b'y'; MAX_LINE_BYTES]);
        bytes.extend(b"\r\nc");
        let lines = lines(input(bytes));
        assert_eq!(lines.len(), 4);
        assert_eq!(
            (lines[0].as_str(), lines[1].as_str(), lines[3].as_str()),
            ("1 too long", "2:b", "4:c")
        );
        assert_eq!(lines[2].len(), MAX_LINE_BYTES + 2);
    }

    proptest! {
        #[test]
        fn every_record_of_any_bytes_has_exactly_one_outcome(
            head in prop_oneof![
                Just(""), Just("{"), Just("[{"), Just("#Fields: date time cs-uri-stem\n"), Just("ts,url\n"),
                Just("\u{feff}"), Just("\0\0"), Just("\u{1f}")
            ],
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                "[\\[\\]{}\",:#\\-a-z0-9\\n\\t ]{0,300}".prop_map(String::into_bytes),
            ],
        ) {
            let bytes = [head.as_bytes(), &body].concat();
            let map = FieldMap::default();
            if let Ok(mut input) = open(bytes.clone()) {
                let mut reader = input.format().reader(&map);
                let (mut buffer, mut records) = (Vec::new(), 0);
                let lines = input.objects.is_none();
                while let Ok(Some((_, line))) = input.next_line(&mut buffer) {
                    records += 1;
                    if let Line::Text(text) = line {
                        let _ = reader.read(text);
                    }
                }
                // what is plain text comes line by line, whatever it is
                if lines && input.packer.is_none() && !head.starts_with('\0') && !body.contains(&0) {
                    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                    let marks: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
                    if !marks.iter().any(|mark| text.starts_with(mark)) {
                        let expected = text.split_inclusive(|byte| *byte == b'\n').count();
                        prop_assert_eq!(records, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Input::open(Path::new("no/such.log"), None, &FieldMap::default())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.to_string(), "no/such.log: cannot be opened");
    }
}
