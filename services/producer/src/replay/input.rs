//! Log files as lines: plain or compressed, from disk or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::Format;

/// The name that means standard input.
pub const STANDARD_INPUT: &str = "-";

/// Longer lines are no log lines; the bound keeps memory in hand when a file has no line ends at
/// all.
pub const MAX_LINE_BYTES: usize = 1 << 20;

const BUFFER_BYTES: usize = 128 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What other packers begin their files with, and the program that unpacks them to standard output.
const PACKED: [(&[u8], &str, &str); 5] = [
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
    // a host may be called BZh: only the whole head of a file is proof
    (b"BZh91AY&SY", "bzip2", "bzip2 -dc"),
];

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
        "{name}: is packed with {packer}, and only gzip is read: {unpack} {name} > unpacked.log"
    )]
    Packed {
        /// The file as it was named.
        name: String,
        /// What it is packed with.
        packer: &'static str,
        /// The command that unpacks it to standard output.
        unpack: &'static str,
    },
    /// A file packed with gzip ends too early, or does not go on as gzip has it.
    #[error(
        "{name}: gzip data that is damaged or cut off behind line {lines}; gzip -dc {name} > saved.log saves what lies before it"
    )]
    Damaged {
        /// The file as it was named.
        name: String,
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
    reader: Box<dyn BufRead + Send>,
    format: Format,
    looks: Arc<str>,
    gzip: bool,
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
    /// Opens a file, or standard input for `-`. Compression is recognised by the first bytes, and
    /// so is the format when none is given.
    ///
    /// # Errors
    /// The file cannot be opened, or its first bytes cannot be read.
    pub fn open(path: &Path, format: Option<&Format>) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let reader: Box<dyn BufRead + Send> = if path == Path::new(STANDARD_INPUT) {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()))
        } else {
            let file = File::open(path).map_err(|source| InputError::Open {
                path: path.to_owned(),
                source,
            })?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
        };
        Self::new(name, reader, format)
    }

    /// Lines of any reader; `name` stands in messages.
    ///
    /// # Errors
    /// The first bytes cannot be read, or are those of a packer other than gzip.
    pub fn new(
        name: String,
        reader: Box<dyn BufRead + Send>,
        format: Option<&Format>,
    ) -> Result<Self, InputError> {
        let mut input = Self {
            name,
            reader,
            format: Format::AccessLog,
            looks: "".into(),
            gzip: false,
            lines: 0,
        };
        let detected = match input.begin() {
            Ok(Begin::Lines(detected)) => detected,
            Ok(Begin::Packed(packer, unpack)) => {
                return Err(InputError::Packed {
                    name: input.name,
                    packer,
                    unpack,
                });
            }
            Err(source) => return Err(input.error(source)),
        };
        input.format = format.cloned().unwrap_or(detected);
        input.looks = match input.format {
            Format::AccessLog => "it was read as an access log: --format names another form",
            Format::Json => "it was read as JSON: --map names its fields, as in event_ts=t,url=u",
        }
        .into();
        Ok(input)
    }

    /// Looks at the first bytes, and takes away what is no text.
    fn begin(&mut self) -> io::Result<Begin> {
        let head = self.reader.fill_buf()?;
        let packed = PACKED.iter().find(|(magic, ..)| head.starts_with(magic));
        if let Some((_, packer, unpack)) = packed {
            return Ok(Begin::Packed(packer, unpack));
        }
        if head.starts_with(&GZIP_MAGIC) {
            self.gzip = true;
            let packed = std::mem::replace(&mut self.reader, Box::new(io::empty()));
            self.reader = Box::new(BufReader::with_capacity(
                BUFFER_BYTES,
                MultiGzDecoder::new(packed),
            ));
        }
        if self.reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            self.reader.consume(BYTE_ORDER_MARK.len());
        }
        let head = self.reader.fill_buf()?;
        let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(Begin::Lines(match first {
            Some(b'{') => Format::Json,
            _ => Format::AccessLog,
        }))
    }

    fn error(&self, source: io::Error) -> InputError {
        let (name, lines) = (self.name.clone(), self.lines);
        let kind = source.kind();
        let damage = [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::InvalidData,
            io::ErrorKind::InvalidInput,
        ];
        if self.gzip && damage.contains(&kind) {
            InputError::Damaged {
                name,
                lines,
                source,
            }
        } else {
            InputError::Read {
                name,
                lines,
                source,
            }
        }
    }

    /// The format given, or else recognised by the first character: an object makes JSON lines.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// What it looks like, and which option to use should it not be understood.
    #[must_use]
    pub fn looks(&self) -> &Arc<str> {
        &self.looks
    }

    /// Reads the next line into `buffer` and numbers it; `None` at the end of the input.
    ///
    /// # Errors
    /// The input cannot be read on.
    pub fn next_line<'a>(
        &mut self,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<(u64, Line<'a>)>, InputError> {
        match read(&mut self.reader, buffer) {
            Ok(Some(line)) => {
                self.lines += 1;
                Ok(Some((self.lines, line)))
            }
            Ok(None) => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }
}

/// What an input begins with.
enum Begin {
    /// Lines that look like these.
    Lines(Format),
    /// A packer's head: its name, and the command that unpacks.
    Packed(&'static str, &'static str),
}

fn read<'a>(
    reader: &mut Box<dyn BufRead + Send>,
    buffer: &'a mut Vec<u8>,
) -> io::Result<Option<Line<'a>>> {
    buffer.clear();
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

    use super::{Format, Input, InputError, Line, MAX_LINE_BYTES};

    fn input(bytes: impl Into<Vec<u8>>) -> Input {
        Input::new("log".into(), Box::new(Cursor::new(bytes.into())), None).unwrap()
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
        let heads: [(&[u8], &str); 5] = [
            (b"\x28\xb5\x2f\xfd\x04", "zstd -dc log"),
            (b"\xfd7zXZ\0\0\x04", "xz -dc log"),
            (b"\x04\x22\x4d\x18\x60", "lz4 -dc log"),
            (b"PK\x03\x04\x14", "unzip -p log"),
            (b"BZh91AY&SY\x00", "bzip2 -dc log"),
        ];
        for (head, unpack) in heads {
            let opened = Input::new("log".into(), Box::new(Cursor::new(head)), None);
            let error = opened.map(|_| ()).unwrap_err();
            assert!(matches!(error, InputError::Packed { .. }), "{error:?}");
            assert!(error.to_string().contains(unpack), "{error}");
        }
        // a host's name is no packer
        assert_eq!(lines(input("BZh9 - -")), ["1:BZh9 - -"]);
    }

    #[test]
    fn the_format_is_told_by_the_first_character() {
        assert_eq!(input("\n {\"a\":1}").format(), &Format::Json);
        assert_eq!(input(gzip("{\"a\":1}")).format(), &Format::Json);
        assert_eq!(input("192.0.2.1 - -").format(), &Format::AccessLog);
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

    #[test]
    fn a_missing_file_is_named() {
        let error = Input::open(Path::new("no/such.log"), None)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.to_string(), "no/such.log: cannot be opened");
    }
}
