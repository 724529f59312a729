use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const LIMITS: PropertyLimits = PropertyLimits {
    bytes: 8192,
    keys: 64,
    depth: 5,
};

fn kept(object: &str) -> (Option<String>, u32) {
    kept_within(object, LIMITS)
}

fn kept_within(object: &str, limits: PropertyLimits) -> (Option<String>, u32) {
    let kept = collect(object, &[], limits);
    (kept.json, kept.trimmed)
}

/// What is kept when the values with these raw texts became fields.
fn kept_beside(object: &str, used: &[&str]) -> Option<String> {
    let used: Vec<Option<&str>> = used
        .iter()
        .map(|raw| {
            let at = object
                .find(raw)
                .expect("the raw value stands in the object");
            Some(&object[at..at + raw.len()])
        })
        .collect();
    collect(object, &used, LIMITS).json
}

#[test]
fn what_became_a_field_is_left_out_and_all_else_is_kept_where_it_stands() {
    let object = r#"{ "user": "anna", "page": {"url": "/a", "title": "A"},
        "n": 1.50 , "ok": true, "no": null }"#;
    assert_eq!(
        kept_beside(object, &["\"anna\"", "\"/a\""]).as_deref(),
        Some(r#"{"n":1.50,"no":null,"ok":true,"page":{"title":"A"}}"#)
    );
}

#[test]
fn an_object_that_lost_all_to_fields_is_left_out_and_an_empty_one_stays() {
    let object = r#"{"page":{"url":"/a"},"empty":{},"list":[]}"#;
    assert_eq!(
        kept_beside(object, &["\"/a\""]).as_deref(),
        Some(r#"{"list":[],"empty":{}}"#)
    );
    assert_eq!(kept_beside(r#"{"page":{"url":"/a"}}"#, &["\"/a\""]), None);
    assert_eq!(kept("{}"), (None, 0));
}

#[test]
fn entries_are_written_in_the_order_in_which_jsonb_stores_them() {
    for (object, expected) in [
        (
            r#"{ "bb": {"y": 1, "x": [{"d": 1, "c": 2}]}, "é": 3, "b": 4, "a": "," }"#,
            r#"{"a":",","b":4,"bb":{"x":[{"c":2,"d":1}],"y":1},"é":3}"#,
        ),
        // of a repeated key the last one counts, so they stay in the order in which they came
        (
            r#"{"b":1,"a":2,"b":3,"a":4}"#,
            r#"{"a":2,"a":4,"b":1,"b":3}"#,
        ),
        // the same key in two spellings
        (r#"{"b":1,"\u0061":2,"a":3}"#, r#"{"b":1,"\u0061":2,"a":3}"#),
        (
            r#"{"c":"\n","b":1e401,"a":[1,"x"]}"#,
            r#"{"a":[1,"x"],"b":"1e401","c":"\n"}"#,
        ),
    ] {
        assert_eq!(kept(object).0.as_deref(), Some(expected));
    }
}

#[test]
fn the_order_is_made_of_the_entries_that_fit() {
    let limits = PropertyLimits { keys: 3, ..LIMITS };
    assert_eq!(
        kept_within(r#"{"c":1,"b":{"y":1,"x":2},"a":3}"#, limits),
        (Some(r#"{"b":{"y":1},"c":1}"#.to_owned()), 2)
    );
}

#[test]
fn only_the_event_is_read_when_its_text_goes_on_behind_it() {
    assert_eq!(
        kept(r#"{"a":1},"b":2}"#),
        (Some(r#"{"a":1}"#.to_owned()), 0)
    );
}

#[test]
fn an_entry_that_does_not_fit_is_left_out_and_the_next_that_fits_is_kept() {
    let limits = PropertyLimits {
        bytes: 20,
        ..LIMITS
    };
    let long = "x".repeat(20);
    let object = format!(r#"{{"a":1,"b":"{long}","c":{{"d":"{long}","e":2}}}}"#);
    assert_eq!(
        kept_within(&object, limits),
        (Some(r#"{"a":1,"c":{"e":2}}"#.to_owned()), 2)
    );
    // to the byte
    let limits = PropertyLimits { bytes: 7, ..LIMITS };
    assert_eq!(
        kept_within(r#"{"a":1}"#, limits).0.as_deref(),
        Some(r#"{"a":1}"#)
    );
    let limits = PropertyLimits { bytes: 6, ..LIMITS };
    assert_eq!(kept_within(r#"{"a":1}"#, limits), (None, 1));
}

#[test]
fn keys_of_all_levels_count_together() {
    let limits = PropertyLimits { keys: 3, ..LIMITS };
    assert_eq!(
        kept_within(r#"{"a":{"b":1,"c":2,"d":3},"e":4}"#, limits),
        (Some(r#"{"a":{"b":1,"c":2}}"#.to_owned()), 2)
    );
}

#[test]
fn what_is_too_deep_is_left_out() {
    let limits = PropertyLimits { depth: 2, ..LIMITS };
    assert_eq!(
        kept_within(r#"{"a":{"b":{"c":1},"d":2},"e":[[]],"f":[1]}"#, limits),
        (Some(r#"{"a":{"d":2},"f":[1]}"#.to_owned()), 2)
    );
    let deep = format!(
        "{{\"a\":{}{},\"b\":1}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(kept(&deep), (Some(r#"{"b":1}"#.to_owned()), 1));
}

#[test]
fn an_array_is_kept_whole_or_not_at_all() {
    let limits = PropertyLimits { keys: 4, ..LIMITS };
    assert_eq!(
        kept_within(
            r#"{"a":[{"b":1,"c":2},{"d":3,"e":4}],"f":[{"g":1}]}"#,
            limits
        ),
        (Some(r#"{"f":[{"g":1}]}"#.to_owned()), 1)
    );
    let object = r#"{"items":[{"url":"/a"}]}"#;
    assert_eq!(kept_beside(object, &["\"/a\""]).as_deref(), Some(object));
}

#[test]
fn what_jsonb_refuses_is_replaced() {
    assert_eq!(
        kept(r#"{"a":"x\u0000y","\ud800":"\udc00\ud83d\ude00","b":"\\u0000 \u00e9 \n"}"#),
        (
            Some(
                r#"{"a":"x_y","_":"_\ud83d\ude00","b":"\\u0000 \u00e9 \n"}"#
                    .replace('_', "\u{fffd}")
            ),
            3
        )
    );
}

#[test]
fn a_number_beyond_all_measure_becomes_text() {
    for raw in [
        "1e400000",
        "-1E+401",
        "1e-400000",
        "0e999999999999999999999",
        "1e-99999999999999999999",
    ] {
        assert_eq!(
            kept(&format!(r#"{{"a":{raw}}}"#)),
            (Some(format!(r#"{{"a":"{raw}"}}"#)), 1)
        );
    }
    for raw in [
        "0",
        "-0",
        "1.7976931348623157e308",
        "5e-324",
        "-12.50",
        "18446744073709551616",
    ] {
        let object = format!(r#"{{"a":{raw}}}"#);
        assert_eq!(kept(&object), (Some(object.clone()), 0));
    }
    let long = "1".repeat(401);
    assert_eq!(
        kept(&format!(r#"{{"a":{long}}}"#)).0,
        Some(format!(r#"{{"a":"{long}"}}"#))
    );
}

#[test]
fn json_is_compared_as_jsonb_keeps_it() {
    for (left, right) in [
        (r#"{"a":1,"b":2}"#, r#"{"b": 2, "a": 1.0}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
        (r#"{"a":"\u00e9\/"}"#, "{\"a\": \"é/\"}"),
        (r#"[1e2,-0,0.50]"#, "[100, 0, 0.5]"),
        (r#"{"a":1.5e-3}"#, r#"{"a": 0.0015}"#),
        ("null", " null"),
    ] {
        assert!(is_same_json(left, right), "{left} {right}");
    }
    for (left, right) in [
        (r#"{"a":1}"#, r#"{"a": "1"}"#),
        (r#"{"a":1}"#, r#"{"a": 10}"#),
        (r#"{"a":1}"#, r#"{"a": -1}"#),
        (r#"{"a":[1,2]}"#, r#"{"a": [2, 1]}"#),
        (r#"{"a":null}"#, "{}"),
        ("true", "false"),
    ] {
        assert!(!is_same_json(left, right), "{left} {right}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 48, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z\\x00\"]{0,4}", inner, 0..5)
                .prop_map(|map| json!(map)),
        ]
    })
}

fn keys_and_depth(value: &Value) -> (usize, usize) {
    let below = |values: &mut dyn Iterator<Item = &Value>| {
        values
            .map(keys_and_depth)
            .fold((0, 0), |(keys, depth), (k, d)| (keys + k, depth.max(d)))
    };
    match value {
        Value::Object(map) => {
            let (keys, depth) = below(&mut map.values());
            (keys + map.len(), depth + 1)
        }
        Value::Array(list) => {
            let (keys, depth) = below(&mut list.iter());
            (keys, depth + 1)
        }
        _ => (0, 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_kept_is_json_within_the_limits(
        map in prop::collection::btree_map("[a-z]{0,3}", value(), 0..6),
        bytes in 2..400_u16,
        keys in 0..12_u16,
        depth in 1..6_u8,
    ) {
        let object = serde_json::to_string_pretty(&map).expect("JSON");
        let limits = PropertyLimits { bytes, keys, depth };
        let kept = collect(&object, &[], limits);
        if let Some(json) = &kept.json {
            prop_assert!(json.len() <= usize::from(bytes), "{}", json);
            let value: Value = serde_json::from_str(json).expect("JSON");
            let (count, levels) = keys_and_depth(&value);
            prop_assert!(count <= usize::from(keys) && levels <= usize::from(depth), "{}", json);
            prop_assert!(!json.contains("\\u0000"));
        }
    }

    #[test]
    fn what_fits_is_kept_as_it_is(map in prop::collection::btree_map("[a-z]{0,3}", value(), 1..6)) {
        let object = serde_json::to_string_pretty(&map).expect("JSON");
        let limits = PropertyLimits { bytes: u16::MAX, keys: u16::MAX, depth: u8::MAX };
        let kept = collect(&object, &[], limits);
        prop_assert_eq!(kept.trimmed == 0, !object.contains("\\u0000"));
        if kept.trimmed == 0 {
            prop_assert!(is_same_json(&kept.json.expect("something is kept"), &object));
        }
    }

    #[test]
    fn no_text_makes_it_panic(
        text in "\\PC{0,60}",
        json in "[\\[\\]{}\",:\\\\u0-9eE.+a-z -]{0,60}",
    ) {
        for text in [&text, &json, &format!("{{{text}"), &format!("{{\"a\":{json}")] {
            let _ = collect(text, &[], LIMITS);
            let _ = is_same_json(text, &json);
        }
    }
}
