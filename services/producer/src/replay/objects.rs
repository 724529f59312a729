//! JSON objects however they are laid out: over several lines, in a list, one behind the other.

use std::io::{self, BufRead};

use super::input::{Line, MAX_LINE_BYTES};
use super::packing::Bytes;

/// Finds where objects begin and end; whether they are valid is for their reader to say.
#[derive(Debug, Default)]
pub struct Objects {
    /// Ends of lines so far.
    ends: u64,
}

/// Where in an object the next byte stands.
#[derive(Default)]
struct Place {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Place {
    /// Takes a byte; `true` where it ends the object.
    fn step(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
        } else if self.quoted {
            match byte {
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                // no text in JSON holds the end of a line: this one was cut off, and the next line
                // may be whole
                b'\n' => return true,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.quoted = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => return false,
            }
            return self.depth == 0;
        }
        false
    }
}

impl Objects {
    /// Reads the next object into `buffer`, and the number of the line on which it begins. What is
    /// no object, outside of all objects, is a line of its own up to where one begins or the line
    /// ends.
    pub fn next<'a>(
        &mut self,
        reader: &mut Bytes,
        buffer: &'a mut Vec<u8>,
    ) -> io::Result<Option<(u64, Line<'a>)>> {
        buffer.clear();
        let Some(first) = self.skip_between(reader)? else {
            return Ok(None);
        };
        let number = self.ends + 1;
        let mut place = Place::default();
        let mut too_long = false;
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let mut taken = 0;
            let mut over = false;
            for &byte in bytes {
                if first == b'{' {
                    over = place.step(byte);
                } else if byte == b'\n' || byte == b'{' {
                    // the rest of a line that is no object
                    over = true;
                    break;
                }
                self.ends += u64::from(byte == b'\n');
                taken += 1;
                if over {
                    break;
                }
            }
            let room = (MAX_LINE_BYTES + 1).saturating_sub(buffer.len());
            buffer.extend_from_slice(&bytes[..taken.min(room)]);
            too_long |= buffer.len() > MAX_LINE_BYTES;
            reader.consume(taken);
            if over {
                break;
            }
        }
        Ok(Some(if too_long {
            (number, Line::TooLong)
        } else {
            (number, Line::Text(buffer.as_slice()))
        }))
    }

    /// Passes over what stands between objects, and shows the byte behind it.
    fn skip_between(&mut self, reader: &mut Bytes) -> io::Result<Option<u8>> {
        loop {
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let between = |byte: &u8| byte.is_ascii_whitespace() || b"[],\0\x1e".contains(byte);
            let count = bytes.iter().take_while(|byte| between(byte)).count();
            let first = bytes.get(count).copied();
            self.ends += bytes[..count].iter().filter(|byte| **byte == b'\n').count() as u64;
            reader.consume(count);
            if first.is_some() {
                return Ok(first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use std::io::{BufReader, Cursor};

    use proptest::prelude::*;

    use super::Objects;
    use crate::replay::input::{Line, MAX_LINE_BYTES};
    use crate::replay::packing::Bytes;

    /// Objects as `LINE:TEXT`, read in pieces of this size.
    fn objects(text: &[u8], size: usize) -> Vec<String> {
        let mut reader: Bytes =
            Box::new(BufReader::with_capacity(size, Cursor::new(text.to_vec())));
        let (mut objects, mut buffer, mut found) = (Objects::default(), Vec::new(), Vec::new());
        while let Some((number, line)) = objects.next(&mut reader, &mut buffer).unwrap() {
            found.push(match line {
                Line::Text(text) => format!("{number}:{}", String::from_utf8_lossy(text)),
                Line::TooLong => format!("{number} too long"),
            });
        }
        found
    }

    #[test]
    fn objects_are_found_in_lists_and_over_several_lines() {
        let text = "[\n  {\n \"a\": \"}\\\"{\"\n },\n{\"b\": [1, {}]}, {}\n]\n";
        for size in [1, 3, 100] {
            assert_eq!(
                objects(text.as_bytes(), size),
                ["2:{\n \"a\": \"}\\\"{\"\n }", "5:{\"b\": [1, {}]}", "5:{}"]
            );
        }
        assert_eq!(objects(b"{}{}\n{\"a", 9), ["1:{}", "1:{}", "2:{\"a"]);
        assert_eq!(
            objects(b"{\"a\": \"cut\n{\"b\": 1}", 9),
            ["1:{\"a\": \"cut\n", "2:{\"b\": 1}"]
        );
        assert_eq!(
            objects(b"{}\nx y\n{}z{}", 9),
            ["1:{}", "2:x y", "3:{}", "3:z", "3:{}"]
        );
    }

    #[test]
    fn an_object_without_end_does_not_fill_the_memory() {
        let text = [b"{\"a\":\"".to_vec(), vec![b'x'; 3 * MAX_LINE_BYTES]].concat();
        assert_eq!(objects(&text, 9), ["1 too long"]);
    }

    proptest! {
        #[test]
        fn every_byte_that_is_something_is_in_one_object(text in "[\\[\\]{}\",:a\\\\\n ]{0,60}", size in 1_usize..9) {
            let found = objects(text.as_bytes(), size);
            prop_assert_eq!(&found, &objects(text.as_bytes(), 100));
            let letters = |text: &str| text.bytes().filter(|byte| *byte == b'a').count();
            prop_assert_eq!(found.iter().map(|object| letters(object)).sum::<usize>(), letters(&text));
        }
    }
}
