//! The malformed corpus, second half: fields that break a rule, and those that only look so.

use std::borrow::Cow;

use super::*;
use RejectReason::*;

/// Expects each raw value of a field to be taken, and hands over the events.
fn field_accepted<T>(field: Field, values: &[&str], read: impl Fn(Event<'_>) -> T) -> Vec<T> {
    let payloads = values.iter().map(|raw| with(field.as_str(), raw));
    payloads
        .map(|payload| read(judge(payload.as_bytes()).expect(&payload)))
        .collect()
}

fn quoted(length: usize, of: &str) -> String {
    format!("\"{}\"", of.repeat(length))
}

#[test]
fn an_event_id_is_a_uuid_in_any_spelling_but_not_nil() {
    let spellings = [
        ID,
        "\"6F9619FF-8B86-D011-B42D-00C04FC964FF\"",
        "\"6f9619ff8b86d011b42d00c04fc964ff\"",
        "\"{6f9619ff-8b86-d011-b42d-00c04fc964ff}\"",
        "\"urn:uuid:6f9619ff-8b86-d011-b42d-00c04fc964ff\"",
        "\"\\u0036f9619ff-8b86-d011-b42d-00c04fc964ff\"",
    ];
    let ids = field_accepted(Field::EventId, &spellings, |event| event.event_id);
    assert!(
        ids.iter()
            .all(|id| id.as_u128() == 0x6f9619ff_8b86_d011_b42d_00c04fc964ff)
    );
    field_rejected(
        Field::EventId,
        InvalidField,
        &[
            "\"\"",
            "1",
            "true",
            "[]",
            "{}",
            "\"6f9619ff\"",
            "\" 6f9619ff-8b86-d011-b42d-00c04fc964ff\"",
            "\"6f9619ff-8b86-d011-b42d-00c04fc964fg\"",
            "\"6f9619ff-8b86-d011-b42d-00c04fc964ff0\"",
            "\"00000000-0000-0000-0000-000000000000\"",
            "\"urn:uuid:00000000-0000-0000-0000-000000000000\"",
        ],
    );
}

#[test]
fn a_user_is_a_short_text_or_a_64_bit_integer() {
    let texts = [
        "9223372036854775807",
        "-9223372036854775808",
        "0",
        "-0",
        "12",
        "\"12\"",
        "\" \"",
        "\"\\u00e9\\n\"",
        "\"1e3\"",
    ];
    let users = field_accepted(Field::UserId, &texts, |event| event.user_id.to_string());
    assert_eq!(
        users,
        [
            "9223372036854775807",
            "-9223372036854775808",
            "0",
            "0",
            "12",
            "12",
            " ",
            "é\n",
            "1e3"
        ]
    );
    field_rejected(
        Field::UserId,
        InvalidField,
        &[
            "9223372036854775808",
            "18446744073709551615",
            "1e3",
            "1E3",
            "1.0",
            "-1.5",
            "1e400",
            "true",
            "[]",
            "{}",
            "\"\"",
        ],
    );
    let (longest, too_long) = (quoted(128, "𝄞"), quoted(129, "a"));
    assert_eq!(
        field_accepted(Field::UserId, &[&longest], |event| event
            .user_id
            .to_string()
            .len()),
        [512]
    );
    field_rejected(
        Field::UserId,
        InvalidField,
        &[&too_long, &quoted(129, "𝄞"), &quoted(129, "\\n")],
    );
}

#[test]
fn a_session_is_a_short_text() {
    let sessions = ["\"s\"", &quoted(128, "ä"), &quoted(128, "\\ud834\\udd1e")];
    let lengths = field_accepted(Field::SessionId, &sessions, |event| {
        event.session_id.unwrap().len()
    });
    assert_eq!(lengths, [1, 256, 512]);
    field_rejected(
        Field::SessionId,
        InvalidField,
        &["\"\"", "1", "true", &quoted(129, "s"), &quoted(129, "ä")],
    );
}

#[test]
fn urls_are_bounded_in_bytes() {
    let longest = [
        quoted(8192, "u"),
        quoted(4096, "ä"),
        quoted(8192, "\\u0075"),
    ];
    let longest: Vec<&str> = longest.iter().map(String::as_str).collect();
    let too_long = [quoted(8193, "u"), quoted(4097, "ä"), quoted(65_536, "u")];
    let too_long: Vec<&str> = too_long.iter().map(String::as_str).collect();
    assert_eq!(
        field_accepted(Field::Url, &longest, |event| event.url.len()),
        [8192; 3]
    );
    assert_eq!(
        field_accepted(Field::Referrer, &longest, |event| event
            .referrer
            .unwrap()
            .len()),
        [8192; 3]
    );
    for field in [Field::Url, Field::Referrer] {
        field_rejected(field, InvalidField, &too_long);
        field_rejected(field, InvalidField, &["1", "false", "[]", "{}"]);
    }
    field_rejected(Field::Url, InvalidField, &["\"\""]);
    assert_eq!(
        field_accepted(Field::Referrer, &["\"\""], |event| event
            .referrer
            .unwrap()
            .len()),
        [0]
    );
    let payload = with("url", too_long[0]);
    assert_eq!(
        judge(payload.as_bytes()).unwrap_err().detail,
        "url: longer than 8192 bytes"
    );
}

#[test]
fn a_user_agent_is_bounded_in_bytes_and_may_be_empty() {
    let agents = ["\"\"".to_owned(), quoted(1024, "a"), quoted(512, "ä")];
    let agents: Vec<&str> = agents.iter().map(String::as_str).collect();
    let lengths = field_accepted(Field::UserAgent, &agents, |event| {
        event.user_agent.unwrap().len()
    });
    assert_eq!(lengths, [0, 1024, 1024]);
    field_rejected(
        Field::UserAgent,
        InvalidField,
        &[&quoted(1025, "a"), &quoted(513, "ä"), "1"],
    );
}

#[test]
fn an_ip_is_one_address() {
    let addresses = [
        "\"1.2.3.4\"",
        "\"::1\"",
        "\"2001:DB8::7\"",
        "\"::ffff:1.2.3.4\"",
        "\"\\u0031.2.3.4\"",
    ];
    let addresses = field_accepted(Field::Ip, &addresses, |event| event.ip.unwrap().to_string());
    assert_eq!(
        addresses,
        ["1.2.3.4", "::1", "2001:db8::7", "::ffff:1.2.3.4", "1.2.3.4"]
    );
    field_rejected(
        Field::Ip,
        InvalidField,
        &[
            "\"\"",
            "1",
            "\"1.2.3\"",
            "\"1.2.3.4/32\"",
            "\"fe80::1%eth0\"",
            "\"256.1.1.1\"",
            "\"01.2.3.4\"",
            "\"[::1]\"",
            "\"1.2.3.4:80\"",
            "\" ::1\"",
        ],
    );
}

#[test]
fn text_is_taken_as_it_is_or_not_at_all() {
    let urls = [
        "\"\\r\\n\\u001b[31m\"",
        "\"\\u0001\"",
        "\"\\ud83d\\ude00\"",
        "\"😀\"",
        "\"\\/\\\\\\\"\"",
        "\"\u{7f}\u{2028}\"",
        "\"\\ufffd\\uffff\"",
    ];
    let read = field_accepted(Field::Url, &urls, |event| event.url.into_owned());
    assert_eq!(
        read,
        [
            "\r\n\u{1b}[31m",
            "\u{1}",
            "😀",
            "😀",
            "/\\\"",
            "\u{7f}\u{2028}",
            "\u{fffd}\u{ffff}"
        ]
    );
    let broken = [
        "\"\\ud800\"",
        "\"a\\udc00\"",
        "\"\\ud800\\ud800\"",
        "\"\\ud800x\"",
        "\"\\udc00\\ud800\"",
        "\"\\u0000\"",
        "\"a\\u0000b\"",
    ];
    for field in [
        Field::UserId,
        Field::Url,
        Field::Referrer,
        Field::SessionId,
        Field::UserAgent,
    ] {
        field_rejected(field, InvalidField, &broken);
    }
    for field in [Field::EventId, Field::EventTs, Field::Ip] {
        field_rejected(field, InvalidField, &broken);
    }
    let detail = |raw: &str| judge(with("url", raw).as_bytes()).unwrap_err().detail;
    assert_eq!(detail("\"\\u0000\""), "url: contains U+0000");
    assert_eq!(detail("\"\\udc00\""), "url: contains a lone surrogate");
}

#[test]
fn text_without_escapes_is_borrowed_from_the_payload() {
    let payload = with("referrer", "\"/ä\"");
    let event = judge(payload.as_bytes()).unwrap();
    assert!(matches!(event.url, Cow::Borrowed(_)));
    assert!(matches!(event.referrer, Some(Cow::Borrowed("/ä"))));
    assert!(matches!(
        event.user_id,
        crate::event::UserId::Text(Cow::Borrowed("anna"))
    ));
    let owned = event.clone().into_owned();
    assert_eq!(owned, event);
}

#[test]
fn an_event_may_lie_ahead_of_its_record_by_the_allowed_skew() {
    let at = |micros: i64| {
        let payload = with(
            "event_ts",
            &format!("\"{}\"", EventTime::from_micros(micros)),
        );
        judge(payload.as_bytes())
            .map(|event| event.event_ts.micros())
            .map_err(|verdict| (verdict.reason, verdict.field))
    };
    let last = RECEIVED_AT.micros() + FIRST.max_future_skew_micros;
    assert_eq!(at(last), Ok(last));
    assert_eq!(at(last + 1), Err((TimestampInFuture, Some(Field::EventTs))));
    // a date that no event may have is that first
    assert_eq!(
        at(EventTime::MAX.micros() + 1),
        Err((TimestampOutOfRange, Some(Field::EventTs)))
    );
    // and a record with an absurd timestamp of its own does not overflow
    let payload = with("event_ts", TIME);
    assert!(
        FIRST
            .decode(payload.as_bytes(), EventTime::from_micros(i64::MAX))
            .is_ok()
    );
    let verdict = FIRST
        .decode(payload.as_bytes(), EventTime::from_micros(i64::MIN))
        .unwrap_err();
    assert_eq!(verdict.reason, TimestampInFuture);
}

/// Seconds where milliseconds belong give January 1970.
#[test]
fn a_record_timestamp_that_cannot_be_true_is_blamed_and_not_the_event() {
    let payload = with("event_ts", "1710114600000");
    let seconds = EventTime::from_micros(1_710_114_600 * 1_000);
    let verdict = FIRST.decode(payload.as_bytes(), seconds).unwrap_err();
    assert_eq!(verdict.reason, TimestampInFuture);
    assert!(
        verdict
            .detail
            .contains("the record's timestamp, which is before 2000"),
        "{}",
        verdict.detail
    );
    let in_time = EventTime::from_micros(1_710_114_600_000_000 - FIRST.max_future_skew_micros - 1);
    let verdict = FIRST.decode(payload.as_bytes(), in_time).unwrap_err();
    assert!(
        verdict.detail.contains("maxFutureSkew"),
        "{}",
        verdict.detail
    );
}

#[test]
fn a_detail_never_shows_the_payload() {
    for payload in [
        "{\"event_id\":\"hunter2\"}".to_owned(),
        "{\"hunter2".to_owned(),
        "{\"a\":hunter2}".to_owned(),
        "[\"hunter2\"".to_owned(),
        "hunter2".to_owned(),
        with("event_ts", "\"hunter2\""),
        with("user_id", "[\"hunter2\"]"),
        with("ip", "\"hunter2\""),
    ] {
        let verdict = judge(payload.as_bytes()).unwrap_err();
        assert!(!verdict.detail.contains("hunter2"), "{}", verdict.detail);
    }
}
