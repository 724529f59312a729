//! Reading text that is proved to be JSON already. On any other text the result is useless, and
//! nothing panics.

/// A place between the entries of an object, or between the elements of an array.
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// Behind the opening bracket of an object or an array.
    pub(super) fn inside(text: &'a str) -> Self {
        Self {
            rest: text.get(1..).unwrap_or_default(),
        }
    }

    /// The raw key and the raw value of the next entry.
    pub(super) fn entry(&mut self) -> Option<(&'a str, &'a str)> {
        let key = self.element()?;
        let value = self.element()?;
        Some((key, value))
    }

    /// The next raw value; `None` at the closing bracket.
    pub(super) fn element(&mut self) -> Option<&'a str> {
        let bytes = self.rest.as_bytes();
        let between = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':');
        let start = bytes.iter().position(|b| !between(b))?;
        if matches!(bytes[start], b'}' | b']') {
            return None;
        }
        let end = start + length(&bytes[start..]);
        let value = self.rest.get(start..end)?;
        self.rest = self.rest.get(end..)?;
        Some(value)
    }
}

/// Bytes of the value at the start of a text.
fn length(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_length(text),
        Some(b'{' | b'[') => {
            let (mut at, mut depth) = (0, 0_usize);
            while let Some(found) = text.get(at..).and_then(|rest| {
                rest.iter()
                    .position(|b| matches!(b, b'"' | b'{' | b'[' | b'}' | b']'))
            }) {
                at += found;
                match text[at] {
                    b'"' => at += string_length(&text[at..]),
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
        _ => text
            .iter()
            .position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(text.len()),
    }
}

/// Bytes of the string at the start of a text, quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
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
    let (digits, exponent) = match raw.find(['e', 'E']) {
        Some(at) => (&raw[..at], exponent(&raw[at + 1..])),
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
