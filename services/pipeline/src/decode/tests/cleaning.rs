//! Optional fields that cannot be used as they are: what becomes of each, and that none of them
//! costs an event.

use std::net::IpAddr;

use super::model::{judge_value, plain};
use super::properties::{event_like, json_value};
use super::*;
use crate::spec::OptionalFields;
use CleanReason::*;
use proptest::prelude::*;
use serde_json::Value;

/// The fields that are texts.
const TEXTS: [Field; 5] = [
    Field::Referrer,
    Field::SessionId,
    Field::UserAgent,
    Field::EventName,
    Field::Site,
];

/// The event that is read of one field's raw JSON.
fn cleaned(field: Field, raw: &str) -> Event<'static> {
    let payload = with(field.as_str(), raw);
    TODAY
        .decode(payload.as_bytes(), RECEIVED_AT)
        .unwrap_or_else(|rejected| panic!("{raw:.80}: {rejected:?}"))
        .into_owned()
}

fn text(event: &Event<'_>, field: Field) -> Option<String> {
    let text = match field {
        Field::Referrer => &event.referrer,
        Field::SessionId => &event.session_id,
        Field::EventName => &event.event_name,
        Field::Site => &event.site,
        _ => &event.user_agent,
    };
    text.as_deref().map(str::to_owned)
}

/// Expects a text, and why it is not the one in the record.
fn becomes(field: Field, raw: &str, expected: Option<&str>, reason: Option<CleanReason>) {
    let event = cleaned(field, raw);
    let reasons: Vec<_> = event.cleaned.iter().collect();
    let expected_reasons: Vec<_> = reason.map(|reason| (field, reason)).into_iter().collect();
    assert_eq!(
        (text(&event, field).as_deref(), reasons),
        (expected, expected_reasons),
        "{field} {raw:.80}"
    );
}

/// The address that is read, and what was done about it.
fn address(decoder: &Decoder, raw: &str) -> (Option<IpAddr>, Option<CleanReason>) {
    let payload = with("ip", raw);
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    let reason = event.cleaned.iter().next().map(|(_, reason)| reason);
    (event.ip, reason)
}

fn some(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn texts_that_say_nothing_or_cannot_be_texts_are_left_out() {
    for field in TEXTS {
        becomes(field, "null", None, None);
        becomes(field, "\"a\"", Some("a"), None);
        becomes(field, "\" \"", Some(" "), None);
        becomes(field, "\"-\"", Some("-"), None);
        becomes(field, "\"\"", None, Some(Empty));
        becomes(field, "true", None, Some(WrongType));
        becomes(field, "{\"a\":1}", None, Some(WrongType));
        becomes(field, "[\"a\"]", None, Some(WrongType));
        becomes(field, "\"a\\u0000\"", None, Some(BadCharacters));
        becomes(field, "\"\\ud83d\"", None, Some(BadCharacters));
        becomes(field, "\"\\ud83d\\ude00\"", Some("😀"), None);
    }
    becomes(Field::Referrer, "7", None, Some(WrongType));
    becomes(Field::UserAgent, "7", None, Some(WrongType));
}

#[test]
fn a_session_a_name_or_a_site_that_is_a_number_is_its_text() {
    for (field, most) in [
        (Field::SessionId, 128),
        (Field::EventName, 128),
        (Field::Site, 255),
    ] {
        for number in ["7", "-7", "1.50", "1e3", "18446744073709551616"] {
            becomes(field, number, Some(number), Some(Number));
        }
        let digits = "7".repeat(300);
        becomes(field, &digits, Some(&digits[..most]), Some(TooLong));
    }
}

#[test]
fn what_is_too_long_is_cut_behind_the_last_character_that_fits() {
    for (field, bytes) in [
        (Field::Referrer, 8192),
        (Field::UserAgent, 1024),
        (Field::Site, 255),
    ] {
        let fits = "x".repeat(bytes);
        becomes(field, &format!("\"{fits}\""), Some(&fits), None);
        becomes(field, &format!("\"{fits}y\""), Some(&fits), Some(TooLong));
        // a character that would reach over the end is left out whole, also where the text has
        // escapes
        let over = format!("{}😀z", "x".repeat(bytes - 1));
        let kept = Some(&over[..bytes - 1]);
        becomes(field, &format!("\"{over}\""), kept, Some(TooLong));
        let escaped = format!("\"{}\\ud83d\\ude00z\"", "x".repeat(bytes - 1));
        becomes(field, &escaped, kept, Some(TooLong));
    }
    let longest = "é".repeat(128);
    for field in [Field::SessionId, Field::EventName] {
        becomes(field, &format!("\"{longest}\""), Some(&longest), None);
        let over = format!("\"{longest}é\"");
        becomes(field, &over, Some(&longest), Some(TooLong));
    }
}

#[test]
fn an_optional_field_whose_key_appears_twice_is_left_out() {
    for field in &Field::ALL[4..] {
        let payload =
            with(field.as_str(), "\"::1\"").replacen('{', &format!("{{\"{field}\":\"::2\","), 1);
        let event = TODAY.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
        let reasons: Vec<_> = event.cleaned.iter().collect();
        assert_eq!(reasons, [(*field, RepeatedKey)]);
        assert_eq!(
            (&event.ip, &event.referrer, &event.session_id),
            (&None, &None, &None)
        );
        assert_eq!(
            (event.user_agent, event.event_name, event.site),
            (None, None, None)
        );
    }
}

#[test]
fn an_address_is_found_in_the_spellings_of_proxies_and_logs() {
    let v4 = some("192.0.2.7");
    let v6 = some("2001:db8::7");
    for (raw, expected, reason) in [
        ("null", None, None),
        ("\"192.0.2.7\"", v4, None),
        ("\"2001:DB8::7\"", v6, None),
        ("\"::ffff:192.0.2.7\"", some("::ffff:192.0.2.7"), None),
        ("\"\"", None, Some(Empty)),
        ("\" \"", None, Some(Empty)),
        ("\"-\"", None, Some(Empty)),
        ("\"unknown\"", None, Some(Empty)),
        ("\"Unknown\"", None, Some(Empty)),
        ("\"null\"", None, Some(Empty)),
        ("\"-, unknown\"", None, Some(Empty)),
        ("\" 192.0.2.7 \"", v4, Some(Trimmed)),
        ("\"192.0.2.7:51234\"", v4, Some(Trimmed)),
        ("\"[2001:db8::7]\"", v6, Some(Trimmed)),
        ("\"[2001:db8::7]:443\"", v6, Some(Trimmed)),
        ("\"2001:db8::7%eth0\"", v6, Some(Trimmed)),
        ("\"[fe80::1%25en0]:80\"", some("fe80::1"), Some(Trimmed)),
        ("\"\\\"[2001:db8::7]:443\\\"\"", v6, Some(Trimmed)),
        ("\"192.0.2.7, 10.0.0.1\"", v4, Some(List)),
        ("\"192.0.2.7,10.0.0.1,10.0.0.2\"", v4, Some(List)),
        ("\"unknown, 192.0.2.7:80, 10.0.0.1\"", v4, Some(List)),
        ("\", [2001:db8::7]:1,\"", v6, Some(List)),
        ("[\"192.0.2.7\",\"10.0.0.1\"]", v4, Some(List)),
        ("[\"192.0.2.7\"]", v4, Some(List)),
        ("[\"-\",\"192.0.2.7, 10.0.0.1\"]", v4, Some(List)),
        ("\"300.1.1.1\"", None, Some(NotAnAddress)),
        ("\"192.0.2\"", None, Some(NotAnAddress)),
        ("\"192.0.2.7:\"", None, Some(NotAnAddress)),
        ("\"192.0.2.7:65536\"", None, Some(NotAnAddress)),
        ("\"192.0.2.7:+1\"", None, Some(NotAnAddress)),
        ("\"192.0.2.7/32\"", None, Some(NotAnAddress)),
        ("\"192.0.2.7%eth0\"", None, Some(NotAnAddress)),
        ("\"[192.0.2.7]:80\"", None, Some(NotAnAddress)),
        ("\"[2001:db8::7]443\"", None, Some(NotAnAddress)),
        ("\"[2001:db8::7\"", None, Some(NotAnAddress)),
        ("\"2001:db8::7%\"", None, Some(NotAnAddress)),
        ("\"shop.example\"", None, Some(NotAnAddress)),
        ("\"one, two\"", None, Some(NotAnAddress)),
        ("[]", None, Some(Empty)),
        ("[1]", None, Some(WrongType)),
        ("[[\"192.0.2.7\"]]", None, Some(WrongType)),
        ("3221225991", None, Some(WrongType)),
        ("{}", None, Some(WrongType)),
        ("\"192.0.2.7\\u0000\"", None, Some(BadCharacters)),
        ("\"\\udc00\"", None, Some(BadCharacters)),
    ] {
        assert_eq!(address(&TODAY, raw), (expected, reason), "{raw}");
    }
}

#[test]
fn behind_trusted_proxies_the_right_most_other_address_is_the_client() {
    let mut spec = SemanticSpec::default();
    spec.events.trusted_proxies = vec![
        "10.0.0.0/8".parse().unwrap(),
        "2001:db8::/64".parse().unwrap(),
    ];
    let decoder = spec.decoder();
    for (list, expected) in [
        // what stands in front may have been written by anybody
        ("198.51.100.1, 192.0.2.7, 10.0.0.1", some("192.0.2.7")),
        (
            "198.51.100.1, 192.0.2.7:80, 10.0.0.1, [2001:db8::2]:1",
            some("192.0.2.7"),
        ),
        ("198.51.100.1, 192.0.2.7", some("192.0.2.7")),
        ("192.0.2.7, ::ffff:10.0.0.1", some("192.0.2.7")),
        // all of them are ours: the first is the one who asked
        ("10.0.0.9, 10.0.0.1", some("10.0.0.9")),
        // our proxy does not know who called it
        ("198.51.100.1, unknown, 10.0.0.1", None),
        ("unknown, -", None),
    ] {
        let (ip, reason) = address(&decoder, &format!("\"{list}\""));
        assert_eq!(ip, expected, "{list}");
        assert_eq!(reason == Some(List), expected.is_some(), "{list}");
    }
    // one address is the client, whoever it is
    assert_eq!(address(&decoder, "\"10.0.0.1\""), (some("10.0.0.1"), None));
    assert_eq!(
        address(&TODAY, "\"198.51.100.1, 10.0.0.1\"").0,
        some("198.51.100.1")
    );
}

#[test]
fn a_spec_may_reject_what_would_be_cleaned() {
    let mut spec = SemanticSpec::default();
    spec.events.optional_fields = OptionalFields::Reject;
    let strict = spec.decoder();
    for (field, raw) in [
        (Field::Referrer, "7"),
        (Field::Ip, "\"-\""),
        (Field::Ip, "\"192.0.2.7, 10.0.0.1\""),
        (Field::SessionId, "7"),
        (Field::SessionId, "\"\""),
        (Field::UserAgent, "\"\\ud83d\""),
        (Field::EventName, "7"),
        (Field::EventName, "\"\""),
        (Field::Site, "7"),
        (Field::Site, "\"\""),
        (Field::Site, &format!("\"{}\"", "é".repeat(128))),
    ] {
        let payload = with(field.as_str(), raw);
        let rejected = strict.decode(payload.as_bytes(), RECEIVED_AT).unwrap_err();
        assert_eq!(
            (rejected.reason, rejected.field),
            (RejectReason::InvalidField, Some(field))
        );
        assert!(!cleaned(field, raw).cleaned.is_empty(), "{raw}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn only_required_fields_cost_an_event(value in prop_oneof![9 => event_like(), 1 => json_value()]) {
        let payload = serde_json::to_vec(&value).unwrap();
        match (TODAY.decode(&payload, RECEIVED_AT), judge_value(&value)) {
            (Err(rejected), _) => {
                prop_assert!(rejected.field.is_none_or(|field| field < Field::Referrer), "{:?}", rejected);
            }
            // whatever was an event is the same one, but for texts that say nothing
            (Ok(event), Ok(mut first)) => {
                for text in [&mut first.referrer, &mut first.user_agent] {
                    *text = text.take().filter(|text| !text.is_empty());
                }
                let known = |field| field < Field::EventName;
                let empties = event.cleaned.iter().all(|(field, reason)| reason == Empty || !known(field));
                prop_assert!(empties, "{:?}", event.cleaned);
                prop_assert_eq!(plain(&event), first);
            }
            (Ok(event), Err((_, field))) if field.is_some_and(|field| field >= Field::Referrer) => {
                prop_assert!(!event.cleaned.is_empty(), "{}", value);
            }
            // a time or an id that only the first release did not read
            (Ok(_), Err((_, field))) => prop_assert!(matches!(field, Some(Field::EventTs | Field::EventId))),
        }
    }

    #[test]
    fn a_cleaned_event_cleans_to_itself(value in event_like()) {
        let payload = serde_json::to_vec(&value).unwrap();
        if let Ok(event) = TODAY.decode(&payload, RECEIVED_AT) {
            let mut again = value.clone();
            again["referrer"] = event.referrer.as_deref().map_or(Value::Null, Value::from);
            again["ip"] = event.ip.map_or(Value::Null, |ip| ip.to_string().into());
            again["session_id"] = event.session_id.as_deref().map_or(Value::Null, Value::from);
            again["event_name"] = event.event_name.as_deref().map_or(Value::Null, Value::from);
            again["site"] = event.site.as_deref().map_or(Value::Null, Value::from);
            again["user_agent"] = event.user_agent.as_deref().map_or(Value::Null, Value::from);
            let again = serde_json::to_vec(&again).unwrap();
            let second = TODAY.decode(&again, RECEIVED_AT).unwrap();
            prop_assert!(second.cleaned.is_empty());
            prop_assert_eq!(plain(&second), plain(&event));
            prop_assert_eq!((second.event_name, second.site), (event.event_name, event.site));
        }
    }

    #[test]
    fn no_text_in_place_of_an_address_makes_the_decoder_panic(text in "[\\[\\]0-9a-f:.,%\" é-]{0,60}") {
        let raw = serde_json::to_string(&text).unwrap();
        let _ = address(&TODAY, &raw);
        let _ = address(&TODAY, &format!("[{raw},{raw}]"));
    }
}
