//! The hand-written reader of `event_ts` against chrono.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

/// The instant in microseconds, whichever it is; `None` for a form that is not ours. Written with
/// chrono alone.
pub(super) fn oracle(text: &str) -> Option<i64> {
    // chrono takes three things that we do not: U+2212 as a sign, second 60, and what is left of a
    // longer text
    if !text.is_ascii() || text.get(17..19) == Some("60") {
        return None;
    }
    let has_zone = text
        .get(19..)
        .is_some_and(|rest| rest.contains(['Z', 'z', '+', '-']));
    let zoned = if text.get(10..11) == Some(" ") && !has_zone {
        format!("{text}Z")
    } else {
        text.to_owned()
    };
    Some(
        DateTime::parse_from_rfc3339(&zoned)
            .ok()?
            .timestamp_micros(),
    )
}

fn verdict(raw: &str) -> Result<i64, RejectReason> {
    let payload = with("event_ts", raw);
    // received at the end of time, so that nothing is in the future
    let received_at = EventTime::from_micros(i64::MAX);
    let event = FIRST.decode(payload.as_bytes(), received_at);
    event
        .map(|event| event.event_ts.micros())
        .map_err(|rejected| rejected.reason)
}

fn text_verdict(text: &str) -> Result<i64, RejectReason> {
    verdict(&serde_json::to_string(text).unwrap())
}

fn expected(text: &str) -> Result<i64, RejectReason> {
    let micros = oracle(text).ok_or(RejectReason::InvalidField)?;
    let accepted = EventTime::from_micros(micros).is_accepted();
    if accepted {
        Ok(micros)
    } else {
        Err(RejectReason::TimestampOutOfRange)
    }
}

#[test]
fn every_spelling_of_an_instant_is_the_same_instant() {
    let micros = 1_709_164_800_123_456;
    for text in [
        "2024-02-29T00:00:00.123456Z",
        "2024-02-29t00:00:00.123456z",
        "2024-02-29 00:00:00.123456Z",
        "2024-02-29 00:00:00.123456",
        "2024-02-29T00:00:00.12345699999999999999999999Z",
        "2024-02-28T23:30:00.123456-00:30",
        "2024-02-29T14:00:00.123456+14:00",
        "2024-02-29 23:59:00.123456+23:59",
        "2024-02-29T00:00:00.123456-00:00",
    ] {
        assert_eq!(text_verdict(text), Ok(micros), "{text}");
    }
    assert_eq!(
        text_verdict("2024-02-29T00:00:00Z"),
        Ok(1_709_164_800_000_000)
    );
    assert_eq!(
        text_verdict("2024-02-29T00:00:00.1Z"),
        Ok(1_709_164_800_100_000)
    );
    assert_eq!(verdict("1709164800123"), Ok(1_709_164_800_123_000));
}

#[test]
fn forms_that_are_not_ours_are_invalid() {
    for text in [
        "",
        "now",
        "1709164800123",
        "2024-02-29",
        "2024-02-29T00:00",
        "2024-02-29T00:00Z",
        "2024-02-29T00:00:00",
        "2024-02-29T00:00:00.5",
        "2024-02-29_00:00:00Z",
        "2024-02-29T00:00:00.Z",
        "2024-02-29 00:00:00.",
        "2024-02-29T00:00:00,5Z",
        "2024-02-29T00:00:00+0200",
        "2024-02-29T00:00:00+02",
        "2024-02-29T00:00:00+2:00",
        "2024-02-29T00:00:00 Z",
        "2024-02-29T00:00:00Z ",
        " 2024-02-29T00:00:00Z",
        "2024-02-29  00:00:00",
        "2024-02-29T00:00:00UTC",
        "2024-2-29T00:00:00Z",
        "24-02-29T00:00:00Z",
        "+2024-02-29T00:00:00Z",
        "-024-02-29T00:00:00Z",
        "12024-02-29T00:00:00Z",
        "2024-02-29T00:00:00\u{2212}02:00",
        "2024-02-29T0:00:00Z",
        "20240229T000000Z",
        "2024-02-29T00:00:00+02:00Z",
        "２０24-02-29T00:00:00Z",
        "Thu, 29 Feb 2024 00:00:00 GMT",
    ] {
        assert_eq!(
            text_verdict(text),
            Err(RejectReason::InvalidField),
            "{text}"
        );
    }
}

#[test]
fn dates_and_times_that_do_not_exist_are_invalid() {
    for text in [
        "2023-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-04-31T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2016-12-31T23:59:60Z",
        "2024-01-01T00:00:61Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+00:60",
        "2024-01-01T00:00:00-99:99",
    ] {
        assert_eq!(
            text_verdict(text),
            Err(RejectReason::InvalidField),
            "{text}"
        );
    }
}

#[test]
fn the_range_holds_for_the_instant_and_not_for_its_spelling() {
    for (text, micros) in [
        ("2000-01-01T00:00:00Z", EventTime::MIN.micros()),
        ("1999-12-31T23:00:00-01:00", EventTime::MIN.micros()),
        ("2099-12-31T23:59:59.9999999Z", EventTime::MAX.micros()),
        ("2100-01-01T00:59:59.999999+01:00", EventTime::MAX.micros()),
    ] {
        assert_eq!(text_verdict(text), Ok(micros), "{text}");
    }
    for text in [
        "1999-12-31T23:59:59.9999999Z",
        "2000-01-01T00:59:59+01:00",
        "2100-01-01T00:00:00Z",
        "2099-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "1970-01-01 00:00:00",
    ] {
        assert_eq!(
            text_verdict(text),
            Err(RejectReason::TimestampOutOfRange),
            "{text}"
        );
    }
}

#[test]
fn epoch_milliseconds_are_integers_within_the_range() {
    assert_eq!(verdict("946684800000"), Ok(EventTime::MIN.micros()));
    assert_eq!(verdict("4102444799999"), Ok(4_102_444_799_999_000));
    for raw in [
        "946684799999",
        "4102444800000",
        "0",
        "-0",
        "-1",
        "1709164800",
        "1709164800123456",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
    ] {
        assert_eq!(
            verdict(raw),
            Err(RejectReason::TimestampOutOfRange),
            "{raw}"
        );
    }
    for raw in [
        "1709164800123.0",
        "1709164800123.5",
        "1.709164800123e12",
        "1E12",
        "1e400",
        "true",
        "[1]",
        "{}",
    ] {
        assert_eq!(verdict(raw), Err(RejectReason::InvalidField), "{raw}");
    }
}

/// Mostly well-formed timestamps around every border of the calendar.
fn timestamp() -> impl Strategy<Value = String> {
    let date = (
        prop_oneof![
            1998..2003_i32,
            2022..2026_i32,
            2098..2102_i32,
            0..10_000_i32
        ],
        0..14_u8,
        0..33_u8,
    );
    let time = (0..26_u8, 0..62_u8, 0..62_u8);
    let zone = prop_oneof![
        Just(String::new()),
        Just("Z".to_owned()),
        Just("z".to_owned()),
        (prop_oneof![Just('+'), Just('-')], 0..25_u8, 0..62_u8)
            .prop_map(|(sign, h, m)| format!("{sign}{h:02}:{m:02}")),
    ];
    (date, "[Tt ]", time, "(\\.[0-9]{1,12})?", zone).prop_map(
        |((y, mo, d), separator, (h, mi, s), fraction, zone)| {
            format!("{y:04}-{mo:02}-{d:02}{separator}{h:02}:{mi:02}:{s:02}{fraction}{zone}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn every_timestamp_is_read_as_chrono_reads_it(text in timestamp()) {
        prop_assert_eq!(text_verdict(&text), expected(&text), "{}", text);
    }

    #[test]
    fn a_damaged_timestamp_is_read_as_chrono_reads_it(
        text in timestamp(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof!["[0-9TtZz:.+ -]", "\\PC"],
        insert in any::<bool>(),
    ) {
        let mut text = text;
        let at = at.index(text.len());
        text.replace_range(at..at + usize::from(!insert), &with);
        prop_assert_eq!(text_verdict(&text), expected(&text), "{}", text);
    }

    #[test]
    fn every_integer_is_epoch_milliseconds_or_out_of_range(millis in prop_oneof![any::<i64>(), 946_000_000_000..4_103_000_000_000_i64]) {
        let expected = match millis.checked_mul(1000) {
            Some(micros) if EventTime::from_micros(micros).is_accepted() => Ok(micros),
            _ => Err(RejectReason::TimestampOutOfRange),
        };
        prop_assert_eq!(verdict(&millis.to_string()), expected);
    }
}
