//! What the first release reads: RFC 3339, the same with a space and no zone (as UTC), and epoch
//! milliseconds. Anchors of its time go on meaning it, so it stays as it is, messages included.

use super::{Unreadable, accepted, two};
use crate::event::{Day, EventTime, MICROS_PER_DAY};

const FORM: Unreadable = Unreadable::Form(
    "neither RFC 3339 nor `YYYY-MM-DD HH:MM:SS` in UTC nor integer epoch milliseconds",
);
const CALENDAR: Unreadable = Unreadable::Form("no such date or time of day");

/// Reads the raw text of a JSON number.
pub(in crate::decode) fn from_epoch_millis(raw: &str) -> Result<EventTime, Unreadable> {
    if raw.contains(['.', 'e', 'E']) {
        return Err(Unreadable::Form(
            "epoch milliseconds with a fraction or an exponent",
        ));
    }
    // an integer beyond i64 is as far out of range as an integer can be
    let millis: i64 = raw.parse().map_err(|_| Unreadable::OutOfRange)?;
    accepted(millis.checked_mul(1000).ok_or(Unreadable::OutOfRange)?)
}

/// Reads a timestamp in text form; decimals beyond microseconds are cut off, which floors the
/// instant, because a zone's offset is whole minutes.
pub(in crate::decode) fn from_text(text: &[u8]) -> Result<EventTime, Unreadable> {
    let Some((
        &[
            y1,
            y2,
            y3,
            y4,
            b'-',
            m1,
            m2,
            b'-',
            d1,
            d2,
            separator,
            h1,
            h2,
            b':',
            n1,
            n2,
            b':',
            s1,
            s2,
        ],
        rest,
    )) = text.split_first_chunk::<19>()
    else {
        return Err(FORM);
    };
    let two = |tens, ones| two(tens, ones).ok_or(FORM);
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    if !matches!(separator, b'T' | b't' | b' ') {
        return Err(FORM);
    }
    let (fraction_micros, zone) = fraction(rest)?;
    let offset_minutes = match *zone {
        [] if separator == b' ' => 0,
        [] => {
            return Err(Unreadable::Form(
                "RFC 3339 needs a zone: Z or an offset such as +02:00",
            ));
        }
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            if hours > 23 || minutes > 59 {
                return Err(CALENDAR);
            }
            let offset = hours * 60 + minutes;
            if sign == b'-' { -offset } else { offset }
        }
        _ => return Err(FORM),
    };
    // second 60 included: event time has no leap seconds
    if hour > 23 || minute > 59 || second > 59 {
        return Err(CALENDAR);
    }
    let day = Day::from_ymd(year, month, day).ok_or(CALENDAR)?;
    let seconds = hour * 3600 + (minute - offset_minutes) * 60 + second;
    // at most year 9999: about 2.5e17 microseconds, far inside i64
    accepted(
        i64::from(day.days()) * MICROS_PER_DAY
            + i64::from(seconds) * 1_000_000
            + i64::from(fraction_micros),
    )
}

/// The decimals after the seconds in microseconds, and what follows them.
fn fraction(rest: &[u8]) -> Result<(i32, &[u8]), Unreadable> {
    let [b'.', decimals @ ..] = rest else {
        return Ok((0, rest));
    };
    let count = decimals
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0 {
        return Err(FORM);
    }
    let (digits, zone) = decimals.split_at(count);
    let micros = (0..6).fold(0, |sum, place| {
        let digit = digits.get(place).map_or(0, |byte| i32::from(byte - b'0'));
        sum * 10 + digit
    });
    Ok((micros, zone))
}
