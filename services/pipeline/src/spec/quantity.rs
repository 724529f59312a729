//! The two quantities of the spec, written as people write them: `1m30s` and `32Mi`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no quantity; each says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The text has no number where one has to stand.
    #[error("`{0}` is no duration; write numbers with units, such as 10s, 500ms or 1h30m")]
    NoDuration(String),
    /// A number without a unit.
    #[error("`{0}` has no unit; write ms, s, m or h behind each number, such as 10s")]
    NoUnit(String),
    /// A unit that durations do not have.
    #[error("`{0}` is no unit of time; use us, ms, s, m or h (a day is 24h)")]
    UnknownTimeUnit(String),
    /// A duration that is not a whole number of microseconds.
    #[error("`{0}` is finer than a microsecond; round it to whole microseconds")]
    TooFine(String),
    /// The text is no byte quantity.
    #[error("`{0}` is no byte quantity; write a whole number, or one with Ki, Mi, Gi, k, M or G")]
    NoBytes(String),
    /// A unit that byte quantities do not have.
    #[error("`{0}` is no unit of bytes; use Ki, Mi, Gi, Ti, k, M, G or T, or none")]
    UnknownByteUnit(String),
    /// The number does not fit into 63 bits.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// A span of time, never negative, in microseconds; written the way Go does (`1m30s`, `10s`,
/// `500ms`, `168h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// This many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        // 2^32 seconds are 4.3e15 microseconds, inside i64
        Self(seconds as i64 * 1_000_000)
    }

    /// This many hours.
    #[must_use]
    pub const fn from_hours(hours: u32) -> Self {
        // 2^32 hours are 1.5e19 microseconds, beyond i64: the cap is 292 thousand years
        Self((hours as i64).saturating_mul(3_600_000_000))
    }

    /// Microseconds.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The same span for timers.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        // no constructor and no parser lets a negative number in
        std::time::Duration::from_micros(self.0.unsigned_abs())
    }
}

/// The units of a duration in nanoseconds, as Go has them.
const TIME_UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Duration {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let too_large = || QuantityError::TooLarge(text.to_owned());
        let mut rest = text;
        let mut nanos: i128 = 0;
        loop {
            let (number, after) = split_at_first(rest, |c| !c.is_ascii_digit() && c != '.');
            if number.is_empty() {
                return Err(QuantityError::NoDuration(text.to_owned()));
            }
            let (unit, after) = split_at_first(after, |c| !c.is_alphabetic());
            if unit.is_empty() {
                return Err(QuantityError::NoUnit(text.to_owned()));
            }
            let Some((_, factor)) = TIME_UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(QuantityError::UnknownTimeUnit(unit.to_owned()));
            };
            let part = match scaled(number, *factor) {
                Scaled::Whole(part) => part,
                Scaled::Fraction => return Err(QuantityError::TooFine(text.to_owned())),
                Scaled::Malformed => return Err(QuantityError::NoDuration(text.to_owned())),
                Scaled::TooLarge => return Err(too_large()),
            };
            nanos = nanos.checked_add(part).ok_or_else(too_large)?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        if nanos % 1000 != 0 {
            return Err(QuantityError::TooFine(text.to_owned()));
        }
        i64::try_from(nanos / 1000)
            .map(Self)
            .map_err(|_| too_large())
    }
}

impl fmt::Display for Duration {
    /// The shortest spelling in whole units: `1m30s`, `168h`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, micros) in [
            ("h", 3_600_000_000),
            ("m", 60_000_000),
            ("s", 1_000_000),
            ("ms", 1_000),
            ("us", 1),
        ] {
            if rest >= micros {
                write!(f, "{}{unit}", rest / micros)?;
                rest %= micros;
            }
        }
        Ok(())
    }
}

/// A number of bytes; written the way Kubernetes does (`32Mi`, `1Gi`, `64k`, or a plain integer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// This many bytes.
    #[must_use]
    pub const fn new(bytes: u32) -> Self {
        Self(bytes as u64)
    }

    /// This many mebibytes.
    #[must_use]
    pub const fn from_mebi(mebibytes: u32) -> Self {
        Self((mebibytes as u64) << 20)
    }

    /// The number of bytes; at most `i64::MAX`.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; what no memory can hold becomes the largest
    /// length.
    #[must_use]
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The units of bytes that are powers of 1024, largest first, as Kubernetes spells them.
const BINARY_UNITS: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];

/// The units of bytes that are powers of 1000.
const DECIMAL_UNITS: [(&str, i128); 7] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split_at_first(text, |c| !c.is_ascii_digit() && c != '.');
        if number.is_empty() {
            return Err(QuantityError::NoBytes(text.to_owned()));
        }
        let mut units = BINARY_UNITS.iter().chain(&DECIMAL_UNITS);
        let Some((_, factor)) = units.find(|(name, _)| *name == unit) else {
            return Err(QuantityError::UnknownByteUnit(unit.to_owned()));
        };
        match scaled(number, *factor) {
            Scaled::Whole(bytes) => i64::try_from(bytes)
                .map(|bytes| Self(bytes.unsigned_abs()))
                .map_err(|_| QuantityError::TooLarge(text.to_owned())),
            Scaled::TooLarge => Err(QuantityError::TooLarge(text.to_owned())),
            Scaled::Fraction | Scaled::Malformed => Err(QuantityError::NoBytes(text.to_owned())),
        }
    }
}

impl fmt::Display for Bytes {
    /// The largest unit that leaves a whole number: `32Mi`, `1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = i128::from(self.0);
        let unit = BINARY_UNITS
            .iter()
            .find(|(_, factor)| bytes != 0 && bytes % factor == 0);
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", bytes / factor),
            None => write!(f, "{bytes}"),
        }
    }
}

/// A decimal number times a unit.
enum Scaled {
    Whole(i128),
    Fraction,
    Malformed,
    TooLarge,
}

/// Multiplies `number` (digits with at most one point among them) by `factor`, exactly.
fn scaled(number: &str, factor: i128) -> Scaled {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let decimals = decimals.trim_end_matches('0');
    if decimals.contains('.') || whole.is_empty() || (number.ends_with('.')) {
        return Scaled::Malformed;
    }
    // 18 digits behind the point and 19 before it keep every product below inside i128
    if decimals.len() > 18 {
        return Scaled::Fraction;
    }
    let (Ok(whole), Ok(decimals), Ok(places)) = (
        whole.parse::<u64>(),
        format!("0{decimals}").parse::<u64>(),
        u32::try_from(decimals.len()),
    ) else {
        return Scaled::TooLarge;
    };
    let fraction = i128::from(decimals) * factor;
    let divisor = 10_i128.pow(places);
    if fraction % divisor != 0 {
        return Scaled::Fraction;
    }
    i128::from(whole)
        .checked_mul(factor)
        .and_then(|whole| whole.checked_add(fraction / divisor))
        .map_or(Scaled::TooLarge, Scaled::Whole)
}

fn split_at_first(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(TextOrInteger("a duration such as 10s"))?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(TextOrInteger("a byte quantity such as 32Mi"))?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Takes the text of a quantity, also where YAML reads it as an integer.
struct TextOrInteger(&'static str);

impl Visitor<'_> for TextOrInteger {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

#[cfg(test)]
mod tests;
