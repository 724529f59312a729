//! The malformed corpus, first half: documents that are no event, and those that only look so.

use super::*;
use RejectReason::*;

/// Expects the same reason for each payload.
fn rejected(reason: RejectReason, payloads: &[&str]) {
    for payload in payloads {
        let shown: String = payload.chars().take(60).collect();
        let verdict = judge(payload.as_bytes()).expect_err(&shown);
        assert_eq!((verdict.reason, verdict.field), (reason, None), "{shown}");
    }
}

#[test]
fn an_empty_payload_is_empty_and_a_blank_one_is_no_json() {
    rejected(Empty, &[""]);
    rejected(InvalidJson, &[" ", "\n\t\r "]);
}

#[test]
fn a_payload_is_too_large_from_one_byte_beyond_the_limit() {
    let valid = with("url", "\"/\"");
    let of = |max_event_bytes| {
        let mut decoder = FIRST.clone();
        decoder.max_event_bytes = max_event_bytes;
        decoder
    };
    assert!(
        of(valid.len())
            .decode(valid.as_bytes(), RECEIVED_AT)
            .is_ok()
    );
    let verdict = of(valid.len() - 1)
        .decode(valid.as_bytes(), RECEIVED_AT)
        .unwrap_err();
    assert_eq!((verdict.reason, verdict.field), (TooLarge, None));
    // the size comes before everything that is in it
    assert_eq!(
        of(8).decode(&[0xff; 9], RECEIVED_AT).unwrap_err().reason,
        TooLarge
    );
}

#[test]
fn invalid_utf8_is_found_wherever_it_stands() {
    let inside = |bytes: &[u8]| [b"{\"x\":\"", bytes, b"\"}"].concat();
    for payload in [
        vec![0xff],
        inside(&[0x80]),
        inside(&[0xc0, 0xaf]),
        inside(&[0xed, 0xa0, 0x80]),
        inside(&[0xf4, 0x90, 0x80, 0x80]),
        [with("url", "\"/\"").as_bytes(), &[0xfe]].concat(),
        b"[1\xff".to_vec(),
    ] {
        assert_eq!(
            judge(&payload).unwrap_err().reason,
            InvalidUtf8,
            "{payload:x?}"
        );
    }
}

#[test]
fn what_is_not_one_json_document_is_invalid_json() {
    let valid = with("url", "\"/\"");
    let bom = format!("\u{feff}{valid}");
    let twice = format!("{valid}{valid}");
    let lines = format!("{valid}\n{valid}");
    let trailing = format!("{valid},");
    let nul = format!("{valid}\0");
    let truncated = &valid[..valid.len() - 1];
    let raw_newline = with("url", "\"a\nb\"");
    let raw_nul = with("url", "\"a\0b\"");
    rejected(
        InvalidJson,
        &[
            &bom,
            &twice,
            &lines,
            &trailing,
            &nul,
            truncated,
            &raw_newline,
            &raw_nul,
            "{",
            "}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{1:1}",
            "{\"a\":1 \"b\":2}",
            "{\"a\nb\":1}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":-}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":nul}",
            "{\"a\":1e}",
            "{\"a\":[1}",
            "{\"a\":[1,]}",
            "{} x",
            "{}{}",
            "/* */{}",
            "\u{a0}{}",
            "\u{b}{}",
            "[",
            "[1",
            "[1,",
            "[[]",
            "[1] 2",
            "\"a",
            "tru",
            "nan",
            "01",
            "1 2",
            "-",
            "event_id=1",
        ],
    );
}

#[test]
fn valid_json_that_is_no_object_is_told_apart() {
    rejected(
        NotAnObject,
        &[
            "null",
            "true",
            "1",
            "-0.5e-7",
            "1e400",
            "\"\"",
            "\"\\ud800\"",
            "[]",
            " [1, {\"a\": 2}] ",
            "[{}]",
        ],
    );
    let valid = with("url", "\"/\"");
    rejected(NotAnObject, &[&format!("[{valid}]")]);
}

#[test]
fn depth_costs_no_stack() {
    let depth = 100_000;
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    rejected(NotAnObject, &[&format!("{open}{close}")]);
    rejected(
        InvalidJson,
        &[
            &open,
            &format!("{open}{}", &close[1..]),
            &format!("{{\"x\":{open}}}"),
        ],
    );
    let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for unknown in [format!("{open}{close}"), objects] {
        assert!(judge(with("x", &unknown).as_bytes()).is_ok());
        field_rejected(Field::Url, InvalidField, &[&unknown]);
    }
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    for raw in [
        "1e400",
        "123456789012345678901234567890",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "null",
        "[[],{\"url\":1}]",
    ] {
        assert!(judge(with("x", raw).as_bytes()).is_ok(), "{raw}");
    }
    for key in [
        "URL", "url ", "", "\\ud800", "\\u0000", "ur\\u006", "x\\\"url",
    ] {
        let payload = format!("{{\"{key}\":1,{}", &with("ip", "null")[1..]);
        assert_eq!(
            judge(payload.as_bytes()).is_ok(),
            key != "ur\\u006",
            "{key}"
        );
    }
    // unknown fields may repeat: nobody reads them
    assert!(judge(format!("{{\"x\":1,\"x\":2,{}", &with("ip", "null")[1..]).as_bytes()).is_ok());
}

#[test]
fn a_known_key_appears_once_in_whichever_spelling() {
    for field in &Field::ALL[..8] {
        let valid = with("ip", "null");
        for key in [
            field.as_str().to_owned(),
            format!(
                "\\u{:04x}{}",
                field.as_str().as_bytes()[0],
                &field.as_str()[1..]
            ),
        ] {
            let value = match field {
                Field::EventId => ID,
                Field::EventTs => TIME,
                Field::Ip => "\"::1\"",
                _ => "\"a\"",
            };
            // two appearances for the fields that are there already, which two more make for the
            // others
            let payload = format!("{{\"{key}\":{value},\"{key}\":null,{}", &valid[1..]);
            let verdict = judge(payload.as_bytes()).unwrap_err();
            assert_eq!(
                (verdict.reason, verdict.field),
                (InvalidField, Some(*field)),
                "{payload}"
            );
            assert_eq!(verdict.detail, format!("{field}: key appears twice"));
        }
    }
}

#[test]
fn an_escaped_key_is_the_same_key() {
    let payload = with("ur\\u006c", "\"/escaped\"").replace("\"url\":\"/\",", "");
    assert_eq!(judge(payload.as_bytes()).unwrap().url, "/escaped");
}

#[test]
fn required_fields_are_missing_when_absent_or_null() {
    for field in &Field::ALL[..4] {
        field_rejected(*field, MissingField, &["null", " null\t"]);
        let absent = with(field.as_str(), "0").replace(&format!("\"{field}\":0"), "\"x\":0");
        let verdict = judge(absent.as_bytes()).unwrap_err();
        assert_eq!(
            (verdict.reason, verdict.field),
            (MissingField, Some(*field))
        );
    }
    let verdict = judge(b"{}").unwrap_err();
    assert_eq!(
        (verdict.reason, verdict.field),
        (MissingField, Some(Field::EventId))
    );
    for field in &Field::ALL[4..] {
        let event = with(field.as_str(), "null");
        let event = judge(event.as_bytes()).unwrap();
        assert_eq!(
            (event.referrer, event.ip, event.session_id, event.user_agent),
            (None, None, None, None)
        );
    }
}

#[test]
fn the_first_broken_field_decides_in_the_order_of_the_fields() {
    let broken = ["0", "{}", "-1", "\"\"", "1", "1", "1", "1"];
    let reasons = [
        InvalidField,
        InvalidField,
        TimestampOutOfRange,
        InvalidField,
        InvalidField,
        InvalidField,
        InvalidField,
        InvalidField,
    ];
    for (first, reason) in reasons.into_iter().enumerate() {
        // written backwards, so that the order in the document is not what counts
        let pairs: Vec<String> = Field::ALL[..8]
            .iter()
            .enumerate()
            .rev()
            .map(|(index, field)| {
                let good = [
                    ID, "\"a\"", TIME, "\"/\"", "\"/\"", "\"::1\"", "\"s\"", "\"u\"",
                ][index];
                format!(
                    "\"{field}\":{}",
                    if index < first { good } else { broken[index] }
                )
            })
            .collect();
        let payload = format!("{{{}}}", pairs.join(","));
        let verdict = judge(payload.as_bytes()).unwrap_err();
        assert_eq!(
            (verdict.reason, verdict.field),
            (reason, Some(Field::ALL[first]))
        );
    }
}
