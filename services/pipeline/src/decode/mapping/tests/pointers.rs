//! Where values are found, and where a record says two things at once.

use super::*;

const URL: Field = Field::Url;

fn url(pointers: &[&str], record: &str) -> Result<Option<String>, String> {
    found(&rules(&[(URL, pointers)]), record, URL)
}

fn text(raw: &str) -> Result<Option<String>, String> {
    Ok(Some(raw.to_owned()))
}

#[test]
fn a_pointer_leads_through_objects_and_arrays() {
    let record =
        r#" { "a" : { "b" : [ {"c": "x"} , {"c" : "y" } ] } , "d": 1, "0": {"é/~": true} } "#;
    for (pointer, raw) in [
        ("/a/b/1/c", "\"y\""),
        ("/a/b/0", r#"{"c": "x"}"#),
        ("/d", "1"),
        ("/0/é~1~0", "true"),
    ] {
        assert_eq!(url(&[pointer], record), text(raw), "{pointer}");
    }
    for pointer in [
        "/a/c", "/a/b/2", "/a/b/01", "/a/b/-", "/a/b/c", "/d/e", "/0/0", "/b",
    ] {
        assert_eq!(url(&[pointer], record), Ok(None), "{pointer}");
    }
}

#[test]
fn the_first_pointer_that_leads_to_something_wins_in_whatever_order_the_record_has_them() {
    for record in [
        r#"{"page":{"url":"/deep"},"url":"/flat"}"#,
        r#"{"url":"/flat","page":{"url":"/deep"}}"#,
    ] {
        assert_eq!(url(&["/page/url", "/url"], record), text("\"/deep\""));
        assert_eq!(url(&["/url", "/page/url"], record), text("\"/flat\""));
    }
}

#[test]
fn a_null_is_passed_over() {
    let record = r#"{"page":{"url":null},"url":"/flat"}"#;
    assert_eq!(url(&["/page/url", "/url"], record), text("\"/flat\""));
    assert_eq!(url(&["/page/url"], record), Ok(None));
    assert_eq!(url(&["/page/url"], r#"{"page":null}"#), Ok(None));
}

#[test]
fn what_stands_on_the_way_may_hold_anything() {
    // none of these can be read as a value, and none has to be
    for other in ["1e400", "\"\\ud800\"", "\"x\"", "true", "-0", "[[]]"] {
        let record =
            format!(r#"{{"page":{other},"{other}":1,"url":"/flat"}}"#).replace("\"\"", "\"\\u0000");
        let record = record.replace("\"[[]]\"", "\"list\"");
        if serde_json::from_str::<&RawValue>(&record).is_ok() {
            assert_eq!(
                url(&["/page/url", "/url"], &record),
                text("\"/flat\""),
                "{record}"
            );
        }
    }
    let record = r#"{"\ud800":{"url":1},"page":1e400,"url":"/flat"}"#;
    assert_eq!(url(&["/page/url", "/url"], record), text("\"/flat\""));
}

#[test]
fn one_value_may_be_several_fields_and_lie_on_the_way_to_others() {
    let rules = rules(&[
        (Field::UserId, &["/who"]),
        (Field::SessionId, &["/who"]),
        (Field::Url, &["/who/url"]),
    ]);
    let record = r#"{"who":{"url":"/a"}}"#;
    assert_eq!(
        found(&rules, record, Field::UserId),
        text(r#"{"url":"/a"}"#)
    );
    assert_eq!(
        found(&rules, record, Field::SessionId),
        text(r#"{"url":"/a"}"#)
    );
    assert_eq!(found(&rules, record, URL), text("\"/a\""));
}

#[test]
fn a_key_that_appears_twice_on_the_way_makes_the_field_ambiguous() {
    let twice = Err("url: key appears twice".to_owned());
    for record in [
        r#"{"page":{"url":"/a"},"page":{"url":"/b"}}"#,
        r#"{"page":{"url":"/a"},"p\u0061ge":1}"#,
        r#"{"page":null,"page":{"url":"/b"}}"#,
        r#"{"page":{"url":"/a","url":"/b"}}"#,
        r#"{"page":{"url":null,"url":"/b"}}"#,
        r#"{"page":{"title":1},"page":{"title":2},"url":"/flat"}"#,
    ] {
        assert_eq!(url(&["/page/url", "/url"], record), twice, "{record}");
    }
    // what comes first is not in doubt, and what no pointer names may repeat
    let record =
        r#"{"x":1,"x":2,"page":{"url":"/a","x":1,"x":2},"page":{"url":"/b"},"url":"/flat"}"#;
    assert_eq!(url(&["/url", "/page/url"], record), text("\"/flat\""));
}

#[test]
fn a_step_in_brackets_takes_the_element_with_a_text() {
    let record = r#"{"params":[{"key":"a","value":{"text":"x"}},
        {"value":{"text":"y"},"key":"page"},7,{"key":["page"]}]}"#;
    assert_eq!(
        url(&["/params/[key=page]/value/text"], record),
        text("\"y\"")
    );
    assert_eq!(url(&["/params/[key=b]/value/text"], record), Ok(None));
    assert_eq!(
        url(&["/params/[key=page]"], r#"{"params":{"key":"page"}}"#),
        Ok(None)
    );
    let twice = r#"{"params":[{"key":"a","v":1},{"key":"a","v":2}]}"#;
    assert_eq!(
        url(&["/params/[key=a]/v"], twice),
        Err("url: key appears twice".to_owned())
    );
}

#[test]
fn a_constant_stands_in_where_no_pointer_leads_to_anything() {
    let mut rules = rules(&[(URL, &["/page/url"])]);
    rules
        .constants
        .insert("url".to_owned(), "a \"quoted\" text".to_owned());
    let constant = text(r#""a \"quoted\" text""#);
    assert_eq!(
        found(&rules, r#"{"page":{"url":"/a"}}"#, URL),
        text("\"/a\"")
    );
    assert_eq!(found(&rules, r#"{"page":{"url":null}}"#, URL), constant);
    assert_eq!(found(&rules, "{}", URL), constant);
    // a record that says two things is not mended by a third
    assert!(found(&rules, r#"{"page":1,"page":2}"#, URL).is_err());
}

#[test]
fn a_field_that_is_not_listed_stands_at_its_own_name() {
    let mut rules = MappingRules::default();
    rules
        .fields
        .insert("url".to_owned(), vec!["/page".to_owned()]);
    let record = r#"{"page":"/a","user_id":7,"url":"/b"}"#;
    assert_eq!(found(&rules, record, URL), text("\"/a\""));
    assert_eq!(found(&rules, record, Field::UserId), text("7"));
}

#[test]
fn what_is_no_object_is_refused_as_without_a_mapping() {
    let rules = rules(&[(URL, &["/page/url"])]);
    for (record, reason) in [
        ("[1]", "not_an_object"),
        ("null", "not_an_object"),
        ("", "invalid_json"),
        ("{", "invalid_json"),
        (r#"{"page":{"url":"/a"}"#, "invalid_json"),
        (r#"{"page":{"url":"/a"}} x"#, "invalid_json"),
        (r#"{"page" {"url":"/a"}}"#, "invalid_json"),
        (r#"{"page":{"url":}}"#, "invalid_json"),
        (r#"{"page":{"url":"\x"}}"#, "invalid_json"),
        (r#"{"other":[1,]}"#, "invalid_json"),
    ] {
        let error = found(&rules, record, URL).unwrap_err();
        assert!(error.starts_with(reason), "{record}: {error}");
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{}1{}", "{\"page\":".repeat(100_000), "}".repeat(100_000));
    assert!(url(&["/page/url"], &deep).is_ok());
    let deep = format!(
        "{{\"page\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(url(&["/page/0/0/0/0/0/0/0/0/0/url"], &deep), Ok(None));
}
