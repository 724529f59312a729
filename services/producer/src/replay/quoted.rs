//! Records of values behind a header. Where a value in quotes holds line breaks, a record goes over
//! several lines.

use std::collections::VecDeque;
use std::io::{self, Cursor};

use super::formats::delimited::delimiter;
use super::input::{Line, MAX_LINE_BYTES, read};
use super::packing::Bytes;

/// Finds where records end. A quote that nothing closes breaks the line on which it stands, and no
/// other: a record goes over several lines only where they close it in order, and it then has as
/// many values as the header.
#[derive(Debug)]
pub struct Quoted {
    /// What stands between values, as far as it is known.
    delimiter: Option<u8>,
    /// Values of the header.
    columns: Option<usize>,
    /// Lines that were read in search of the end of a record; `None` for one that is too long.
    ahead: VecDeque<Option<Vec<u8>>>,
    /// Lines given so far.
    lines: u64,
    /// The input ended in the search for the end of a record.
    cut_off: bool,
}

impl Quoted {
    /// Records whose values stand between these; without one, between what the header has.
    #[must_use]
    pub fn new(delimiter: Option<u8>) -> Self {
        Self {
            delimiter,
            columns: None,
            ahead: VecDeque::new(),
            lines: 0,
            cut_off: false,
        }
    }

    /// Reads the next record into `buffer`, its lines joined by line feeds, and the number of its
    /// first line.
    ///
    /// # Errors
    /// The reader fails.
    pub fn next<'a>(
        &mut self,
        reader: &mut Bytes,
        buffer: &'a mut Vec<u8>,
    ) -> io::Result<Option<(u64, Line<'a>)>> {
        let whole = match self.ahead.pop_front() {
            Some(Some(line)) => {
                *buffer = line;
                true
            }
            Some(None) => false,
            None => match read_into(reader, buffer)? {
                Some(whole) => whole,
                None => return Ok(None),
            },
        };
        self.lines += 1;
        let number = self.lines;
        if !whole {
            return Ok(Some((number, Line::TooLong)));
        }
        if buffer.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some((number, Line::Text(buffer))));
        }
        let delimiter = *self.delimiter.get_or_insert_with(|| delimiter(buffer));
        if self.columns.is_none() || memchr::memchr(b'"', buffer).is_some() {
            let mut scan = Scan::new(delimiter);
            scan.step(buffer);
            if scan.place == Place::Inside {
                let first = buffer.len();
                match self.rest(reader, &mut scan, buffer)? {
                    Some(lines) => {
                        self.ahead.drain(..lines);
                        self.lines += lines as u64;
                    }
                    None => buffer.truncate(first),
                }
            }
            self.columns.get_or_insert(scan.columns);
        }
        Ok(Some((number, Line::Text(buffer))))
    }

    /// Puts the rest of a record behind its first line: how many lines that are, or `None` where
    /// they do not make a record. The lines stay in `ahead`.
    fn rest(
        &mut self,
        reader: &mut Bytes,
        scan: &mut Scan,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        for taken in 0.. {
            if taken == self.ahead.len() {
                let mut line = Vec::new();
                match read_into(reader, &mut line)? {
                    None => {
                        self.cut_off = true;
                        break;
                    }
                    Some(whole) => self.ahead.push_back(whole.then_some(line)),
                }
            }
            let Some(line) = &self.ahead[taken] else {
                break;
            };
            buffer.push(b'\n');
            buffer.extend_from_slice(line);
            if buffer.len() > MAX_LINE_BYTES {
                break;
            }
            scan.step(line);
            match scan.place {
                Place::Inside => {}
                Place::Broken => break,
                _ => {
                    let as_header = self.columns.is_none_or(|columns| columns == scan.columns);
                    return Ok(as_header.then_some(taken + 1));
                }
            }
        }
        Ok(None)
    }
}

/// The records at the beginning of an input, without those that its end may have cut off.
#[must_use]
pub fn first_records(head: &[u8], delimiter: Option<u8>, count: usize) -> Vec<Vec<u8>> {
    let mut reader: Bytes = Box::new(Cursor::new(head.to_vec()));
    let (mut quoted, mut records) = (Quoted::new(delimiter), Vec::new());
    let mut buffer = Vec::new();
    while records.len() < count
        && let Ok(Some((_, line))) = quoted.next(&mut reader, &mut buffer)
    {
        if quoted.cut_off && !records.is_empty() {
            break;
        }
        if let Line::Text(text) = line {
            records.push(text.to_vec());
        }
    }
    records
}

/// Reads a line without its end; whether it is whole, or too long.
fn read_into(reader: &mut Bytes, buffer: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let length = match read(reader, buffer)? {
        None => return Ok(None),
        Some(Line::TooLong) => return Ok(Some(false)),
        Some(Line::Text(text)) => text.len(),
    };
    buffer.truncate(length);
    Ok(Some(true))
}

/// Where in a record the end of a line lies.
struct Scan {
    delimiter: u8,
    columns: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a value.
    Before,
    /// In a value without quotes.
    Plain,
    /// In a value with quotes.
    Inside,
    /// Behind a quote in such a value: its end, or the first of two that stand for one.
    Behind,
    /// Something stands behind the end of a value.
    Broken,
}

impl Scan {
    fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            columns: 1,
            place: Place::Before,
        }
    }

    /// Goes over a line.
    fn step(&mut self, line: &[u8]) {
        let mut rest = line;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = match self.place {
                Place::Before if byte == b'"' => {
                    self.place = Place::Inside;
                    behind
                }
                Place::Behind if byte == b'"' => {
                    self.place = Place::Inside;
                    behind
                }
                Place::Behind if byte != self.delimiter => {
                    self.place = Place::Broken;
                    return;
                }
                Place::Before | Place::Plain | Place::Behind => {
                    match memchr::memchr(self.delimiter, rest) {
                        Some(end) => {
                            self.columns += 1;
                            self.place = Place::Before;
                            &rest[end + 1..]
                        }
                        None => {
                            self.place = Place::Plain;
                            return;
                        }
                    }
                }
                Place::Inside => match memchr::memchr(b'"', rest) {
                    Some(quote) => {
                        self.place = Place::Behind;
                        &rest[quote + 1..]
                    }
                    None => return,
                },
                Place::Broken => return,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::{Bytes, Line, MAX_LINE_BYTES, Quoted, first_records};

    /// Records as `LINE:TEXT`, read in pieces of this size.
    fn records(text: &[u8], size: usize) -> Vec<String> {
        let mut reader: Bytes =
            Box::new(BufReader::with_capacity(size, Cursor::new(text.to_vec())));
        let (mut quoted, mut buffer, mut found) = (Quoted::new(None), Vec::new(), Vec::new());
        while let Some((number, line)) = quoted.next(&mut reader, &mut buffer).unwrap() {
            found.push(match line {
                Line::Text(text) => format!("{number}:{}", String::from_utf8_lossy(text)),
                Line::TooLong => format!("{number} too long"),
            });
        }
        found
    }

    #[test]
    fn a_record_ends_where_its_last_value_does() {
        let text =
            "at,note,url\r\n1,\"two\r\n\r\nlines, \"\"quoted\"\"\",/a\r\n2,\"\",/b\n3,x\"y,/c";
        for size in [1, 4, 100] {
            assert_eq!(
                records(text.as_bytes(), size),
                [
                    "1:at,note,url",
                    "2:1,\"two\n\nlines, \"\"quoted\"\"\",/a",
                    "5:2,\"\",/b",
                    "6:3,x\"y,/c"
                ]
            );
        }
        let header = "at,\"the\nnote\"\n1,\"\n\"\n2,b\n";
        assert_eq!(
            records(header.as_bytes(), 9),
            ["1:at,\"the\nnote\"", "3:1,\"\n\"", "5:2,b"]
        );
    }

    #[test]
    fn a_quote_that_nothing_closes_breaks_its_own_line_alone() {
        for (text, expected) in [
            // nothing behind it has a quote
            (
                "a,b\n1,\"x\n2,y\n3,z\n",
                &["1:a,b", "2:1,\"x", "3:2,y", "4:3,z"][..],
            ),
            // what would close it is the beginning of another value
            ("a,b\n1,\"x\n2,\"y\"\n", &["1:a,b", "2:1,\"x", "3:2,\"y\""]),
            // what closes it makes a record of other values
            (
                "a,b\n1,\"x\n2,3,y\",4\n5,6\n",
                &["1:a,b", "2:1,\"x", "3:2,3,y\",4", "4:5,6"],
            ),
        ] {
            assert_eq!(records(text.as_bytes(), 9), expected, "{text}");
        }
    }

    #[test]
    fn a_quote_without_end_does_not_fill_the_memory() {
        let line = format!("1,\"{}\n", "x".repeat(MAX_LINE_BYTES / 2));
        let text = format!("a,b\n{line}{line}{}\n2,y\n", "z".repeat(MAX_LINE_BYTES + 1));
        let found = records(text.as_bytes(), 4_096);
        let begins: Vec<&str> = found
            .iter()
            .map(|text| &text[..text.len().min(6)])
            .collect();
        assert_eq!(begins, ["1:a,b", "2:1,\"x", "3:1,\"x", "4 too ", "5:2,y"]);
    }

    #[test]
    fn of_a_beginning_only_whole_records_are_taken() {
        let head = b"a,b\n1,\"x\ny\"\n2,\"cut\noff";
        assert_eq!(
            first_records(head, None, 9),
            [b"a,b".to_vec(), b"1,\"x\ny\"".to_vec()]
        );
        assert_eq!(first_records(head, None, 1).len(), 1);
        assert_eq!(first_records(b"\"a", None, 9), [b"\"a"]);
    }

    proptest! {
        #[test]
        fn every_line_is_in_one_record(text in "[a,;\"\r\n]{0,80}", size in 1_usize..9) {
            let found = records(text.as_bytes(), size);
            prop_assert_eq!(&found, &records(text.as_bytes(), 200));
            let letters = |text: &str| text.bytes().filter(|byte| *byte == b'a').count();
            prop_assert_eq!(found.iter().map(|text| letters(text)).sum::<usize>(), letters(&text));
            let mut next = 1;
            for record in &found {
                let (number, text) = record.split_once(':').unwrap();
                prop_assert_eq!(number.parse::<usize>().unwrap(), next);
                next += text.split('\n').count();
            }
        }
    }
}
