//! The spellings in which logs write a time.

use chrono::{DateTime, NaiveDateTime, Timelike as _};

/// Units of numbers since the Unix epoch, told apart by magnitude: the years 2000 to 2099 do not
/// overlap. The first number that is no longer this unit, and nanoseconds in one of the unit.
const UNITS: [(u64, i128); 3] = [
    (100_000_000_000, 1_000_000_000),
    (100_000_000_000_000, 1_000_000),
    (100_000_000_000_000_000, 1_000),
];

/// What is read, for messages.
pub const FORMS: &str = "seconds, milliseconds, microseconds or nanoseconds since 1970, \
    20/Nov/2026:10:00:01 +0000, 2026-11-20T10:00:01.5Z and 2026-11-20 10:00:01, with a zone or \
    without";

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Microseconds since the Unix epoch, of any spelling that is known: a number,
/// `17/May/2015:10:05:03 +0000` with or without brackets, RFC 3339, `2015-05-17 10:05:03.5` with or
/// without a zone, which is UTC where there is none.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    clf(text.as_bytes())
        .or_else(|| number(text))
        .or_else(|| calendar(text))
}

/// The local time of Apache and nginx: `17/May/2015:10:05:03 +0000`. Most lines of most logs hold
/// one.
#[must_use]
pub fn clf(text: &[u8]) -> Option<i64> {
    let (date, zone) = text.split_at_checked(20)?;
    let separators = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':')];
    if separators.iter().any(|&(at, byte)| date[at] != byte) {
        return None;
    }
    let day = digits(&date[0..2])?;
    let month = MONTHS
        .iter()
        .position(|name| name.as_slice() == &date[3..6])?;
    let year = digits(&date[7..11])?;
    let (hour, minute) = (digits(&date[12..14])?, digits(&date[15..17])?);
    let second = digits(&date[18..20])?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day)?;
    let east = match zone {
        [] => 0,
        [b' ', sign @ (b'+' | b'-'), rest @ ..] if rest.len() == 4 => {
            let (hours, minutes) = (digits(&rest[..2])?, digits(&rest[2..])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -east } else { east }
        }
        _ => return None,
    };
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second - east) * 1_000_000)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Days from the Unix epoch to a day of the Gregorian calendar, if there is such a day; `month`
/// counts from 0.
fn days(year: i64, month: usize, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 => 28 + i64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    };
    if day < 1 || day > length {
        return None;
    }
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let past = year - 1;
    let whole = past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    // 719,162 days lie between 0001-01-01 and 1970-01-01
    Some(whole - 719_162 + BEFORE[month] + i64::from(leap && month > 1) + day - 1)
}

/// RFC 3339, and its looser relatives.
fn calendar(text: &str) -> Option<i64> {
    let instant = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
        .map(|instant| instant.to_utc())
        .ok()
        .or_else(|| {
            // `2026-11-20 10:00:01.123 UTC`, and Go's `2026-11-20 10:00:01.123 +0000 UTC`
            let text = [" UTC", " GMT", "Z"]
                .iter()
                .find_map(|zone| text.strip_suffix(zone))
                .unwrap_or(text);
            ["%Y-%m-%d %H:%M:%S%.f %z", "%Y-%m-%d %H:%M:%S%.f%z"]
                .iter()
                .find_map(|form| DateTime::parse_from_str(text, form).ok())
                .map(|instant| instant.to_utc())
                .or_else(|| {
                    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
                        .iter()
                        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
                        .map(|instant| instant.and_utc())
                })
        });
    // second 60 is left to the decoder, which refuses it
    instant
        .filter(|instant| instant.nanosecond() < 1_000_000_000)
        .map(|instant| instant.timestamp_micros())
}

/// Seconds, milliseconds, microseconds or nanoseconds since the epoch, with decimals, floored to
/// microseconds.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = text
        .strip_prefix('-')
        .map_or((false, text), |digits| (true, digits));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 19 || !numeric(whole) || !numeric(decimals) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let unit = UNITS
        .iter()
        .find(|(above, _)| whole < *above)
        .map_or(1, |(_, nanos)| *nanos);
    // nine decimals; anything behind them only matters to the floor of a negative number
    let nine = decimals.bytes().chain(std::iter::repeat(b'0')).take(9);
    let billionths = nine.fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    let rest = decimals.bytes().skip(9).any(|digit| digit != b'0');
    let scaled = i128::from(whole) * 1_000_000_000 + billionths;
    let scaled = if negative {
        -scaled - i128::from(rest)
    } else {
        scaled
    };
    // billionths of the unit, times nanoseconds in it, make billionths of a nanosecond
    let micros = (scaled * unit).div_euclid(1_000_000_000_000);
    i64::try_from(micros).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{clf, parse};

    /// 2026-11-20T10:00:01.5Z
    const MICROS: i64 = 1_795_168_801_500_000;

    #[test]
    fn one_instant_in_all_its_spellings() {
        for text in [
            "1795168801.5",
            "1795168801500",
            "1795168801500000",
            "1795168801500000000",
            "2026-11-20T10:00:01.5Z",
            "2026-11-20T10:00:01.500+00:00",
            "2026-11-20T10:00:01.500+0000",
            "2026-11-20T18:00:01.5+08:00",
            "2026-11-20T10:00:01.5",
            "2026-11-20 10:00:01.5",
            "2026-11-20 10:00:01.500 UTC",
            "2026-11-20 10:00:01.500Z",
            "2026-11-20 10:00:01.500+00:00",
            "2026-11-20 10:00:01.500 +0000",
            "2026-11-20 10:00:01.500 +0000 UTC",
        ] {
            assert_eq!(parse(text), Some(MICROS), "{text}");
        }
        for text in [
            "20/Nov/2026:10:00:01 +0000",
            "[20/Nov/2026:11:30:01 +0130]",
            "20/Nov/2026:10:00:01",
        ] {
            assert_eq!(parse(text), Some(MICROS - 500_000), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "yesterday",
            "2016-12-31T23:59:60Z",
            "1e99",
            "99999999999999999999",
            "31/Feb/2026:10:00:01 +0000",
            "29/Feb/2100:10:00:01 +0000",
            "20/Nov/2026:24:00:01 +0000",
            "20/Nov/2026:10:00:01 +00",
            "20/Mai/2026:10:00:01 +0000",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn local_times_are_those_of_the_calendar(seconds in -62_135_596_800_i64..253_402_300_800, east in -1439_i32..1440) {
            let zone = chrono::FixedOffset::east_opt(east * 60).unwrap_or(chrono::FixedOffset::east_opt(0).ok_or(TestCaseError::fail("utc"))?);
            let time = chrono::DateTime::from_timestamp(seconds, 0).ok_or(TestCaseError::fail("time"))?.with_timezone(&zone);
            let text = time.format("%d/%b/%Y:%H:%M:%S %z").to_string();
            // years before 0 and after 9999 have another length
            if text.len() == 26 {
                prop_assert_eq!(clf(text.as_bytes()), Some(seconds * 1_000_000), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
