//! What a dead letter says of the commonest mistakes.

use super::*;

fn detail(payload: &[u8]) -> String {
    let rejected = TODAY.decode(payload, RECEIVED_AT).unwrap_err();
    let first = FIRST.decode(payload, RECEIVED_AT).unwrap_err();
    // the reason is what it always was, and the first release's words stay as they were
    assert_eq!(
        (rejected.reason, rejected.field),
        (first.reason, first.field)
    );
    assert!(
        first.detail.starts_with("not UTF-8 from byte")
            || first.detail.contains(" at line ")
            || first.detail == "valid JSON, but not an object"
            || first.detail.ends_with("required, but absent or null"),
        "{}",
        first.detail
    );
    rejected.detail.into_owned()
}

#[test]
fn a_record_that_is_no_json_says_what_it_begins_with() {
    let valid = with("url", "\"/\"");
    for (front, looks) in [
        (
            &b"\0\0\0\0\x07"[..],
            "begins with 0x00: a schema registry prefix",
        ),
        (
            b"\0\0\0\0\xff",
            "begins with 0x00: a schema registry prefix",
        ),
        (b"\xef\xbb\xbf", "begins with a byte order mark"),
        (b"\xff\xfe", "begins with 0xff 0xfe: UTF-16"),
        (b"\x1f\x8b\x08", "begins with 0x1f 0x8b: packed with gzip"),
    ] {
        let told = detail(&[front, valid.as_bytes()].concat());
        assert!(told.starts_with(looks), "{told}");
    }
    let told = detail(&valid.as_bytes()[..20]);
    assert!(told.starts_with("EOF while parsing"), "{told}");
}

#[test]
fn a_record_of_several_events_says_how_they_are_read() {
    let valid = with("url", "\"/\"");
    assert_eq!(
        detail(format!(" [{valid}]").as_bytes()),
        "an array, see spec.events.batch; valid JSON, but not an object"
    );
    assert_eq!(
        detail(format!("{{\"batch\":[{valid}]}}").as_bytes()),
        "event_id: required, but absent; `batch` is a list, see spec.events.batch"
    );
    assert_eq!(detail(b"{\"batch\":{}}"), "event_id: required, but absent");
}

#[test]
fn a_required_field_that_is_missing_is_told_with_the_key_that_is_probably_meant() {
    assert_eq!(detail(b"{}"), "event_id: required, but absent");
    for (field, raw) in [("event_ts", "null"), ("url", "null"), ("user_id", "null")] {
        assert_eq!(
            detail(with(field, raw).as_bytes()),
            format!("{field}: required, but null")
        );
    }
    for (field, key) in [
        ("url", "page_url"),
        ("url", "page_location"),
        ("event_ts", "timestamp"),
        ("event_ts", "@timestamp"),
        ("user_id", "anonymousId"),
        ("event_id", "messageId"),
    ] {
        let payload =
            with(field, "\"hunter2\"").replace(&format!("\"{field}\""), &format!("\"{key}\""));
        let told = detail(payload.as_bytes());
        assert_eq!(
            told,
            format!("{field}: required, but absent; `{key}` is there, see spec.events.fields")
        );
        let null = payload.replace("\"hunter2\"", "null");
        assert_eq!(
            detail(null.as_bytes()),
            format!("{field}: required, but absent")
        );
    }
    // a key that cannot be read as text hides nothing but the hint
    let odd = with("url", "1").replace("\"url\"", "\"\\ud800\"");
    assert_eq!(detail(odd.as_bytes()), "url: required, but absent");
}
