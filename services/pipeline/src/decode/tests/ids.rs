//! Ids that are no UUIDs, and events that have none.

use uuid::Uuid;

use super::*;
use crate::spec::EventIds;

fn id(raw: &str) -> Result<Uuid, Rejected> {
    let payload = with("event_id", raw);
    TODAY
        .decode(payload.as_bytes(), RECEIVED_AT)
        .map(|event| event.event_id)
}

fn of(text: &str) -> Uuid {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"event-id.clickstream.dev");
    Uuid::new_v5(&namespace, text.as_bytes())
}

#[test]
fn an_id_that_is_no_uuid_is_the_uuid_of_its_text() {
    for (raw, text) in [
        (
            "\"ajs-next-1763632800-7e906656\"",
            "ajs-next-1763632800-7e906656",
        ),
        (
            "\"01KAFZ03J8X5Y3ZQ9V7W2T1R4N\"",
            "01KAFZ03J8X5Y3ZQ9V7W2T1R4N",
        ),
        ("\" \"", " "),
        ("\"\\u00e9\"", "é"),
        ("17", "17"),
        ("\"17\"", "17"),
        ("-17", "-17"),
        ("-0", "0"),
        (
            "123456789012345678901234567890",
            "123456789012345678901234567890",
        ),
    ] {
        assert_eq!(id(raw), Ok(of(text)), "{raw}");
    }
    let longest = "é".repeat(200);
    assert_eq!(id(&format!("\"{longest}\"")), Ok(of(&longest)));
    // and a UUID is itself, in every spelling
    let uuid = Uuid::parse_str(ID.trim_matches('"')).unwrap();
    for spelling in [
        uuid.hyphenated().to_string(),
        uuid.simple().to_string(),
        uuid.urn().to_string(),
    ] {
        assert_eq!(
            id(&format!(
                "\"{}\"",
                spelling.to_uppercase().replace("URN:UUID", "urn:uuid")
            )),
            Ok(uuid)
        );
    }
}

#[test]
fn what_identifies_nothing_is_no_id() {
    for (raw, rule) in [
        ("\"\"", "empty"),
        (
            "\"00000000-0000-0000-0000-000000000000\"",
            "the nil UUID identifies nothing",
        ),
        ("1.0", "a number with a fraction or an exponent"),
        ("1e3", "a number with a fraction or an exponent"),
        ("true", "neither a string nor an integer"),
        ("[\"a\"]", "neither a string nor an integer"),
        ("{}", "neither a string nor an integer"),
        ("\"a\\u0000\"", "contains U+0000"),
        ("\"\\ud800\"", "contains a lone surrogate"),
    ] {
        let rejected = id(raw).unwrap_err();
        assert_eq!(rejected.reason, RejectReason::InvalidField, "{raw}");
        assert_eq!(rejected.detail, format!("event_id: {rule}"));
    }
    for long in ["x".repeat(201), "é".repeat(201)] {
        let rejected = id(&format!("\"{long}\"")).unwrap_err();
        assert_eq!(rejected.detail, "event_id: longer than 200 characters");
    }
    assert_eq!(
        id(&"9".repeat(201)).unwrap_err().detail,
        "event_id: longer than 200 characters"
    );
}

#[test]
fn the_first_release_goes_on_taking_uuids_only() {
    for raw in ["\"17\"", "17", "\"\""] {
        let payload = with("event_id", raw);
        let rejected = judge(payload.as_bytes()).unwrap_err();
        assert_eq!(rejected.reason, RejectReason::InvalidField);
    }
    let payload = with("event_id", "\"17\"");
    assert_eq!(
        judge(payload.as_bytes()).unwrap_err().detail,
        "event_id: not a UUID"
    );
    let payload = with("event_id", "17");
    assert_eq!(
        judge(payload.as_bytes()).unwrap_err().detail,
        "event_id: not a string"
    );
}

#[test]
fn events_without_ids_have_the_one_that_their_fields_make() {
    let mut spec = SemanticSpec::default();
    spec.events.id = EventIds::FromFields;
    let decoder = spec.decoder();
    let id = |payload: &str| {
        decoder
            .decode(payload.as_bytes(), RECEIVED_AT)
            .unwrap_or_else(|rejected| panic!("{payload}: {rejected:?}"))
            .event_id
    };
    let plain = with("event_id", "null");
    let first = id(&plain);
    assert_eq!(first.get_version_num(), 5);
    // an id that is there says nothing, nor does the order of fields, their spelling, or what is
    // unknown
    for same in [
        with("event_id", "\"17\""),
        with("event_id", "[]"),
        with("event_ts", "1772366399000"),
        with("event_ts", "\"2026-03-01 12:59:59+01\""),
        with("user_id", "\"\\u0061nna\""),
        with("extra", "1"),
        with("ip", "\"-\""),
        with("referrer", "\"\""),
    ] {
        assert_eq!(id(&same), first, "{same}");
    }
    let mut seen = vec![first];
    for (field, raw) in [
        ("user_id", "\"anne\""),
        ("event_ts", "1772366399001"),
        ("url", "\"/a\""),
        ("referrer", "\"/\""),
        ("ip", "\"192.0.2.1\""),
        ("ip", "\"192.0.2.2\""),
        ("session_id", "\"1\""),
        ("user_agent", "\"1\""),
    ] {
        let other = id(&with(field, raw));
        assert!(!seen.contains(&other), "{field} {raw}");
        seen.push(other);
    }
    assert_eq!(
        id(&with("session_id", "1")),
        id(&with("session_id", "\"1\""))
    );
}
