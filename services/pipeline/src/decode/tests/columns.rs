//! Columns: what stands at their pointers, and that looking for them changes nothing else.

use super::*;
use crate::decode::columns::{ColumnType, ColumnValue, Promoted, PromotedColumn};

fn column(name: &str, pointer: &str, kind: ColumnType) -> PromotedColumn {
    PromotedColumn {
        name: name.to_owned(),
        pointer: pointer.to_owned(),
        r#type: kind,
    }
}

/// A decoder with these columns; `change` may say more.
fn with(columns: &[PromotedColumn], change: impl FnOnce(&mut EventRules)) -> Decoder {
    let mut spec = SemanticSpec::default();
    spec.events.columns = columns.to_vec();
    change(&mut spec.events);
    spec.decoder()
}

fn text(text: &str) -> Promoted<'_> {
    Promoted {
        value: Some(ColumnValue::Text(text.into())),
        cleaned: None,
    }
}

const PLAIN: &str = r#""event_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","user_id":"anna",
    "event_ts":1772366398123,"url":"/a""#;

#[test]
fn an_event_of_ours_has_its_columns_wherever_they_stand_in_it() {
    let decoder = with(
        &[
            column("plan", "/account/plan", ColumnType::Text),
            column("price", "/items/0/price", ColumnType::Number),
            column("seats", "/seats", ColumnType::Integer),
            column("path", "/url", ColumnType::Text),
            column("colour", "/tags/[key=colour]/value", ColumnType::Text),
        ],
        |_| {},
    );
    let payload = format!(
        r#"{{{PLAIN},"account":{{"plan":"pro"}},"items":[{{"price":4.5}},{{"price":5}}],
        "seats":"many","tags":[{{"key":"size","value":"L"}},{{"key":"colour","value":"red"}}]}}"#
    );
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    assert_eq!(event.url, "/a");
    let [plan, price, seats, path, colour] = &event.columns[..] else {
        panic!("{:?}", event.columns)
    };
    assert_eq!(
        [plan, path, colour],
        [&text("pro"), &text("/a"), &text("red")]
    );
    let Some(ColumnValue::Number(number)) = &price.value else {
        panic!("{price:?}")
    };
    assert_eq!(number.get(), 4.5);
    assert_eq!(seats.value, None);
    assert_eq!(seats.cleaned, Some(CleanReason::WrongType));
}

#[test]
fn a_mapped_event_in_a_text_has_them_too_and_a_dollar_begins_at_the_record() {
    let decoder = with(
        &[
            column("plan", "/plan", ColumnType::Text),
            column("source", "$/source", ColumnType::Text),
        ],
        |events| {
            events.mapping.envelope = Some("/body".to_owned());
            events
                .mapping
                .fields
                .insert("url".to_owned(), vec!["/path".to_owned()]);
        },
    );
    let body = format!(
        r#"{{{},"plan":"a\u0062","path":"/b"}}"#,
        PLAIN.replace("url", "uri")
    );
    let payload = serde_json::json!({ "source": "web", "body": body, "plan": "outside" });
    let payload = payload.to_string();
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    assert_eq!(event.url, "/b");
    assert_eq!(event.columns, [text("ab"), text("web")]);
}

#[test]
fn a_key_that_appears_twice_on_the_way_says_nothing_and_costs_no_event() {
    let decoder = with(
        &[
            column("plan", "/account/plan", ColumnType::Text),
            column("absent", "/nowhere", ColumnType::Text),
            column("none", "/none", ColumnType::Text),
        ],
        |_| {},
    );
    let payload =
        format!(r#"{{{PLAIN},"none":null,"account":{{"plan":"a"}},"account":{{"plan":"b"}}}}"#);
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    let repeated = Promoted {
        value: None,
        cleaned: Some(CleanReason::RepeatedKey),
    };
    assert_eq!(
        event.columns,
        [repeated, Promoted::default(), Promoted::default()]
    );
}

#[test]
fn what_has_a_column_stays_among_the_properties() {
    let decoder = with(&[column("plan", "/plan", ColumnType::Text)], |events| {
        events.properties = Some(PropertyLimits::default());
    });
    let payload = format!(r#"{{{PLAIN},"plan":"pro"}}"#);
    let event = decoder.decode(payload.as_bytes(), RECEIVED_AT).unwrap();
    assert_eq!(event.properties.as_deref(), Some(r#"{"plan":"pro"}"#));
    assert_eq!(event.columns, [text("pro")]);
}

#[test]
fn columns_change_no_verdict_and_no_word_of_a_dead_letter() {
    let decoder = SemanticSpec::default().decoder();
    let promoting = with(
        &[
            column("plan", "/account/plan", ColumnType::Text),
            column("id", "/event_id", ColumnType::Text),
        ],
        |_| {},
    );
    let payloads = [
        format!("{{{PLAIN}}}"),
        format!(r#" {{ {PLAIN} , "account" : {{ "plan" : 1 }} }} "#),
        r#"{"event_id":1}"#.to_owned(),
        r#"{"eventId":"x","userId":1}"#.to_owned(),
        format!(r#"{{{PLAIN},"url":"/b"}}"#),
        format!(r#"{{{PLAIN},"account":{{"plan":}}}}"#),
        format!(r#"{{{PLAIN},"account":{{"plan":1}}"#),
        format!(r#"{{{PLAIN},"account":[[[}}"#),
        format!(r#"{{{PLAIN}}} x"#),
        format!(r#"{{{PLAIN},"\ud800":1,"account":"\ud800"}}"#),
        "[]".to_owned(),
        "7".to_owned(),
        r#"{"user_id":"#.to_owned(),
    ];
    for payload in payloads {
        let plain = decoder.decode(payload.as_bytes(), RECEIVED_AT);
        let with_columns = promoting
            .decode(payload.as_bytes(), RECEIVED_AT)
            .map(|event| Event {
                columns: Vec::new(),
                ..event
            });
        assert_eq!(plain, with_columns, "{payload}");
    }
}
