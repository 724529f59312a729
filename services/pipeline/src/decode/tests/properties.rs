//! What holds for every payload, not only for those in the corpus.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::model::{Plain, judge_value, plain};
use super::*;

/// Any JSON value of a depth far below serde_json's own limit.
pub(super) fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// A value that a field of this name may well have, valid more often than not.
fn field_value(field: Field) -> BoxedStrategy<Value> {
    let likely = match field {
        Field::EventId => prop_oneof![
            4 => any::<u128>().prop_map(|id| json!(Uuid::from_u128(id).to_string())),
            1 => Just(json!(Uuid::nil().to_string())),
        ]
        .boxed(),
        Field::UserId => prop_oneof![any::<i64>().prop_map(Value::from), "\\PC{1,140}".prop_map(Value::from)].boxed(),
        Field::EventTs => prop_oneof![
            3 => (EventTime::MIN.micros()..RECEIVED_AT.micros()).prop_map(|micros| json!(EventTime::from_micros(micros).to_string())),
            1 => (RECEIVED_AT.micros() / 1000 - 400_000..RECEIVED_AT.micros() / 1000 + 400_000).prop_map(Value::from),
        ]
        .boxed(),
        Field::Url | Field::Referrer => prop_oneof![
            4 => "/[a-zä😀\\n\"\\\\]{0,40}".prop_map(Value::from),
            1 => (8180..8200_usize).prop_map(|length| json!("u".repeat(length))),
        ]
        .boxed(),
        Field::Ip => any::<IpAddr>().prop_map(|ip| json!(ip.to_string())).boxed(),
        Field::SessionId => "\\PC{0,140}".prop_map(Value::from).boxed(),
        Field::EventName => prop_oneof![1 => Just(json!(event::PAGE_VIEW)), 4 => "\\PC{0,140}".prop_map(Value::from), 1 => any::<i32>().prop_map(Value::from)].boxed(),
        Field::Site => prop_oneof![2 => "[a-cA-C.:_ é-]{0,12}".prop_map(Value::from), 1 => "[aé]{150,260}".prop_map(Value::from), 1 => any::<i32>().prop_map(Value::from)].boxed(),
        Field::UserAgent => prop_oneof![4 => "\\PC{0,40}".prop_map(Value::from), 1 => "[ab]{1020,1030}".prop_map(Value::from)].boxed(),
    };
    prop_oneof![30 => likely, 1 => json_value()].boxed()
}

/// An object with most of the known fields and some unknown ones.
pub(super) fn event_like() -> impl Strategy<Value = Value> {
    let fields: Vec<_> = Field::ALL
        .into_iter()
        .map(|field| {
            prop::option::weighted(
                0.96,
                field_value(field).prop_map(move |value| (field.as_str().to_owned(), value)),
            )
        })
        .collect();
    let unknown = prop::collection::btree_map("[a-z]{0,6}", json_value(), 0..3);
    (fields, unknown).prop_map(|(fields, unknown)| {
        Value::Object(
            unknown
                .into_iter()
                .chain(fields.into_iter().flatten())
                .collect::<Map<_, _>>(),
        )
    })
}

/// A valid event.
fn valid() -> impl Strategy<Value = Plain> {
    let text = || prop_oneof!["\\PC{1,20}", "[a-z\\n\"\\\\\u{1}é😀]{1,20}"];
    (
        (
            1..u128::MAX,
            prop_oneof![any::<i64>().prop_map(|number| number.to_string()), text()],
        ),
        EventTime::MIN.micros()..=RECEIVED_AT.micros(),
        (text(), prop::option::of(text())),
        prop::option::of(any::<IpAddr>()),
        (prop::option::of(text()), prop::option::of(text())),
    )
        .prop_map(
            |((event_id, user_id), event_ts, (url, referrer), ip, (session_id, user_agent))| {
                Plain {
                    event_id,
                    user_id,
                    event_ts,
                    url,
                    referrer,
                    ip,
                    session_id,
                    user_agent,
                }
            },
        )
}

/// How an event may be written without changing what it says.
#[derive(Debug, Clone, Copy)]
enum Escapes {
    AsNeeded,
    Everything,
}

fn quoted(text: &str, escapes: Escapes) -> String {
    match escapes {
        Escapes::AsNeeded => serde_json::to_string(text).unwrap(),
        Escapes::Everything => {
            let units: String = text
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04X}"))
                .collect();
            format!("\"{units}\"")
        }
    }
}

/// Writes the event with the given escapes, spelling of the id, of the time, order of the fields
/// and white space.
fn written(
    event: &Plain,
    escapes: Escapes,
    id: usize,
    time: usize,
    turn: usize,
    space: &str,
) -> String {
    let uuid = Uuid::from_u128(event.event_id);
    let id = match id {
        0 => uuid.hyphenated().to_string(),
        1 => uuid.simple().to_string().to_uppercase(),
        2 => uuid.urn().to_string(),
        _ => uuid.braced().to_string(),
    };
    let utc = chrono::DateTime::from_timestamp_micros(event.event_ts).unwrap();
    let time = match time {
        0 if event.event_ts % 1000 == 0 => (event.event_ts / 1000).to_string(),
        0 | 1 => quoted(&utc.format("%Y-%m-%d %H:%M:%S%.6f").to_string(), escapes),
        2 => quoted(&utc.format("%Y-%m-%dt%H:%M:%S%.9fz").to_string(), escapes),
        _ => {
            let zone = chrono::FixedOffset::west_opt(9 * 3600 + 1800).unwrap();
            quoted(&utc.with_timezone(&zone).to_rfc3339(), escapes)
        }
    };
    let user = match event.user_id.parse::<i64>() {
        Ok(number) if number.to_string() == event.user_id => event.user_id.clone(),
        _ => quoted(&event.user_id, escapes),
    };
    let optional = |text: &Option<String>| {
        text.as_ref()
            .map_or("null".to_owned(), |text| quoted(text, escapes))
    };
    let ip = event.ip.map(|ip| ip.to_string());
    let mut fields = [
        (Field::EventId, quoted(&id, escapes)),
        (Field::UserId, user),
        (Field::EventTs, time),
        (Field::Url, quoted(&event.url, escapes)),
        (Field::Referrer, optional(&event.referrer)),
        (Field::Ip, optional(&ip)),
        (Field::SessionId, optional(&event.session_id)),
        (Field::UserAgent, optional(&event.user_agent)),
    ];
    fields.rotate_left(turn);
    let pairs: Vec<String> = fields
        .iter()
        .map(|(field, raw)| {
            format!(
                "{space}{}{space}:{space}{raw}{space}",
                quoted(field.as_str(), escapes)
            )
        })
        .collect();
    format!("{space}{{{}}}{space}", pairs.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn no_bytes_make_the_decoder_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = judge(&payload);
    }

    #[test]
    fn no_json_like_text_makes_the_decoder_panic(payload in "[\\[\\]{}\",:\\\\u0-9eE.+a-z -]{0,80}") {
        let _ = judge(payload.as_bytes());
        let _ = judge(with("url", &payload).as_bytes());
    }

    #[test]
    fn every_spelling_of_an_event_is_the_same_event(
        event in valid(),
        escapes in select(vec![Escapes::AsNeeded, Escapes::Everything]),
        id in 0..4_usize,
        time in 0..4_usize,
        turn in 0..8_usize,
        space in select(vec!["", " ", "\n\t", "\r\n"]),
    ) {
        let payload = written(&event, escapes, id, time, turn, space);
        let decoded = judge(payload.as_bytes());
        prop_assert!(decoded.is_ok(), "{:?} {}", decoded, payload);
        prop_assert_eq!(plain(&decoded.unwrap()), event);
    }

    #[test]
    fn any_json_is_judged_as_the_plain_decoder_judges_it(value in prop_oneof![9 => event_like(), 1 => json_value()]) {
        let payload = serde_json::to_vec(&value).unwrap();
        if let Ok(event) = judge(&payload) {
            // the first release knew neither
            prop_assert_eq!((event.event_name, event.site), (None, None));
        }
        let decoded = judge(&payload).map(|event| plain(&event)).map_err(|rejected| (rejected.reason, rejected.field));
        prop_assert_eq!(decoded, judge_value(&value));
    }

    #[test]
    fn a_damaged_event_is_rejected_or_read_as_the_plain_decoder_reads_it(
        event in valid(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut payload = written(&event, Escapes::AsNeeded, 0, 1, 0, "").into_bytes();
        for (at, byte, kind) in damage {
            let at = at.index(payload.len());
            match kind {
                0 => payload[at] = byte,
                1 => payload.insert(at, byte),
                _ => payload.truncate(at.max(1)),
            }
        }
        let decoded = judge(&payload);
        // the plain decoder cannot see repeated keys, and stumbles over some values of unknown ones
        if let (Ok(event), Ok(value)) = (&decoded, serde_json::from_slice::<Value>(&payload)) {
            prop_assert_eq!(Ok(plain(event)), judge_value(&value));
        }
        if let Err(rejected) = decoded {
            prop_assert_eq!(rejected.field.is_some(), rejected.reason >= RejectReason::MissingField);
        }
    }
}

#[test]
fn the_generators_reach_both_verdicts() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let valid = (0..400)
        .filter(|_| judge_value(&event_like().new_tree(&mut runner).unwrap().current()).is_ok())
        .count();
    assert!((20..380).contains(&valid), "{valid} of 400 are valid");
}
