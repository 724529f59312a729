//! What holds for every record and every set of rules.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::model::{Json, at, field, is_member};
use super::*;
use crate::decode::columns::{ColumnType, MAX_COLUMNS};

/// Few names, so that pointers often lead somewhere and keys often repeat.
const NAMES: [&str; 8] = ["a", "b", "c", "0", "1", "key", "é~/", ""];

fn json() -> impl Strategy<Value = Json> {
    let scalar = select(vec![
        "null",
        "true",
        "1",
        "-2.5e-7",
        "1e400",
        "\"v\"",
        "\"\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
    ])
    .prop_map(|raw| Json::Scalar(raw.to_owned()));
    let entries = |inner| {
        (
            select(NAMES.to_vec()).prop_map(str::to_owned),
            any::<bool>(),
            inner,
        )
    };
    let tree = scalar.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            4 => prop::collection::vec(entries(inner.clone()), 0..6).prop_map(Json::Object),
            1 => inner.prop_map(|value| Json::Text(Box::new(value))),
        ]
    });
    let entries = (
        select(NAMES.to_vec()).prop_map(str::to_owned),
        any::<bool>(),
        tree,
    );
    prop::collection::vec(entries, 0..7).prop_map(Json::Object)
}

fn way() -> impl Strategy<Value = String> {
    let step = prop_oneof![
        6 => select(NAMES.to_vec()).prop_map(|name| name.replace('~', "~0").replace('/', "~1")),
        1 => Just("[key=v]".to_owned()),
    ];
    prop::collection::vec(step, 1..5).prop_map(|steps| format!("/{}", steps.join("/")))
}

fn mapping() -> impl Strategy<Value = MappingRules> {
    let pointer = (way(), prop::bool::weighted(0.2))
        .prop_map(|(way, is_outer)| if is_outer { format!("${way}") } else { way });
    let list = prop::option::weighted(0.8, prop::collection::vec(pointer, 0..5));
    let fields = prop::collection::vec(list, Field::ALL.len());
    let constants = prop::collection::btree_map(
        select(Field::ALL.map(Field::as_str).to_vec()).prop_map(str::to_owned),
        "\\PC{0,4}",
        0..2,
    );
    let envelope = prop::option::weighted(0.4, way());
    let batch = prop::option::weighted(0.3, way());
    (fields, constants, envelope, batch).prop_map(|(fields, constants, envelope, batch)| {
        let fields = Field::ALL.iter().zip(fields);
        MappingRules {
            fields: fields
                .filter_map(|(field, list)| Some((field.to_string(), list?)))
                .collect(),
            constants,
            envelope,
            batch,
            strip_registry_prefix: false,
        }
    })
}

/// Whether a pointer from the record leads through the batch, which validation refuses, or to the
/// envelope itself, which the model opens for all pointers.
fn is_beside_the_model(rules: &MappingRules) -> bool {
    let envelope = format!("${}", rules.envelope.as_deref().unwrap_or_default());
    let batch = rules
        .batch
        .as_ref()
        .map(|batch| format!("{envelope}{batch}"));
    let mut pointers = rules.fields.values().flatten();
    pointers.any(|pointer| {
        *pointer == envelope
            || batch
                .as_ref()
                .is_some_and(|batch| pointer.starts_with(batch))
    })
}

fn outcome(fields: &Fields<'_>, field: Field) -> Result<Option<String>, ()> {
    raw(fields, field).map_err(drop)
}

/// A column for each pointer of the fields.
fn columns(rules: &MappingRules) -> Vec<PromotedColumn> {
    let pointers = rules.fields.values().flatten().take(MAX_COLUMNS);
    pointers
        .map(|pointer| PromotedColumn {
            name: String::new(),
            pointer: pointer.clone(),
            r#type: ColumnType::Text,
        })
        .collect()
}

/// What the model finds at a column's pointer.
fn alone(
    column: &PromotedColumn,
    record: &Json,
    event: Option<&Json>,
    space: &str,
) -> model::Value {
    let rules = rules(&[(Field::Url, &[&column.pointer])]);
    field(&rules, record, event, Field::Url, space)
}

fn said(seen: Seen<'_>) -> model::Value {
    match seen {
        Seen::Nothing => Ok(None),
        Seen::Raw(raw) => Ok(Some(raw.to_owned())),
        Seen::Twice => Err(()),
    }
}

/// Compares the one pass with the model for a record; whether the record got as far as fields.
fn agree(rules: &MappingRules, record: &Json, space: &str) -> Result<bool, TestCaseError> {
    let columns = columns(rules);
    let Some(mapper) = Mapper::new(rules, &columns) else {
        return Ok(false);
    };
    let mut record = record.clone();
    let text = record.written(space);
    let Ok(envelope) = rules
        .envelope
        .as_deref()
        .map_or(Ok(Some(&record)), |way| at(&record, way))
    else {
        // the event is ambiguous as a whole: it has to come to no field
        if let Ok(Read::Event(event)) = mapper.read(&text) {
            for field in Field::ALL {
                let relative = rules.fields.get(field.as_str());
                let is_relative = relative.is_some_and(|list| {
                    !list.is_empty() && list.iter().all(|pointer| !pointer.starts_with('$'))
                });
                prop_assert!(!is_relative || outcome(&event.fields, field).is_err());
            }
        }
        return Ok(false);
    };
    let mut event = envelope.cloned();
    let mut inner = None;
    let first = match (mapper.read(&text), event.clone()) {
        (Ok(Read::Text(text)), Some(Json::Text(value))) => {
            // pointers from the record see through the text as well
            replace(
                &mut record,
                rules.envelope.as_deref().unwrap_or_default(),
                &value,
            );
            event = Some(*value);
            inner = Some(text);
            None
        }
        (Ok(Read::Text(_)), Some(Json::Scalar(raw))) => {
            prop_assert!(raw.starts_with('"'));
            return Ok(false);
        }
        (Ok(Read::Text(_)), other) => {
            return Err(TestCaseError::fail(format!("a text out of {other:?}")));
        }
        (other, _) => Some(other),
    };
    let read = match (first, &inner) {
        (Some(read), _) => read,
        (None, Some(text)) => mapper.read_text(text),
        (None, None) => return Ok(false),
    };
    // an array at the envelope is no event, though pointers lead into it, that of the batch too
    let is_event = matches!(event, Some(Json::Object(_)));
    let batch = match (&rules.batch, &event) {
        (Some(way), Some(event)) => match at(event, way) {
            Ok(batch) => batch.filter(|batch| **batch != Json::Scalar("null".to_owned())),
            Err(()) => return Ok(false),
        },
        _ => None,
    };
    let fields_in = event.as_ref().filter(|_| is_event || rules.batch.is_none());
    match (read, batch) {
        (Ok(Read::Event(read)), None) => {
            for one in Field::ALL {
                let expected = field(rules, &record, fields_in, one, space);
                prop_assert_eq!(outcome(&read.fields, one), expected, "{}", one);
            }
            for (column, seen) in columns.iter().zip(&read.columns) {
                let expected = alone(column, &record, fields_in, space);
                prop_assert_eq!(said(*seen), expected, "{}", column.pointer);
            }
            prop_assert_eq!(read.body.is_some(), is_event);
            Ok(true)
        }
        (Ok(Read::Batch(elements)), Some(Json::Array(list))) => {
            prop_assert_eq!(elements.raw.len(), list.len());
            for (raw, element) in elements.raw.iter().zip(list) {
                let read = mapper.element(&elements, raw);
                let is_object = matches!(element, Json::Object(_));
                prop_assert_eq!(read.is_ok(), is_object);
                let Ok(read) = read else { continue };
                for one in Field::ALL {
                    let expected = field(rules, &record, Some(element), one, space);
                    prop_assert_eq!(outcome(&read.fields, one), expected, "{}", one);
                }
                for (column, seen) in columns.iter().zip(&read.columns) {
                    let expected = alone(column, &record, Some(element), space);
                    prop_assert_eq!(said(*seen), expected, "{}", column.pointer);
                }
            }
            Ok(true)
        }
        (Err(rejected), batch) => {
            let is_text = inner.is_some() && !is_event;
            let is_batch = batch.is_some_and(|batch| !matches!(batch, Json::Array(_)));
            let is_surrogate = rejected.detail.contains("surrogate");
            prop_assert!(is_text || is_batch || is_surrogate, "{:?}", rejected);
            Ok(false)
        }
        (read, batch) => Err(TestCaseError::fail(format!("{read:?} for {batch:?}"))),
    }
}

/// Puts a value at the end of a way that is known to be there.
fn replace(record: &mut Json, way: &str, value: &Json) {
    let mut at = record;
    for step in way.parse::<Pointer>().unwrap().steps {
        let next = match (at, step) {
            (Json::Object(entries), Step::Key(key)) => entries
                .iter_mut()
                .find(|(other, ..)| *other == key)
                .map(|(.., value)| value),
            (Json::Array(list), Step::Key(key)) => list.get_mut(key.parse::<usize>().unwrap()),
            (Json::Array(list), Step::Member { key, value }) => list
                .iter_mut()
                .find(|element| is_member(element, &key, &value)),
            _ => None,
        };
        at = next.unwrap();
    }
    *at = value.clone();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn one_pass_finds_what_following_each_pointer_by_itself_finds(
        rules in mapping().prop_filter("beside the model", |rules| !is_beside_the_model(rules)),
        record in json(),
        space in select(vec!["", " ", "\n\t"]),
    ) {
        agree(&rules, &record, space)?;
    }

    #[test]
    fn pointers_lead_where_those_of_serde_json_lead(
        way in way().prop_filter("an addition of ours", |way| !way.contains('[')),
        record in json(),
    ) {
        let text = record.written("");
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            // a value keeps the last of repeated keys; what is ambiguous is compared with the model
            let found = found(&rules(&[(Field::Url, &[&way])]), &text, Field::Url);
            if let Ok(found) = found {
                let found = found.map(|raw| serde_json::from_str::<Value>(&raw).unwrap());
                let there = value.pointer(&way).filter(|value| !value.is_null());
                prop_assert_eq!(found.as_ref(), there);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(
        rules in mapping(),
        text in "[\\[\\]{}\",:\\\\uabc01key -]{0,80}",
        any in "\\PC{0,40}",
    ) {
        let Some(mapper) = Mapper::new(&rules, &[]) else { return Ok(()) };
        for text in [&text, &any, &format!("{{\"a\":{text}"), &format!("{{\"a\":{text}}}")] {
            match mapper.read(text) {
                Ok(Read::Text(text)) => drop(mapper.read_text(&text)),
                Ok(Read::Batch(elements)) => {
                    for raw in &elements.raw {
                        let _ = mapper.element(&elements, raw);
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_generators_reach_fields() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut reached = 0;
    for _ in 0..400 {
        let rules = mapping().new_tree(&mut runner).unwrap().current();
        let record = json().new_tree(&mut runner).unwrap().current();
        if !is_beside_the_model(&rules) && agree(&rules, &record, "").unwrap() {
            reached += 1;
        }
    }
    assert!(reached > 100, "{reached} of 400 come to fields");
}
