//! UTF-16 as UTF-8: what some programs on Windows write, with a byte order mark in front.

use std::io::{self, BufRead as _, Read};

use super::packing::Bytes;

/// The byte order marks of UTF-16, and whether the high byte comes first.
const MARKS: [(&[u8], bool); 2] = [(b"\xff\xfe", false), (b"\xfe\xff", true)];

/// Reads text of 16-bit units. Halves of pairs become the replacement character, as an odd byte at
/// the end does.
pub struct Utf16 {
    units: Bytes,
    high_first: bool,
    /// The first half of a pair.
    half: Option<u16>,
    /// Bytes of `units` that can be had without waiting.
    ready: usize,
    /// Bytes that the last caller had no room for.
    left: Vec<u8>,
}

impl Utf16 {
    /// Whether these first bytes are a byte order mark of UTF-16: its length, and whether the high
    /// byte comes first.
    #[must_use]
    pub fn mark(head: &[u8]) -> Option<(usize, bool)> {
        let (mark, high_first) = MARKS.iter().find(|(mark, _)| head.starts_with(mark))?;
        Some((mark.len(), *high_first))
    }

    /// Text behind its byte order mark.
    pub fn new(units: Bytes, high_first: bool) -> Self {
        Self {
            units,
            high_first,
            half: None,
            ready: 0,
            left: Vec::new(),
        }
    }

    /// The next 16 bits, without waiting for more than those.
    fn unit(&mut self) -> io::Result<Option<u16>> {
        let mut bytes = [0; 2];
        let mut filled = 0;
        while filled < 2 {
            let there = self.units.fill_buf()?;
            if there.is_empty() {
                break;
            }
            let count = there.len().min(2 - filled);
            bytes[filled..filled + count].copy_from_slice(&there[..count]);
            self.ready = there.len() - count;
            self.units.consume(count);
            filled += count;
        }
        Ok(match filled {
            0 => None,
            1 => Some(0xfffd),
            _ if self.high_first => Some(u16::from_be_bytes(bytes)),
            _ => Some(u16::from_le_bytes(bytes)),
        })
    }

    fn push(&mut self, c: char) {
        self.left
            .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    /// Takes one unit; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        let Some(unit) = self.unit()? else {
            if self.half.take().is_some() {
                self.push(char::REPLACEMENT_CHARACTER);
            }
            return Ok(false);
        };
        if let Some(half) = self.half.take() {
            let pair = char::decode_utf16([half, unit]).next();
            if let Some(Ok(c)) = pair {
                self.push(c);
                return Ok(true);
            }
            self.push(char::REPLACEMENT_CHARACTER);
        }
        match char::decode_utf16([unit]).next() {
            Some(Ok(c)) => self.push(c),
            _ if (0xd800..0xdc00).contains(&unit) => self.half = Some(unit),
            _ => self.push(char::REPLACEMENT_CHARACTER),
        }
        Ok(true)
    }
}

impl Read for Utf16 {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // a caller waits for lines: what is there is handed over, and no more is waited for
        while self.left.len() < buffer.len() {
            let lines = self.ready < 2 && self.left.ends_with(b"\n");
            if lines || !self.step()? {
                break;
            }
        }
        let count = self.left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use std::io::{Cursor, Read as _};

    use proptest::prelude::*;

    use super::Utf16;

    fn read(bytes: Vec<u8>, high_first: bool) -> String {
        let mut text = String::new();
        Utf16::new(Box::new(Cursor::new(bytes)), high_first)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    proptest! {
        #[test]
        fn text_comes_out_as_it_was(text in "\\PC{0,80}") {
            let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
            prop_assert_eq!(&read(little, false), &text);
            prop_assert_eq!(&read(big, true), &text);
        }

        #[test]
        fn units_that_are_no_text_are_replaced(units: Vec<u16>, odd: bool) {
            let expected = String::from_utf16_lossy(&units);
            let mut bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let read_all = read(bytes.clone(), false);
            prop_assert_eq!(&read_all, &expected);
            if odd {
                bytes.push(b'a');
                let ends = read(bytes, false).ends_with(char::REPLACEMENT_CHARACTER);
                prop_assert!(ends);
            }
        }
    }
}
