//! Several logs as one, in the order of time.
//!
//! Each input is nearly sorted, as servers write their logs: its clock is the newest time in it so
//! far, and the input whose clock is behind all others goes on. So a log's own order stays as it
//! is, and a line without a time follows the one before it. A file is opened to see when it begins,
//! and opened again when that moment comes: of rotated files, which follow each other, one or two
//! are open at a time, however many there are. One input alone passes as it comes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Format;
use super::fields::FieldMap;
use super::formats::LineFormat;
use super::hit::{Hit, Miss, Skipped, Unparsable};
use super::input::{Input, InputError, Line};

/// Lines without a time that are read in search of the first one with one.
const LOOK_AHEAD: usize = 1_000;

/// What is read, and how.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Logs; `-` is standard input.
    pub paths: Vec<PathBuf>,
    /// What the lines look like, where that is said.
    pub format: Option<Format>,
    /// Which field of a line is which field of the event.
    pub fields: FieldMap,
}

/// What reading comes upon.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, and nearly all are lines"
)]
pub enum Step<'a> {
    /// An input, before its first line.
    Begins {
        /// The input's name.
        input: &'a Arc<str>,
        /// What it looks like, and which option to use should it not be understood.
        looks: &'a Arc<str>,
        /// What it is read as.
        format: &'a Format,
    },
    /// A line.
    Line(Read<'a>),
}

/// One line of one input.
#[derive(Debug)]
pub struct Read<'a> {
    /// The input's name.
    pub input: &'a Arc<str>,
    /// The line's number, from 1.
    pub number: u64,
    /// The line without its end.
    pub text: &'a [u8],
    /// What it says.
    pub hit: Result<Hit<'a>, Miss>,
    /// What reads the input's lines, for the names that they give to fields.
    pub format: &'a dyn LineFormat,
}

impl Reading {
    /// Every line of all inputs, in the order of time, until `each` has seen enough.
    ///
    /// # Errors
    /// An input cannot be read.
    pub fn each(&self, each: &mut dyn FnMut(Step<'_>) -> bool) -> Result<(), InputError> {
        if let [path] = self.paths.as_slice() {
            let mut stream = Stream::open(path, self)?;
            let mut goes_on = each(stream.begins());
            while goes_on && let Some(read) = stream.next()? {
                goes_on = each(Step::Line(read));
            }
            return Ok(());
        }
        let mut places = Vec::new();
        let mut queue = BinaryHeap::new();
        for (place, path) in self.paths.iter().enumerate() {
            let ahead = Ahead::open(path, self)?;
            if !each(ahead.stream.begins()) {
                return Ok(());
            }
            queue.push(Reverse((ahead.clock, place)));
            // a stream comes only once
            places.push(if path.is_file() {
                Place::Waiting
            } else {
                Place::Open(Box::new(ahead))
            });
        }
        while let Some(Reverse((_, place))) = queue.pop() {
            if matches!(places[place], Place::Waiting) {
                places[place] = Place::Open(Box::new(Ahead::open(&self.paths[place], self)?));
            }
            let Place::Open(ahead) = &mut places[place] else {
                continue;
            };
            if let Some(Owned { number, text, hit }) = ahead.lines.pop_front() {
                let input = &ahead.stream.name;
                let text = &text;
                let read = Read {
                    input,
                    number,
                    text,
                    hit,
                    format: &*ahead.stream.reader,
                };
                if !each(Step::Line(read)) {
                    break;
                }
            }
            if !ahead.lines.is_empty() || ahead.pull()? {
                queue.push(Reverse((ahead.clock, place)));
            } else {
                // closes it
                places[place] = Place::Done;
            }
        }
        Ok(())
    }
}

enum Place {
    /// Not open; it begins at the time at which it stands in the queue.
    Waiting,
    Open(Box<Ahead>),
    Done,
}

/// An input whose next lines have been read.
struct Ahead {
    stream: Stream,
    lines: VecDeque<Owned>,
    /// The newest time so far.
    clock: i64,
}

impl Ahead {
    /// Opens an input and reads on to its first time.
    fn open(path: &Path, reading: &Reading) -> Result<Self, InputError> {
        let mut ahead = Self {
            stream: Stream::open(path, reading)?,
            lines: VecDeque::new(),
            clock: i64::MIN,
        };
        while ahead.clock == i64::MIN && ahead.lines.len() < LOOK_AHEAD && ahead.pull()? {}
        Ok(ahead)
    }

    /// Reads one more line; `false` at the end.
    fn pull(&mut self) -> Result<bool, InputError> {
        let Some(read) = self.stream.next()? else {
            return Ok(false);
        };
        if let Some(micros) = read.hit.as_ref().ok().and_then(Hit::micros) {
            self.clock = self.clock.max(micros);
        }
        self.lines.push_back(Owned {
            number: read.number,
            text: read.text.to_vec(),
            hit: read.hit.map(Hit::into_owned),
        });
        Ok(true)
    }
}

/// A line that has been read and waits for its turn.
struct Owned {
    number: u64,
    text: Vec<u8>,
    hit: Result<Hit<'static>, Miss>,
}

/// An open input and the reader of its format.
struct Stream {
    name: Arc<str>,
    input: Input,
    reader: Box<dyn LineFormat>,
    buffer: Vec<u8>,
}

impl Stream {
    fn open(path: &Path, reading: &Reading) -> Result<Self, InputError> {
        let input = Input::open(path, reading.format.as_ref(), &reading.fields)?;
        Ok(Self {
            name: path.display().to_string().into(),
            reader: input.format().reader(&reading.fields),
            input,
            buffer: Vec::new(),
        })
    }

    fn begins(&self) -> Step<'_> {
        Step::Begins {
            input: &self.name,
            looks: self.input.looks(),
            format: self.input.format(),
        }
    }

    fn next(&mut self) -> Result<Option<Read<'_>>, InputError> {
        let Some((number, line)) = self.input.next_line(&mut self.buffer)? else {
            return Ok(None);
        };
        let (text, hit): (&[u8], _) = match line {
            Line::TooLong => (&[], Err(Unparsable::TooLong.into())),
            Line::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {
                (text, Err(Skipped::Blank.into()))
            }
            Line::Text(text) => (text, self.reader.read(text)),
        };
        Ok(Some(Read {
            input: &self.name,
            number,
            text,
            hit,
            format: &*self.reader,
        }))
    }
}

#[cfg(test)]
mod tests;
