use proptest::prelude::*;

use super::*;

fn duration(text: &str) -> Result<i64, QuantityError> {
    text.parse().map(Duration::micros)
}

fn bytes(text: &str) -> Result<u64, QuantityError> {
    text.parse().map(Bytes::get)
}

#[test]
fn durations_are_read_as_go_reads_them() {
    for (text, micros) in [
        ("0", 0),
        ("0s", 0),
        ("10s", 10_000_000),
        ("500ms", 500_000),
        ("1m30s", 90_000_000),
        ("1.5h", 5_400_000_000),
        ("0.25s", 250_000),
        ("168h", 604_800_000_000),
        ("2us", 2),
        ("2µs", 2),
        ("3000ns", 3),
        ("30s1m", 90_000_000),
        ("9223372036854775807us", i64::MAX),
    ] {
        assert_eq!(duration(text), Ok(micros), "{text}");
    }
}

#[test]
fn what_is_no_duration_is_refused_with_the_reason() {
    let own = |text: &str| text.to_owned();
    for (text, error) in [
        ("", QuantityError::NoDuration(own(""))),
        ("-1s", QuantityError::NoDuration(own("-1s"))),
        ("s", QuantityError::NoDuration(own("s"))),
        ("1m s", QuantityError::NoDuration(own("1m s"))),
        (" 1s", QuantityError::NoDuration(own(" 1s"))),
        ("1.s", QuantityError::NoDuration(own("1.s"))),
        (".5s", QuantityError::NoDuration(own(".5s"))),
        ("1.2.3s", QuantityError::NoDuration(own("1.2.3s"))),
        ("10", QuantityError::NoUnit(own("10"))),
        ("1m30", QuantityError::NoUnit(own("1m30"))),
        ("10 s", QuantityError::NoUnit(own("10 s"))),
        ("7d", QuantityError::UnknownTimeUnit(own("d"))),
        ("1M", QuantityError::UnknownTimeUnit(own("M"))),
        ("1ns", QuantityError::TooFine(own("1ns"))),
        ("0.0000001s", QuantityError::TooFine(own("0.0000001s"))),
        (
            "9223372036854775808us",
            QuantityError::TooLarge(own("9223372036854775808us")),
        ),
        (
            "99999999999999999999h",
            QuantityError::TooLarge(own("99999999999999999999h")),
        ),
    ] {
        assert_eq!(duration(text), Err(error), "{text}");
    }
}

#[test]
fn durations_are_written_in_whole_units() {
    for (text, shown) in [
        ("90s", "1m30s"),
        ("168h", "168h"),
        ("0s", "0s"),
        ("1.5s", "1s500ms"),
        ("61m", "1h1m"),
    ] {
        assert_eq!(
            text.parse::<Duration>()
                .map(|read| read.to_string())
                .as_deref(),
            Ok(shown)
        );
    }
}

#[test]
fn byte_quantities_are_read_as_kubernetes_reads_them() {
    for (text, size) in [
        ("0", 0),
        ("65536", 65_536),
        ("32Mi", 33_554_432),
        ("1Gi", 1_073_741_824),
        ("1.5Ki", 1536),
        ("64k", 64_000),
        ("2M", 2_000_000),
        ("7Ei", 7 << 60),
    ] {
        assert_eq!(bytes(text), Ok(size), "{text}");
    }
}

#[test]
fn what_is_no_byte_quantity_is_refused_with_the_reason() {
    let own = |text: &str| text.to_owned();
    for (text, error) in [
        ("", QuantityError::NoBytes(own(""))),
        ("Mi", QuantityError::NoBytes(own("Mi"))),
        ("-1", QuantityError::NoBytes(own("-1"))),
        ("0.3", QuantityError::NoBytes(own("0.3"))),
        ("1.", QuantityError::NoBytes(own("1."))),
        ("32MB", QuantityError::UnknownByteUnit(own("MB"))),
        ("32mi", QuantityError::UnknownByteUnit(own("mi"))),
        ("100m", QuantityError::UnknownByteUnit(own("m"))),
        ("8Ei", QuantityError::TooLarge(own("8Ei"))),
        (
            "99999999999999999999",
            QuantityError::TooLarge(own("99999999999999999999")),
        ),
    ] {
        assert_eq!(bytes(text), Err(error), "{text}");
    }
}

#[test]
fn yaml_integers_are_bytes_but_no_durations() {
    assert_eq!(
        serde_yaml::from_str::<Bytes>("65536").map(Bytes::get).ok(),
        Some(65_536)
    );
    assert_eq!(
        serde_yaml::from_str::<Duration>("0").ok(),
        Some(Duration::ZERO)
    );
    let error = serde_yaml::from_str::<Duration>("10").map_err(|error| error.to_string());
    assert_eq!(
        error,
        Err("`10` has no unit; write ms, s, m or h behind each number, such as 10s".to_owned())
    );
    assert!(serde_yaml::from_str::<Bytes>("1.5").is_err());
}

proptest! {
    #[test]
    fn every_duration_reads_back_what_it_wrote(micros in 0..=i64::MAX) {
        let written = Duration(micros).to_string();
        prop_assert_eq!(duration(&written), Ok(micros), "{}", written);
    }

    #[test]
    fn every_byte_quantity_reads_back_what_it_wrote(size in 0..=i64::MAX as u64, shift in 0..63) {
        let size = size >> shift << (shift / 2) & i64::MAX as u64;
        let written = Bytes(size).to_string();
        prop_assert_eq!(bytes(&written), Ok(size), "{}", written);
    }

    #[test]
    fn no_text_makes_a_quantity_panic(text in "[0-9.]{0,40}(ns|us|ms|s|m|h|Ki|Ei|E|)[0-9a-zµ.]{0,10}") {
        let _ = (duration(&text), bytes(&text));
    }
}
