//! Reading text that is proved to be JSON already. On any other text the result is useless, and
//! nothing panics.

/// A place in an object or in an array: at its opening bracket, before or behind a value inside of
/// it, or at its closing bracket.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of a text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes of the text before it.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Moves behind so many bytes, at most to the end of the text.
    pub(super) fn skip(&mut self, len: usize) {
        self.at = self.text.len().min(self.at + len);
    }

    /// Moves to the next key or value and tells its first byte; `None` at the closing bracket.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match *bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => self.at += 1,
                b'}' | b']' => return None,
                first => return Some(first),
            }
        }
    }

    /// The raw key of the next entry.
    #[inline]
    pub(super) fn key(&mut self) -> Option<Raw<'a>> {
        (self.peek()? == b'"').then(|| self.string())
    }

    /// The raw string that begins here.
    #[inline]
    pub(super) fn string(&mut self) -> Raw<'a> {
        let (len, has_escapes) = string_length(self.rest());
        self.take(len, has_escapes)
    }

    /// The raw value that begins here.
    pub(super) fn value(&mut self) -> Raw<'a> {
        let (len, has_escapes) = length(self.rest());
        self.take(len, has_escapes)
    }

    fn take(&mut self, len: usize, has_escapes: bool) -> Raw<'a> {
        let start = self.at;
        self.skip(len);
        Raw {
            text: self.text.get(start..self.at).unwrap_or_default(),
            start,
            has_escapes,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// A raw value, or a raw key with its quotes.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) text: &'a str,
    /// Bytes before it.
    pub(super) start: usize,
    /// Whether it is a string with escapes.
    pub(super) has_escapes: bool,
}

/// Bytes of the value at the start of a text, and whether it is a string with escapes.
fn length(text: &[u8]) -> (usize, bool) {
    match text.first() {
        Some(b'"') => string_length(text),
        Some(b'{' | b'[') => (nested_length(text), false),
        _ => {
            let is_end = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let len = text.iter().position(is_end);
            (len.unwrap_or(text.len()), false)
        }
    }
}

/// Bytes of the object or array at the start of a text.
fn nested_length(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(found) = text.get(at..).and_then(|rest| {
        rest.iter()
            .position(|b| matches!(b, b'"' | b'{' | b'[' | b'}' | b']'))
    }) {
        at += found;
        match text[at] {
            b'"' => at += string_length(&text[at..]).0,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            _ => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return at;
                }
            }
        }
    }
    text.len()
}

/// Bytes of the string at the start of a text, quotes included, and whether it has escapes.
fn string_length(text: &[u8]) -> (usize, bool) {
    let (mut at, mut has_escapes) = (1, false);
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if text[at] == b'"' {
            return (at + 1, has_escapes);
        }
        has_escapes = true;
        at += 2;
    }
    (text.len(), has_escapes)
}

/// Whether a raw value is a number: no other value begins like one.
pub(super) fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// Most digits before the point and behind it of a number that stays a number. A 64-bit float needs
/// 324; PostgreSQL's
/// `numeric` takes many more, but writes each of them out.
const MOST_DIGITS: i64 = 400;

/// Whether a raw number has at most so many digits when it is written without exponent.
pub(super) fn is_moderate(raw: &str) -> bool {
    let (digits, exponent) = match memchr::memchr2(b'e', b'E', raw.as_bytes()) {
        Some(at) => (&raw[..at], exponent(&raw[at + 1..])),
        None if raw.len() as i64 <= MOST_DIGITS => return true,
        None => (raw, 0),
    };
    let digits = digits.trim_start_matches('-');
    let (before, behind) = digits.split_once('.').unwrap_or((digits, ""));
    // a text of a record is far shorter than i64 can count
    let (before, behind) = (before.len() as i64, behind.len() as i64);
    before.saturating_add(exponent) <= MOST_DIGITS
        && behind.saturating_sub(exponent) <= MOST_DIGITS
        && before + behind <= 2 * MOST_DIGITS
}

/// The value of an exponent, as large as one can be when it is larger.
pub(super) fn exponent(text: &str) -> i64 {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.trim_start_matches('+')),
    };
    let value = digits.parse().unwrap_or(i64::MAX);
    if is_negative { -value } else { value }
}

/// Appends a raw string as `jsonb` takes it; whether anything had to be replaced.
pub(super) fn push_storable(out: &mut String, raw: &str) -> bool {
    let mut rest = raw;
    let mut is_changed = false;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(unit) = unit(rest) else {
            // one of the short escapes
            let len = rest.len().min(2);
            let (escape, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
            out.push_str(escape);
            rest = after;
            continue;
        };
        let pair = rest.get(6..).and_then(self::unit);
        let len = match (unit, pair) {
            (0xd800..=0xdbff, Some(0xdc00..=0xdfff)) => 12,
            (0 | 0xd800..=0xdfff, _) => {
                out.push(char::REPLACEMENT_CHARACTER);
                is_changed = true;
                rest = &rest[6..];
                continue;
            }
            _ => 6,
        };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out.push_str(rest);
    is_changed
}

/// The UTF-16 unit of an escape at the start of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}
