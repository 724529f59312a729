//! The spellings of `event_ts` that are read today, against chrono and against plain integers.

use chrono::{FixedOffset, NaiveDate, NaiveDateTime};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn of(decoder: &Decoder, raw: &str) -> Result<i64, RejectReason> {
    let payload = with("event_ts", raw);
    // received at the end of time, so that nothing is in the future
    let received_at = EventTime::from_micros(i64::MAX);
    decoder
        .decode(payload.as_bytes(), received_at)
        .map(|event| event.event_ts.micros())
        .map_err(|rejected| rejected.reason)
}

fn number(raw: &str) -> Result<i64, RejectReason> {
    of(&TODAY, raw)
}

fn text(text: &str) -> Result<i64, RejectReason> {
    of(&TODAY, &serde_json::to_string(text).unwrap())
}

fn judged(micros: i128) -> Result<i64, RejectReason> {
    i64::try_from(micros)
        .ok()
        .filter(|&micros| EventTime::from_micros(micros).is_accepted())
        .ok_or(RejectReason::TimestampOutOfRange)
}

#[test]
fn a_number_is_seconds_milliseconds_microseconds_or_nanoseconds_by_its_size() {
    for (raw, micros) in [
        ("1709164800", 1_709_164_800_000_000),
        ("1709164800.5", 1_709_164_800_500_000),
        ("1709164800.1234569", 1_709_164_800_123_456),
        ("1709164800123", 1_709_164_800_123_000),
        ("1709164800123.4569", 1_709_164_800_123_456),
        ("1709164800123456", 1_709_164_800_123_456),
        ("1709164800123456.9", 1_709_164_800_123_456),
        ("1709164800123456999", 1_709_164_800_123_456),
        ("1.709164800123e12", 1_709_164_800_123_000),
        ("1.7091648E9", 1_709_164_800_000_000),
        ("17091648e+2", 1_709_164_800_000_000),
        ("1709164800123456999e-9", 1_709_164_800_123_456),
        ("0.0017091648e12", 1_709_164_800_000_000),
        ("946684800", EventTime::MIN.micros()),
        ("999999999", 999_999_999_000_000),
        ("946684800000", EventTime::MIN.micros()),
        ("946684800000000000", EventTime::MIN.micros()),
        ("4102444799.9999999", EventTime::MAX.micros()),
        ("4102444799999999999", EventTime::MAX.micros()),
    ] {
        assert_eq!(number(raw), Ok(micros), "{raw}");
        assert_eq!(text(raw), Ok(micros), "{raw} as text");
    }
    // files pad it
    assert_eq!(text("0001709164800"), Ok(1_709_164_800_000_000));
}

#[test]
fn a_number_of_no_unit_is_out_of_range() {
    for raw in [
        "0",
        "-0",
        "0.0e12",
        "-1",
        "-1709164800",
        "946684799",
        "946684799.999999999",
        "4102444800",
        "946684799999",
        "4102444800000",
        "946684799999999",
        "4102444800000000",
        "946684799999999999",
        "4102444800000000000",
        "28486080",
        "20240229100000",
        "1e400",
        "1e-400",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "9223372036854775808",
        "123456789012345678901234567890",
    ] {
        assert_eq!(number(raw), Err(RejectReason::TimestampOutOfRange), "{raw}");
    }
}

#[test]
fn every_spelling_of_an_instant_in_text_is_the_same_instant() {
    let micros = 1_709_164_800_123_456;
    for spelling in [
        "2024-02-29T00:00:00.123456Z",
        "2024-02-29t00:00:00.123456z",
        "2024-02-29 00:00:00.123456",
        "2024-02-29T00:00:00.123456",
        "2024-02-29T00:00:00,123456",
        "2024-02-29 00:00:00.123456 UTC",
        "2024-02-29 00:00:00.123456UTC",
        "2024-02-29 00:00:00.123456 GMT",
        "2024-02-29 00:00:00.123456 Z",
        "2024-02-29T00:00:00.123456+0000",
        "2024-02-29 00:00:00.123456+00",
        "2024-02-29 00:00:00.123456-00",
        "2024-02-29 02:00:00.123456+02:00",
        "2024-02-29 02:00:00.123456 +0200",
        "2024-02-28 18:30:00.123456-0530",
        "2024-02-29T00:00:00.123456789123Z",
        "29/Feb/2024:00:00:00.123456 +0000",
        "29/Feb/2024:01:00:00.123456 +0100",
        "[28/Feb/2024:23:00:00.123456 -0100]",
    ] {
        assert_eq!(text(spelling), Ok(micros), "{spelling}");
    }
    let whole = 1_709_164_800_000_000;
    assert_eq!(text("29/Feb/2024:00:00:00 +0000"), Ok(whole));
    assert_eq!(text("2024-02-29T00:00:00"), Ok(whole));
    assert_eq!(text("2024-02-29 00:00:00.1"), Ok(whole + 100_000));
}

#[test]
fn other_forms_and_times_that_do_not_exist_are_invalid() {
    for spelling in [
        "",
        "now",
        "2024-02-29",
        "2024-02-29T00:00",
        "2024-02-29_00:00:00Z",
        "2024-02-29 00:00:00.",
        "2024-02-29 00:00:00.Z",
        "2024-02-29 00:00:00 ",
        "2024-02-29  00:00:00",
        "2024-02-29 00:00:00  UTC",
        "2024-02-29 00:00:00 CET",
        "2024-02-29 00:00:00 +2",
        "2024-02-29 00:00:00+02:0",
        "2024-02-29 00:00:00+020000",
        " 2024-02-29T00:00:00Z",
        "2024-2-29T00:00:00Z",
        "29/Feb/2024:00:00:00",
        "29/feb/2024:00:00:00 +0000",
        "29/02/2024:00:00:00 +0000",
        "02/29/2024 00:00:00",
        "9/Feb/2024:00:00:00 +0000",
        "[29/Feb/2024:00:00:00 +0000",
        "[29/Feb/2024:00:00:00]",
        "[]",
        "1709164800 ",
        "+1709164800",
        "1709164800.",
        ".5",
        "-",
        "1e",
        "1e+",
        "1.5.5",
        "1709164800s",
        "0x65dfc800",
        "１７０９１６４８００",
        // times that do not exist
        "2023-02-29T00:00:00",
        "2024-01-01T24:00:00",
        "2016-12-31 23:59:60 UTC",
        "2024-01-01 00:00:00+24",
        "2024-01-01 00:00:00+0060",
        "30/Feb/2024:00:00:00 +0000",
        "29/Feb/2024:23:59:60 +0000",
    ] {
        assert_eq!(
            text(spelling),
            Err(RejectReason::InvalidField),
            "{spelling}"
        );
    }
    for raw in ["true", "[1709164800]", "{}"] {
        assert_eq!(number(raw), Err(RejectReason::InvalidField), "{raw}");
    }
}

#[test]
fn the_first_release_goes_on_reading_what_it_read() {
    for raw in [
        "1709164800",
        "1709164800123.5",
        "1709164800123456",
        "\"1709164800123\"",
        "\"2024-02-29T00:00:00\"",
        "\"2024-02-29 00:00:00 UTC\"",
        "\"2024-02-29T00:00:00+0200\"",
        "\"2024-02-29T00:00:00,5Z\"",
        "\"29/Feb/2024:00:00:00 +0000\"",
    ] {
        assert!(of(&FIRST, raw).is_err(), "{raw}");
        assert!(number(raw).is_ok(), "{raw}");
    }
}

/// The units from seconds to nanoseconds, as what makes microseconds of them.
const UNITS: [(i128, i128); 4] = [(1_000_000, 1), (1_000, 1), (1, 1), (1, 1_000)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_number_is_what_plain_integers_make_of_it(
        digits in prop_oneof![
            "[1-9][0-9]{0,24}",
            (946_000_000..4_103_000_000_u64).prop_map(|seconds| seconds.to_string()),
            ("94668(4799|4800)|410244(4799|4800)", "[09]{0,12}").prop_map(|(a, b)| a + &b),
        ],
        exponent in -12..13_i32,
        moved in 0..30_usize,
    ) {
        // the value is digits * 10^exponent, compared in units of 10^-24
        let Some(value) = digits.parse::<i128>().ok().and_then(|digits| {
            let power = u32::try_from(exponent + 12).unwrap();
            digits.checked_mul(10_i128.checked_pow(power)?)
        }) else {
            return Ok(());
        };
        let scale = 10_i128.pow(12);
        let expected = UNITS.iter().find_map(|(times, by)| {
            judged((value.checked_mul(*times)?).div_euclid(scale * by)).ok()
        });
        let expected = expected.ok_or(RejectReason::TimestampOutOfRange);
        // the same value with its point somewhere else
        let moved = moved.min(digits.len() - 1);
        let (whole, decimals) = digits.split_at(digits.len() - moved);
        let point = if moved == 0 { String::new() } else { format!(".{decimals}") };
        let raw = match exponent + i32::try_from(moved).unwrap() {
            0 => format!("{whole}{point}"),
            power => format!("{whole}{point}e{power}"),
        };
        prop_assert_eq!(number(&raw), expected, "{}", raw);
    }

    #[test]
    fn a_date_with_time_and_zone_is_the_instant_that_chrono_makes_of_them(
        (year, month, day) in (prop_oneof![1999..2002_i32, 2023..2026_i32, 2099..2101_i32], 1..13_u32, 1..32_u32),
        (hour, minute, second) in (0..24_u32, 0..60_u32, 0..60_u32),
        decimals in "[0-9]{0,9}",
        (offset, form) in (-1439..1440_i32, 0..8_usize),
        point in select(vec!['.', ',']),
        separator in select(vec!['T', 't', ' ']),
    ) {
        let Some(date) = NaiveDate::from_ymd_opt(year, month, day) else {
            return Ok(());
        };
        // whole hours where the zone has no minutes, and UTC where it has none at all
        let offset = match form {
            0..=2 => 0,
            3 => offset / 60 * 60,
            _ => offset,
        };
        let nanos: u32 = format!("{decimals:0<9}").parse().unwrap();
        let expected = date
            .and_hms_nano_opt(hour, minute, second, nanos)
            .unwrap()
            .and_local_timezone(FixedOffset::east_opt(offset * 60).unwrap())
            .unwrap()
            .timestamp_micros();
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
        let zone = match form {
            0 => String::new(),
            1 => " UTC".to_owned(),
            2 => "Z".to_owned(),
            3 => format!("{sign}{hours:02}"),
            4 => format!("{sign}{hours:02}{minutes:02}"),
            5 => format!(" {sign}{hours:02}{minutes:02}"),
            _ => format!("{sign}{hours:02}:{minutes:02}"),
        };
        let fraction = if decimals.is_empty() { String::new() } else { format!("{point}{decimals}") };
        let time = format!("{hour:02}:{minute:02}:{second:02}{fraction}");
        let written = if form == 7 {
            let month = date.format("%b");
            format!("{day:02}/{month}/{year:04}:{time} {sign}{hours:02}{minutes:02}")
        } else {
            format!("{date}{separator}{time}{zone}")
        };
        prop_assert_eq!(text(&written), judged(expected.into()), "{}", written);
    }

    #[test]
    fn a_damaged_time_is_refused_or_read_as_chrono_reads_it(
        micros in EventTime::MIN.micros()..=EventTime::MAX.micros(),
        format in select(vec!["%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S UTC", "%d/%b/%Y:%H:%M:%S +0000"]),
        at in any::<prop::sample::Index>(),
        with in prop_oneof!["[0-9TZUC:.,+ /-]", "\\PC"],
        insert in any::<bool>(),
    ) {
        let instant = chrono::DateTime::from_timestamp_micros(micros).unwrap();
        let mut written = instant.format(format).to_string();
        let at = at.index(written.len());
        written.replace_range(at..at + usize::from(!insert), &with);
        if let Ok(read) = text(&written) {
            let zoneless = written.trim_end_matches("Z").trim_end_matches(" UTC").replace(',', ".");
            let (zoneless, zone) = match zoneless.get(19..).and_then(|rest| rest.find(['+', '-'])) {
                Some(sign) => zoneless.split_at(sign + 19),
                None => (zoneless.as_str(), "+0000"),
            };
            let zoneless = zoneless.trim_end().replace(['T', 't'], " ");
            let local = NaiveDateTime::parse_from_str(&zoneless, "%Y-%m-%d %H:%M:%S%.f")
                .or_else(|_| NaiveDateTime::parse_from_str(&zoneless, "%d/%b/%Y:%H:%M:%S%.f"));
            // a zone may have lost its last digit or got one more in a place that makes it another
            // zone
            if let (Ok(local), "+0000") = (local, zone) {
                prop_assert_eq!(read, local.and_utc().timestamp_micros(), "{}", written);
            }
        }
    }

    #[test]
    fn whatever_the_first_release_read_is_read_alike_today(
        raw in prop_oneof![
            "[1-9][0-9]{8,19}",
            (946_684_800_000..4_102_444_800_000_u64).prop_map(|millis| millis.to_string()),
            "\"20[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,12})?(Z|z|[+-][0-2][0-9]:[0-5][0-9])?\"",
        ],
    ) {
        if let Ok(first) = of(&FIRST, &raw) {
            prop_assert_eq!(number(&raw), Ok(first), "{}", raw);
        }
    }
}
