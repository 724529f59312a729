//! What the first release reads: RFC 3339, the same with a space and no zone (as UTC), and epoch
//! milliseconds. Anchors of its time go on meaning it, so it stays as it is, messages included.

use super::{CALENDAR, Unreadable, accepted, micros_of, moment, two};
use crate::event::EventTime;

const FORM: Unreadable = Unreadable::Form(
    "neither RFC 3339 nor `YYYY-MM-DD HH:MM:SS` in UTC nor integer epoch milliseconds",
);

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
    moment(
        [year, month, day],
        [hour, minute, second],
        fraction_micros,
        offset_minutes,
    )
}

/// The decimals after the seconds in microseconds, and what follows them.
fn fraction(rest: &[u8]) -> Result<(i32, &[u8]), Unreadable> {
    let [b'.', decimals @ ..] = rest else {
        return Ok((0, rest));
    };
    micros_of(decimals).ok_or(FORM)
}
