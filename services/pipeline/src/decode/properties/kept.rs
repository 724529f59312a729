//! One pass over an event's object that writes what is kept of it.

use std::fmt::Write as _;
use std::ops::Range;

use super::PropertyLimits;
use super::json::{self, Cursor, Raw};
use super::used::Used;

/// A limit was reached.
#[derive(Clone, Copy)]
struct Full;

/// What becomes of an object when one of its entries does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entries {
    /// The entry is left out.
    OneByOne,
    /// The object is left out, with what it stands in.
    AllOrNothing,
}

/// What was written of an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Object {
    /// Entries.
    Filled,
    /// It had none.
    Empty,
    /// It lost its last entry, to a field or to a limit.
    Emptied,
}

/// An entry that was written.
struct Entry<'a> {
    key: &'a str,
    /// Where it begins and ends in what is written, without a comma.
    start: usize,
    end: usize,
}

/// What is kept of an event, as it is written.
pub(super) struct Kept<'a> {
    text: &'a str,
    out: String,
    /// What comes behind `out`: a piece of the text that is kept as it stands. Most of what is kept
    /// are few long pieces.
    run: Range<usize>,
    used: Used,
    /// The entries of the objects that are begun and not yet ended.
    entries: Vec<Entry<'a>>,
    limits: PropertyLimits,
    keys: u16,
    /// Objects and arrays that are begun and not yet ended: each takes a byte more.
    open: usize,
    trimmed: u32,
}

impl<'a> Kept<'a> {
    /// Nothing yet of an event's object, of which `used` became fields.
    pub(super) fn new(text: &'a str, used: &[Option<&str>], limits: PropertyLimits) -> Self {
        Self {
            text,
            // what most events come to, and no more than an object may
            out: String::with_capacity(usize::from(limits.bytes).min(512)),
            run: 0..0,
            used: Used::in_order(text, used),
            entries: Vec::with_capacity(8),
            limits,
            keys: 0,
            open: 0,
            trimmed: 0,
        }
    }

    /// Writes the event's object; whether anything of it is left.
    pub(super) fn event(&mut self) -> bool {
        let is_object = self.text.starts_with('{');
        let mut cursor = Cursor::new(self.text);
        is_object
            && matches!(
                self.object(&mut cursor, Entries::OneByOne),
                Ok(Object::Filled)
            )
    }

    /// What is written, and how many entries were left out or changed.
    pub(super) fn into_parts(mut self) -> (String, u32) {
        self.end_run();
        (self.out, self.trimmed)
    }

    /// Writes the object at the cursor, which is behind it afterwards. Where a limit was reached,
    /// the cursor is anywhere inside.
    fn object(&mut self, cursor: &mut Cursor<'a>, entries: Entries) -> Result<Object, Full> {
        self.begin(cursor)?;
        let first = self.entries.len();
        let (mut object, mut has_escapes) = (Object::Empty, false);
        while let Some(key) = cursor.key() {
            cursor.peek();
            if object == Object::Empty {
                object = Object::Emptied;
            }
            if entries == Entries::OneByOne
                && let Some(len) = self.used.at(cursor.at())
            {
                cursor.skip(len);
                continue;
            }
            let before = (self.out.len(), self.run.clone(), self.keys, self.open);
            let (trimmed, start, entries_before) = (self.trimmed, *cursor, self.entries.len());
            let is_kept = self.entry(object != Object::Filled, key, cursor, entries);
            if is_kept.is_err() && entries == Entries::AllOrNothing {
                return Err(Full);
            }
            if is_kept.is_ok_and(|is_kept| is_kept) {
                object = Object::Filled;
                has_escapes |= key.has_escapes;
                continue;
            }
            self.out.truncate(before.0);
            (self.run, self.keys, self.open) = (before.1, before.2, before.3);
            self.entries.truncate(entries_before);
            // what an object lost before it was left out itself is counted; else the entry is
            if is_kept.is_err() {
                self.trimmed = trimmed + 1;
                *cursor = start;
                cursor.value();
            }
        }
        // which keys are the same is not seen where some have escapes
        if !has_escapes {
            self.sort(first);
        }
        self.entries.truncate(first);
        self.end(cursor);
        Ok(object)
    }

    /// Writes an entry whose value is at the cursor; `false` if nothing of it was to be kept.
    fn entry(
        &mut self,
        is_first: bool,
        key: Raw<'a>,
        cursor: &mut Cursor<'a>,
        entries: Entries,
    ) -> Result<bool, Full> {
        if self.keys >= self.limits.keys {
            return Err(Full);
        }
        self.keys += 1;
        if !is_first {
            self.mark(b',', key.start.wrapping_sub(1));
        }
        let start = self.len();
        self.string(key);
        self.mark(b':', key.start + key.text.len());
        let object = self.value(cursor, entries)?;
        self.fits()?;
        self.entries.push(Entry {
            key: key.text,
            start,
            end: self.len(),
        });
        Ok(object != Object::Emptied)
    }

    /// Puts the entries of an object in order, from the first one on. Those with the same key stay
    /// in the order in which they came.
    fn sort(&mut self, first: usize) {
        let entries = &mut self.entries[first..];
        let order = |entry: &Entry<'a>| (entry.key.len(), entry.key);
        if !entries.is_sorted_by_key(order) {
            let start = entries[0].start;
            entries.sort_by_key(order);
            self.end_run();
            let end = self.out.len();
            for entry in &self.entries[first..] {
                self.out.extend_from_within(entry.start..entry.end);
                self.out.push(',');
            }
            self.out.pop();
            self.out.drain(start..end);
        }
    }

    /// Writes the value at the cursor. What is no object is as good as one that has entries.
    fn value(&mut self, cursor: &mut Cursor<'a>, entries: Entries) -> Result<Object, Full> {
        match cursor.peek() {
            Some(b'{') => return self.object(cursor, entries),
            Some(b'[') => self.array(cursor)?,
            Some(b'"') => self.string(cursor.string()),
            _ => self.scalar(cursor.value()),
        }
        Ok(Object::Filled)
    }

    fn array(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Full> {
        self.begin(cursor)?;
        let mut is_first = true;
        while cursor.peek().is_some() {
            if !is_first {
                self.mark(b',', cursor.at().wrapping_sub(1));
            }
            is_first = false;
            self.value(cursor, Entries::AllOrNothing)?;
            self.fits()?;
        }
        self.end(cursor);
        Ok(())
    }

    /// Writes the opening bracket at the cursor.
    fn begin(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Full> {
        if self.open >= usize::from(self.limits.depth) {
            return Err(Full);
        }
        self.open += 1;
        self.bracket(cursor);
        Ok(())
    }

    /// Writes the closing bracket at the cursor.
    fn end(&mut self, cursor: &mut Cursor<'a>) {
        self.open -= 1;
        self.bracket(cursor);
    }

    fn bracket(&mut self, cursor: &mut Cursor<'a>) {
        let start = cursor.at();
        // in a text that is no JSON anything may stand here, and be longer than a byte
        if self.text.is_char_boundary(start + 1) {
            cursor.skip(1);
            self.copy(start..cursor.at());
        }
    }

    /// Bytes that are written.
    fn len(&self) -> usize {
        self.out.len() + self.run.len()
    }

    /// Whether what is written, and all that is begun with its end, stays within the limit.
    fn fits(&self) -> Result<(), Full> {
        let len = self.len() + self.open;
        (len <= usize::from(self.limits.bytes))
            .then_some(())
            .ok_or(Full)
    }

    /// Writes a value that is no string, object or array.
    fn scalar(&mut self, raw: Raw<'a>) {
        if json::is_number(raw.text) && !json::is_moderate(raw.text) {
            self.trimmed += 1;
            self.end_run();
            // digits, a point, signs and an exponent need no escapes
            let _ = write!(self.out, "\"{}\"", raw.text);
        } else {
            self.copy(raw.start..raw.start + raw.text.len());
        }
    }

    fn string(&mut self, raw: Raw<'a>) {
        if !raw.has_escapes {
            return self.copy(raw.start..raw.start + raw.text.len());
        }
        self.end_run();
        if json::push_storable(&mut self.out, raw.text) {
            self.trimmed += 1;
        }
    }

    /// Writes a comma or a colon, which stands at this place of the text unless there is white
    /// space.
    fn mark(&mut self, mark: u8, place: usize) {
        if self.text.as_bytes().get(place) == Some(&mark) {
            return self.copy(place..place + 1);
        }
        self.end_run();
        self.out.push(char::from(mark));
    }

    /// Writes a piece of the text.
    #[inline]
    fn copy(&mut self, piece: Range<usize>) {
        if self.run.end == piece.start {
            self.run.end = piece.end;
        } else {
            self.end_run();
            self.run = piece;
        }
    }

    /// Puts the run behind what is written.
    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.out.push_str(self.text.get(run).unwrap_or_default());
    }
}
