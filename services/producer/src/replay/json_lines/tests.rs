#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use clickstream_pipeline::decode::Field;
use proptest::prelude::*;

use super::{FieldMap, InvalidFieldMap, JsonLineProblem, parse};

fn map(text: &str) -> FieldMap {
    text.parse().unwrap()
}

fn time(token: &str) -> Option<i64> {
    parse(
        format!(r#"{{"event_ts":{token},"url":"/"}}"#).as_bytes(),
        &FieldMap::default(),
    )
    .unwrap()
    .micros
}

fn problem(line: &str) -> JsonLineProblem {
    parse(line.as_bytes(), &map("event_ts=t,url=u")).unwrap_err()
}

#[test]
fn mapped_fields_are_taken_as_they_stand() {
    let line = br#"{"a": "Mozilla\/5.0", "t": 1331923247, "u": "http:\/\/a.example\/ b", "r": "http:\/\/t.co\/x", "x": {"y": [1]}}"#;
    let click = parse(line, &map("event_ts=t,url=u,referrer=r,user_agent=a")).unwrap();
    assert_eq!(click.token(Field::Url), Some(r#""http:\/\/a.example\/ b""#));
    assert_eq!(click.token(Field::Referrer), Some(r#""http:\/\/t.co\/x""#));
    assert_eq!(click.client(), [None, Some("Mozilla/5.0".into())]);
    assert_eq!(click.micros, Some(1_331_923_247_000_000));
}

#[test]
fn fields_that_are_not_mapped_keep_their_own_names() {
    let line = br#"{"t": 1, "url": "/", "user_id": 7, "ip": "192.0.2.1"}"#;
    let click = parse(line, &map("event_ts=t,ip=")).unwrap();
    assert_eq!(click.user().as_deref(), Some("7"));
    assert_eq!(click.token(Field::Ip), None);
}

#[test]
fn client_fields_join_address_and_user_agent() {
    let line = br#"{"event_ts": 1, "url": "/", "tz": "Europe\/Oslo", "c": null}"#;
    let click = parse(line, &map("client=tz,client=c")).unwrap();
    assert_eq!(
        click.client(),
        [None, None, Some("Europe/Oslo".into()), None]
    );
}

#[test]
fn words_for_no_referrer_are_no_referrer() {
    for word in ["direct", "(direct)", "-", ""] {
        let line = format!(r#"{{"event_ts": 1, "url": "direct", "referrer": "{word}"}}"#);
        let click = parse(line.as_bytes(), &FieldMap::default()).unwrap();
        assert_eq!(click.token(Field::Referrer), None, "{word}");
        assert_eq!(click.token(Field::Url), Some("\"direct\""));
    }
}

#[test]
fn times_are_seconds_milliseconds_or_text() {
    assert_eq!(time("1356999061"), Some(1_356_999_061_000_000));
    assert_eq!(time("\"1356999061\""), Some(1_356_999_061_000_000));
    assert_eq!(time("1356999061.123456"), Some(1_356_999_061_123_456));
    assert_eq!(time("1356999061.1234569"), Some(1_356_999_061_123_456));
    assert_eq!(time("-0.0000001"), Some(-1));
    assert_eq!(time("-1.0000000001"), Some(-1_000_001));
    assert_eq!(time("99999999999"), Some(99_999_999_999_000_000));
    assert_eq!(time("100000000000"), Some(100_000_000_000_000));
    assert_eq!(time("1356999061123.5"), Some(1_356_999_061_123_500));
    assert_eq!(
        time("\"2013-01-01T01:11:01+01:00\""),
        Some(1_356_999_061_000_000)
    );
    assert_eq!(
        time("\"2013-01-01 00:11:01.5\""),
        Some(1_356_999_061_500_000)
    );
}

#[test]
fn a_time_that_is_not_understood_is_left_to_the_decoder() {
    for token in [
        "\"yesterday\"",
        "\"2016-12-31T23:59:60Z\"",
        "[1]",
        "1e99",
        "9999999999999999999",
        "\"2013-01-01T00:00:00\"",
    ] {
        assert_eq!(time(token), None, "{token}");
    }
}

#[test]
fn lines_without_a_click_are_told_apart() {
    assert_eq!(
        problem(r#"{"_heartbeat_":1356999061}"#),
        JsonLineProblem::NoUrl
    );
    assert_eq!(problem(r#"{"t":1,"u":null}"#), JsonLineProblem::NoUrl);
    assert_eq!(problem(r#"{"u":"/"}"#), JsonLineProblem::NoTime);
    assert_eq!(problem(r#"{"u":"/","t":13"#), JsonLineProblem::InvalidJson);
    assert_eq!(
        problem(r#"{"u":"/","t":13} x"#),
        JsonLineProblem::InvalidJson
    );
    assert_eq!(problem("[1]"), JsonLineProblem::NotAnObject);
    assert_eq!(problem("[1"), JsonLineProblem::InvalidJson);
    assert_eq!(problem("17"), JsonLineProblem::NotAnObject);
}

#[test]
fn a_map_with_a_mistake_is_refused_with_the_item() {
    let refused = |text: &str| text.parse::<FieldMap>().unwrap_err();
    assert_eq!(refused("url"), InvalidFieldMap::NoName("url".into()));
    assert_eq!(
        refused("uri=u"),
        InvalidFieldMap::UnknownField("uri".into())
    );
    assert_eq!(
        refused("url=u,url=v"),
        InvalidFieldMap::Repeated("url".into())
    );
}

proptest! {
    #[test]
    fn no_line_makes_the_reader_panic(line in "\\PC*", time in "\\PC{0,24}") {
        let _ = parse(line.as_bytes(), &FieldMap::default());
        let event = serde_json::json!({"url": line, "event_ts": time}).to_string();
        prop_assert!(parse(event.as_bytes(), &FieldMap::default()).is_ok());
    }
}
