//! A number since 1970, whose size tells its unit.
//!
//! The years 2000 to 2099 are the seconds from 946,684,800 to 4,102,444,799, so before the decimal
//! point stand
//!
//! ```text
//! 9 or 10 digits    seconds          12 or 13    milliseconds
//! 15 or 16          microseconds     18 or 19    nanoseconds
//! ```
//! and no number of digits belongs to two units. Whatever the unit, the microseconds are the first
//! 15 or 16 digits, with zeros for those that are not written; what is cut off behind them only
//! floors the instant. So the digits are never computed with before they are microseconds, and
//! nothing is rounded.

use super::{FORM, Unreadable, accepted};
use crate::event::EventTime;

/// Reads a number as JSON writes it.
pub(super) fn read(text: &[u8]) -> Result<EventTime, Unreadable> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&text[..at], exponent(&text[at + 1..]).ok_or(FORM)?),
        None => (text, 0),
    };
    let (whole, decimals) = match mantissa.iter().position(|&byte| byte == b'.') {
        Some(at) if at + 1 < mantissa.len() => (&mantissa[..at], &mantissa[at + 1..]),
        Some(_) => return Err(FORM),
        None => (mantissa, &[][..]),
    };
    let mut digits = whole.iter().chain(decimals);
    if whole.is_empty() || !digits.clone().all(u8::is_ascii_digit) {
        return Err(FORM);
    }
    let leading = digits.clone().take_while(|&&byte| byte == b'0').count();
    // how many digits stand before the point, once there is no zero in front and the exponent is
    // applied; a payload is at most 16 MiB, so this is far inside i64
    let point = whole.len() as i64 - leading as i64 + exponent;
    let count = match point {
        9 | 12 | 15 | 18 => 15,
        10 | 13 | 16 | 19 => 16,
        _ => return Err(Unreadable::OutOfRange),
    };
    if negative {
        return Err(Unreadable::OutOfRange);
    }
    if leading > 0 {
        digits.nth(leading - 1);
    }
    // 16 digits are below 1e16, inside i64
    let micros = (0..count).fold(0, |sum, _| {
        sum * 10 + digits.next().map_or(0, |byte| i64::from(byte - b'0'))
    });
    accepted(micros)
}

/// The power of ten behind the `e`. Beyond a billion any number is out of range, however many
/// digits it has.
fn exponent(text: &[u8]) -> Option<i64> {
    const MOST: i64 = 1_000_000_000;
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let power = digits.iter().fold(0, |sum: i64, byte| {
        (sum * 10 + i64::from(byte - b'0')).min(MOST)
    });
    Some(if negative { -power } else { power })
}
