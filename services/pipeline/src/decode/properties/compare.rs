//! Whether two texts are the same JSON for PostgreSQL's `jsonb`, which keeps neither white space
//! nor the order of keys nor how a number was written.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json;

/// Deeper values are compared as they are written.
const MAX_DEPTH: usize = 64;

/// Whether two JSON texts have the same value: objects with the last of repeated keys in any order,
/// numbers by what they are and not how they are written. Texts that are no JSON are the same when
/// they are equal.
#[must_use]
pub fn is_same_json(left: &str, right: &str) -> bool {
    left == right || canonical(left, MAX_DEPTH) == canonical(right, MAX_DEPTH)
}

#[derive(PartialEq, Eq)]
enum Canonical<'a> {
    Text(String),
    Number(Number),
    Object(BTreeMap<String, Canonical<'a>>),
    Array(Vec<Canonical<'a>>),
    Raw(&'a str),
}

/// `digits * 10^exponent`, without zeros at either end of the digits.
#[derive(PartialEq, Eq)]
struct Number {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

fn canonical(raw: &str, depth: usize) -> Canonical<'_> {
    let raw = raw.trim();
    let Some(below) = depth.checked_sub(1) else {
        return Canonical::Raw(raw);
    };
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_or(Canonical::Raw(raw), Canonical::Text),
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) {
            Ok(entries) => Canonical::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, canonical(value.get(), below)))
                    .collect(),
            ),
            Err(_) => Canonical::Raw(raw),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(raw) {
            Ok(elements) => Canonical::Array(
                elements
                    .into_iter()
                    .map(|value| canonical(value.get(), below))
                    .collect(),
            ),
            Err(_) => Canonical::Raw(raw),
        },
        _ if json::is_number(raw) => Canonical::Number(number(raw)),
        _ => Canonical::Raw(raw),
    }
}

fn number(raw: &str) -> Number {
    let (mantissa, exponent) = match raw.find(['e', 'E']) {
        Some(at) => (&raw[..at], json::exponent(&raw[at + 1..])),
        None => (raw, 0),
    };
    let is_negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{before}{behind}");
    let end = digits.trim_end_matches('0').len();
    let zeros = (digits.len() - end) as i64;
    let digits = digits[..end].trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Number {
            is_negative: false,
            digits,
            exponent: 0,
        };
    }
    Number {
        is_negative,
        digits,
        exponent: exponent
            .saturating_sub(behind.len() as i64)
            .saturating_add(zeros),
    }
}
