//! Events inside other documents.

use super::*;

fn rules_in(envelope: &str) -> MappingRules {
    let mut rules = rules(&[(Field::Url, &["/url"]), (Field::EventId, &["/id", "$/id"])]);
    rules.envelope = Some(envelope.to_owned());
    rules
}

fn both(envelope: &str, record: &str) -> (Option<String>, Option<String>) {
    let rules = rules_in(envelope);
    let value = |field| found(&rules, record, field).unwrap();
    (value(Field::Url), value(Field::EventId))
}

fn some(url: &str, id: &str) -> (Option<String>, Option<String>) {
    (Some(url.to_owned()), Some(id.to_owned()))
}

#[test]
fn an_event_is_found_in_an_object_or_in_a_text_and_what_is_around_it_too() {
    for (envelope, record) in [
        ("/data", r#"{"id":1,"data":{"url":"/a"},"url":"/outside"}"#),
        ("/data", r#"{"id":1,"data":"{\"url\":\"/a\"}"}"#),
        ("/data", r#"{"data":"\u007b\"url\":\"/a\"}","id":1}"#),
        (
            "/payload/after",
            r#"{"id":1,"payload":{"after":{"url":"/a"}}}"#,
        ),
        (
            "/payload/after",
            r#"{"payload":{"after":" {\"url\":\"/a\"} "},"id":1}"#,
        ),
        ("/list/0", r#"{"id":1,"list":[{"url":"/a"}]}"#),
    ] {
        assert_eq!(both(envelope, record), some("\"/a\"", "1"), "{record}");
    }
    // what the event itself says comes first
    assert_eq!(
        both("/data", r#"{"id":1,"data":{"url":"/a","id":2}}"#),
        some("\"/a\"", "2")
    );
    assert_eq!(
        both("/data", r#"{"id":1,"data":"{\"url\":\"/a\",\"id\":2}"}"#),
        some("\"/a\"", "2")
    );
}

#[test]
fn without_an_event_at_the_envelope_only_what_is_around_it_is_found() {
    for record in [
        r#"{"id":1}"#,
        r#"{"id":1,"data":null}"#,
        r#"{"id":1,"data":[{"url":"/a"}]}"#,
        r#"{"id":1,"data":7}"#,
    ] {
        assert_eq!(
            both("/data", record),
            (None, Some("1".to_owned())),
            "{record}"
        );
    }
}

#[test]
fn a_text_that_holds_no_object_is_refused_and_its_place_named() {
    for (data, error) in [
        ("\"\"", "invalid_json: the text at /data: "),
        ("\"x\"", "invalid_json: the text at /data: "),
        (r#""{\"url\":""#, "invalid_json: the text at /data: "),
        ("\"[1]\"", "not_an_object: the text at /data: "),
        (
            "\"\\ud800\"",
            "invalid_json: the text at the envelope contains a lone surrogate",
        ),
    ] {
        let mapper = mapper(&rules_in("/data"));
        let record = format!(r#"{{"data":{data}}}"#);
        let rejected = match mapper.read(&record) {
            Ok(Read::Text(text)) => mapper.read_text(&text).map(|_| ()).unwrap_err(),
            Err(rejected) => rejected,
            other => panic!("{other:?}"),
        };
        let shown = rejected.to_string_for_tests();
        assert!(shown.starts_with(error), "{shown}");
    }
}

#[test]
fn an_envelope_that_appears_twice_makes_what_is_in_it_ambiguous() {
    let rules = rules_in("/data");
    for record in [
        r#"{"data":{"url":"/a"},"data":{"url":"/b"}}"#,
        r#"{"data":{"url":"/a"},"data":"{}"}"#,
        r#"{"data":"{}","data":"{\"url\":\"/b\"}"}"#,
    ] {
        assert!(found(&rules, record, Field::Url).is_err(), "{record}");
    }
}

#[test]
fn the_place_of_the_event_is_known() {
    for (envelope, record, begin) in [
        (None, r#" {"url":"/a"} "#, r#"{"url":"/a"}"#),
        (
            Some("/data"),
            r#"{"data": {"url":"/a"}, "x":1}"#,
            r#"{"url":"/a"}"#,
        ),
        (
            Some("/list/0"),
            r#"{"list":[{"url":"/a"}]}"#,
            r#"{"url":"/a"}"#,
        ),
    ] {
        let mut rules = rules(&[(Field::Url, &["/url"])]);
        rules.envelope = envelope.map(str::to_owned);
        let mapper = mapper(&rules);
        let Ok(Read::Event(event)) = mapper.read(record) else {
            panic!("{record} is one event");
        };
        assert!(event.body.unwrap().starts_with(begin), "{record}");
    }
}
