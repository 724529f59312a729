//! Records with several events.

use super::*;

fn batch_rules(envelope: Option<&str>, batch: &str) -> MappingRules {
    let mut rules = rules(&[
        (Field::Url, &["/page/url"]),
        (Field::EventTs, &["/time", "$/sentAt"]),
    ]);
    rules.envelope = envelope.map(str::to_owned);
    rules.batch = Some(batch.to_owned());
    rules
}

type Values = Vec<Result<(Option<String>, Option<String>), String>>;

fn events(rules: &MappingRules, record: &str) -> Result<Values, String> {
    let mapper = mapper(rules);
    let values = |fields: &Fields<'_>| Ok((raw(fields, Field::Url)?, raw(fields, Field::EventTs)?));
    let shown = |rejected: Rejected| rejected.to_string_for_tests();
    let read = |read: Read<'_>| match read {
        Read::Event(event) => vec![values(&event.fields)],
        Read::Batch(elements) => elements
            .raw
            .iter()
            .map(|raw| match mapper.element(&elements, raw) {
                Ok(event) => values(&event.fields),
                Err(rejected) => Err(shown(rejected)),
            })
            .collect(),
        Read::Text(_) => panic!("a text in a text"),
    };
    match mapper.read(record).map_err(shown)? {
        Read::Text(text) => mapper.read_text(&text).map(read).map_err(shown),
        other => Ok(read(other)),
    }
}

fn event(url: &str, time: &str) -> Result<(Option<String>, Option<String>), String> {
    Ok((Some(url.to_owned()), Some(time.to_owned())))
}

#[test]
fn each_element_is_an_event_and_may_lean_on_the_record() {
    let record =
        r#"{"batch":[{"page":{"url":"/a"},"time":1},{"page":{"url":"/b"}}, 7 ,{}],"sentAt":9}"#;
    let all = events(&batch_rules(None, "/batch"), record).unwrap();
    assert_eq!(all[0], event("\"/a\"", "1"));
    assert_eq!(all[1], event("\"/b\"", "9"));
    assert!(all[2].as_ref().unwrap_err().starts_with("not_an_object"));
    assert_eq!(all[3], Ok((None, Some("9".to_owned()))));
    assert_eq!(all.len(), 4);
}

#[test]
fn a_batch_may_stand_in_an_envelope() {
    for record in [
        r#"{"data":{"batch":[{"page":{"url":"/a"}}]},"sentAt":9}"#,
        r#"{"sentAt":9,"data":"{\"batch\":[{\"page\":{\"url\":\"/a\"}}]}"}"#,
    ] {
        let all = events(&batch_rules(Some("/data"), "/batch"), record);
        assert_eq!(all, Ok(vec![event("\"/a\"", "9")]), "{record}");
    }
}

#[test]
fn an_empty_array_has_no_events_and_a_record_without_an_array_is_one() {
    let rules = batch_rules(None, "/batch");
    assert_eq!(events(&rules, r#"{"batch":[]}"#), Ok(Vec::new()));
    for record in [
        r#"{"page":{"url":"/a"},"time":1}"#,
        r#"{"page":{"url":"/a"},"batch":null,"sentAt":1}"#,
    ] {
        assert_eq!(events(&rules, record), Ok(vec![event("\"/a\"", "1")]));
    }
    let rules = batch_rules(Some("/data"), "/batch");
    let record = r#"{"data":{"page":{"url":"/a"}},"sentAt":1}"#;
    assert_eq!(events(&rules, record), Ok(vec![event("\"/a\"", "1")]));
}

#[test]
fn a_batch_of_another_kind_is_refused_and_so_is_one_that_appears_twice() {
    let rules = batch_rules(None, "/batch");
    for record in [
        r#"{"batch":{"page":1}}"#,
        r#"{"batch":"[]"}"#,
        r#"{"batch":7}"#,
    ] {
        let error = events(&rules, record).unwrap_err();
        assert_eq!(
            error,
            "not_an_object: the value at /batch is not an array of events"
        );
    }
    let twice = r#"{"batch":[{"page":{"url":"/a"}}],"batch":[{"page":{"url":"/b"}}]}"#;
    assert_eq!(
        events(&rules, twice).unwrap_err(),
        "not_an_object: a key appears twice on the way to the batch at /batch"
    );
}

#[test]
fn a_batch_may_stand_in_an_array_at_the_envelope() {
    let rules = batch_rules(Some("/data"), "/0");
    let all = events(&rules, r#"{"data":[[{"page":{"url":"/a"}}],7]}"#).unwrap();
    assert_eq!(all.len(), 1);
    let error = events(&rules, r#"{"data":[true]}"#).unwrap_err();
    assert_eq!(
        error,
        "not_an_object: the value at /0 is not an array of events"
    );
}
