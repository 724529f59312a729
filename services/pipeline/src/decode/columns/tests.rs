use proptest::prelude::*;

use super::*;

fn promoted(kind: ColumnType, raw: &str) -> Promoted<'_> {
    promote(kind, Seen::Raw(raw))
}

fn value(kind: ColumnType, raw: &str) -> Result<ColumnValue<'_>, CleanReason> {
    let promoted = promoted(kind, raw);
    match (promoted.value, promoted.cleaned) {
        (Some(value), None) => Ok(value),
        (None, Some(reason)) => Err(reason),
        other => panic!("{raw}: {other:?}"),
    }
}

const ALL: [ColumnType; 5] = [
    ColumnType::Text,
    ColumnType::Integer,
    ColumnType::Number,
    ColumnType::Boolean,
    ColumnType::Timestamp,
];

#[test]
fn what_is_not_there_is_null_and_what_is_there_twice_is_counted() {
    for kind in ALL {
        assert_eq!(promote(kind, Seen::Nothing), Promoted::default());
        let twice = promote(kind, Seen::Twice);
        assert_eq!(twice, unusable(CleanReason::RepeatedKey));
    }
}

#[test]
fn a_text_column_takes_texts_and_what_is_written_as_one_word() {
    for (raw, text) in [
        (r#""plan""#, "plan"),
        (r#""Wei\u00df\"x""#, "Weiß\"x"),
        (r#""""#, ""),
        ("12", "12"),
        ("-1.50e3", "-1.50e3"),
        ("true", "true"),
        ("false", "false"),
    ] {
        let expected = ColumnValue::Text(Cow::Borrowed(text));
        assert_eq!(value(ColumnType::Text, raw), Ok(expected), "{raw}");
    }
    for (raw, reason) in [
        ("{}", CleanReason::WrongType),
        (r#"["a"]"#, CleanReason::WrongType),
        (r#""a\u0000b""#, CleanReason::BadCharacters),
        (r#""\ud800""#, CleanReason::BadCharacters),
    ] {
        assert_eq!(value(ColumnType::Text, raw), Err(reason), "{raw}");
    }
}

#[test]
fn a_long_text_is_cut_behind_the_last_character_that_fits() {
    let text = |raw: &str| match promoted(ColumnType::Text, raw) {
        Promoted {
            value: Some(ColumnValue::Text(text)),
            cleaned,
        } => (text.into_owned(), cleaned),
        other => panic!("{other:?}"),
    };
    let fits = "x".repeat(1024);
    assert_eq!(text(&format!("\"{fits}\"")), (fits.clone(), None));
    let cut = Some(CleanReason::TooLong);
    assert_eq!(text(&format!("\"{fits}y\"")), (fits, cut));
    let odd = format!("x{}", "ß".repeat(511));
    assert_eq!(text(&format!("\"{odd}ß\"")), (odd.clone(), cut));
    assert_eq!(text(&format!("\"{odd}\\u00df\"")), (odd, cut));
    assert_eq!(text(&"1".repeat(2000)), ("1".repeat(1024), cut));
}

#[test]
fn an_integer_column_takes_whole_numbers_of_64_bits_and_texts_of_them() {
    for (raw, number) in [
        ("12", 12),
        (r#""12""#, 12),
        ("-0", 0),
        ("9223372036854775807", i64::MAX),
        (r#""-9223372036854775808""#, i64::MIN),
    ] {
        let expected = ColumnValue::Integer(number);
        assert_eq!(value(ColumnType::Integer, raw), Ok(expected), "{raw}");
    }
    for (raw, reason) in [
        ("9223372036854775808", CleanReason::OutOfRange),
        ("12.0", CleanReason::WrongType),
        ("1e3", CleanReason::WrongType),
        ("true", CleanReason::WrongType),
        (r#"" 12""#, CleanReason::WrongType),
        (r#""12 ""#, CleanReason::WrongType),
        (r#""+12""#, CleanReason::WrongType),
        (r#""012""#, CleanReason::WrongType),
        (r#""1_000""#, CleanReason::WrongType),
        (r#""""#, CleanReason::Empty),
        ("[12]", CleanReason::WrongType),
        (r#""\u0000""#, CleanReason::BadCharacters),
    ] {
        assert_eq!(value(ColumnType::Integer, raw), Err(reason), "{raw}");
    }
}

#[test]
fn a_number_column_takes_what_is_finite_in_64_bits() {
    for (raw, number) in [
        ("12", 12.0),
        (r#""4.50""#, 4.5),
        ("1e-400", 0.0),
        ("-1.5E3", -1500.0),
        ("9007199254740993", 9_007_199_254_740_992.0),
    ] {
        let expected = ColumnValue::Number(Finite(number));
        assert_eq!(value(ColumnType::Number, raw), Ok(expected), "{raw}");
    }
    for (raw, reason) in [
        ("1e400", CleanReason::OutOfRange),
        (r#""-1e400""#, CleanReason::OutOfRange),
        (r#""NaN""#, CleanReason::WrongType),
        (r#""inf""#, CleanReason::WrongType),
        (r#""-inf""#, CleanReason::WrongType),
        (r#""-Infinity""#, CleanReason::WrongType),
        (r#"".5""#, CleanReason::WrongType),
        (r#""4,50""#, CleanReason::WrongType),
        ("false", CleanReason::WrongType),
        (r#""""#, CleanReason::Empty),
    ] {
        assert_eq!(value(ColumnType::Number, raw), Err(reason), "{raw}");
    }
}

#[test]
fn a_boolean_column_takes_true_and_false() {
    for (raw, truth) in [("true", true), (r#""true""#, true), ("false", false)] {
        let expected = ColumnValue::Boolean(truth);
        assert_eq!(value(ColumnType::Boolean, raw), Ok(expected), "{raw}");
    }
    for raw in ["1", "0", r#""TRUE""#, r#""yes""#, "{}"] {
        let refused = value(ColumnType::Boolean, raw);
        assert_eq!(refused, Err(CleanReason::WrongType), "{raw}");
    }
}

#[test]
fn a_timestamp_column_takes_what_the_time_of_an_event_may_be() {
    let noon = EventTime::from_micros(1_772_366_400_000_000);
    for raw in [
        r#""2026-03-01T12:00:00Z""#,
        r#""2026-03-01 13:00:00 +0100""#,
        "1772366400",
        "1772366400000",
        r#""1772366400000""#,
    ] {
        let expected = ColumnValue::Timestamp(noon);
        assert_eq!(value(ColumnType::Timestamp, raw), Ok(expected), "{raw}");
    }
    for (raw, reason) in [
        (r#""1999-12-31T23:59:59Z""#, CleanReason::OutOfRange),
        (r#""tomorrow""#, CleanReason::WrongType),
        ("true", CleanReason::WrongType),
        (r#""""#, CleanReason::Empty),
    ] {
        assert_eq!(value(ColumnType::Timestamp, raw), Err(reason), "{raw}");
    }
}

proptest! {
    #[test]
    fn whatever_stands_there_a_value_is_of_the_columns_type(
        json in any::<f64>().prop_filter("JSON", |number| number.is_finite())
            .prop_map(|number| serde_json::json!(number).to_string())
            .boxed()
            .prop_union(any::<String>().prop_map(|text| serde_json::json!(text).to_string()).boxed())
            .or(any::<i64>().prop_map(|number| number.to_string()).boxed()),
    ) {
        for kind in ALL {
            let Promoted { value, cleaned } = promoted(kind, &json);
            let fits = match &value {
                None => cleaned.is_some(),
                Some(ColumnValue::Text(text)) => {
                    kind == ColumnType::Text && text.len() <= MAX_COLUMN_TEXT_BYTES
                }
                Some(ColumnValue::Integer(number)) => {
                    kind == ColumnType::Integer && json.contains(&number.to_string())
                }
                Some(ColumnValue::Number(number)) => {
                    kind == ColumnType::Number && number.get().is_finite()
                }
                Some(ColumnValue::Boolean(_)) => kind == ColumnType::Boolean,
                Some(ColumnValue::Timestamp(time)) => {
                    kind == ColumnType::Timestamp && time.is_accepted()
                }
            };
            prop_assert!(fits, "{:?} {} {:?} {:?}", kind, json, value, cleaned);
        }
    }
}
