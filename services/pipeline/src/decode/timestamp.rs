//! The spellings of `event_ts`: numbers since 1970, ISO 8601 with its subset RFC 3339, and the
//! local time of web servers.

pub(super) mod first;
mod number;

use crate::event::{Day, EventTime, MICROS_PER_DAY};

/// Why a timestamp cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It breaks this rule of its spelling.
    Form(&'static str),
    /// It is an instant that events may not have.
    OutOfRange,
}

const FORM: Unreadable = Unreadable::Form(
    "no time in a known form, such as 2026-11-29T10:00:00.5Z, 2026-11-29 10:00:00 UTC, 29/Nov/2026:10:00:00 +0100 or a \
     number of seconds, milliseconds, microseconds or nanoseconds since 1970",
);
const CALENDAR: Unreadable = Unreadable::Form("no such date or time of day");

/// English, as web servers write them in every locale.
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Reads the raw text of a JSON number.
pub(super) fn from_number(raw: &str) -> Result<EventTime, Unreadable> {
    number::read(raw.as_bytes())
}

/// Reads a timestamp in text form. Decimals beyond microseconds are cut off, which floors the
/// instant, because a zone's offset is whole minutes.
pub(super) fn from_text(text: &[u8]) -> Result<EventTime, Unreadable> {
    match text {
        [_, _, _, _, b'-', ..] => iso(text),
        [b'[', local @ .., b']'] => web_server(local),
        [_, _, b'/', ..] => web_server(text),
        _ => number::read(text),
    }
}

/// `YYYY-MM-DD`, `T` or a space, `HH:MM:SS`; decimals or none; a zone or none, which is UTC.
fn iso(text: &[u8]) -> Result<EventTime, Unreadable> {
    let Some((&[date @ .., separator, _, _, _, _, _, _, _, _], _)) = text.split_first_chunk::<19>()
    else {
        return Err(FORM);
    };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else {
        return Err(FORM);
    };
    if !matches!(separator, b'T' | b't' | b' ') {
        return Err(FORM);
    }
    let month = two(m1, m2).ok_or(FORM)?;
    instant([y1, y2, y3, y4], month, [d1, d2], &text[11..], false)
}

/// `DD/Mon/YYYY:HH:MM:SS` with decimals or none, and the zone, without which it could be any.
fn web_server(text: &[u8]) -> Result<EventTime, Unreadable> {
    let Some((&[d1, d2, b'/', m1, m2, m3, b'/', y1, y2, y3, y4, b':'], time)) =
        text.split_first_chunk::<12>()
    else {
        return Err(FORM);
    };
    let month = MONTHS.iter().position(|name| **name == [m1, m2, m3]);
    let month = month.ok_or(FORM)? as i32 + 1;
    instant([y1, y2, y3, y4], month, [d1, d2], time, true)
}

/// The instant of a date and of what follows it: the time of day and the zone.
fn instant(
    [y1, y2, y3, y4]: [u8; 4],
    month: i32,
    [d1, d2]: [u8; 2],
    time: &[u8],
    zone_is_needed: bool,
) -> Result<EventTime, Unreadable> {
    let Some((&[h1, h2, b':', n1, n2, b':', s1, s2], rest)) = time.split_first_chunk::<8>() else {
        return Err(FORM);
    };
    let two = |tens, ones| two(tens, ones).ok_or(FORM);
    let (year, day) = (two(y1, y2)? * 100 + two(y3, y4)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    let (fraction_micros, zone) = fraction(rest)?;
    if zone_is_needed && zone.is_empty() {
        return Err(Unreadable::Form("the zone is missing, such as +0100"));
    }
    let offset_minutes = offset(zone)?;
    moment(
        [year, month, day],
        [hour, minute, second],
        fraction_micros,
        offset_minutes,
    )
}

/// The instant of a date and a time of day in a zone that is so many minutes ahead of UTC.
fn moment(
    [year, month, day]: [i32; 3],
    [hour, minute, second]: [i32; 3],
    fraction_micros: i32,
    offset_minutes: i32,
) -> Result<EventTime, Unreadable> {
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
    let [b'.' | b',', decimals @ ..] = rest else {
        return Ok((0, rest));
    };
    micros_of(decimals).ok_or(FORM)
}

/// What digits behind the point say in microseconds, and what follows them; there must be one.
fn micros_of(decimals: &[u8]) -> Option<(i32, &[u8])> {
    let count = decimals
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0 {
        return None;
    }
    let (digits, zone) = decimals.split_at(count);
    let micros = (0..6).fold(0, |sum, place| {
        let digit = digits.get(place).map_or(0, |byte| i32::from(byte - b'0'));
        sum * 10 + digit
    });
    Some((micros, zone))
}

/// How many minutes a zone is ahead of UTC. There may be a space in front of it.
fn offset(zone: &[u8]) -> Result<i32, Unreadable> {
    let (sign, hours, minutes) = match zone.strip_prefix(b" ").unwrap_or(zone) {
        [] if zone.is_empty() => return Ok(0),
        b"Z" | b"z" | b"UTC" | b"GMT" => return Ok(0),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, two(*h1, *h2), Some(0)),
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] | [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            (sign, two(*h1, *h2), two(*m1, *m2))
        }
        _ => return Err(FORM),
    };
    let (hours, minutes) = (hours.ok_or(FORM)?, minutes.ok_or(FORM)?);
    if hours > 23 || minutes > 59 {
        return Err(CALENDAR);
    }
    let minutes = hours * 60 + minutes;
    Ok(if *sign == b'-' { -minutes } else { minutes })
}

fn accepted(micros: i64) -> Result<EventTime, Unreadable> {
    let time = EventTime::from_micros(micros);
    if time.is_accepted() {
        Ok(time)
    } else {
        Err(Unreadable::OutOfRange)
    }
}

/// Two ASCII digits as a number.
fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i32::from(tens) * 10 + i32::from(ones))
}
