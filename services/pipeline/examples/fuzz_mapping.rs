//! Reads random records by random rules, and compares each event with what a slow reading of the
//! same record gives: every pointer followed by itself through `serde_json::Value`, the values put
//! under our own names, and the result read without rules. Damaged records must not panic.
//!
//! `cargo run --release --package clickstream-pipeline --example fuzz_mapping -- 10000000 [SEED]`

#![expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the ban on clocks is for the library; this program is timed"
)]

use std::collections::BTreeMap;
use std::time::Instant;

use clickstream_pipeline::decode::mapping::MappingRules;
use clickstream_pipeline::decode::{Decoder, Field, Rejected};
use clickstream_pipeline::event::{Event, EventTime, id};
use clickstream_pipeline::spec::SemanticSpec;
use serde_json::{Map, Value, json};

/// Records that are read by the same rules.
const RECORDS: u64 = 32;

/// 2026-03-01T12:00:00Z.
const RECEIVED_AT: EventTime = EventTime::from_micros(1_772_366_400_000_000);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(text) => text.parse().expect("a number"),
        None => default,
    };
    let (inputs, seed) = (number(1_000_000), number(1));
    let start = Instant::now();
    let (mut events, mut rejected, mut batches) = (0_u64, 0_u64, 0_u64);
    for round in 0..inputs.div_ceil(2 * RECORDS) {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9).wrapping_add(round));
        let mapping = rules(&mut dice);
        let spec = SemanticSpec::default();
        let plain = spec.decoder();
        let mut mapped = spec.clone();
        mapped.events.mapping = mapping.clone();
        let mapped = mapped.decoder();
        for _ in 0..RECORDS {
            let record = record(&mut dice, &mapping);
            if dice.below(4) == 0 {
                batches += compare_batch(&mut dice, &record, &mapping, &plain);
            }
            let text = record.to_string();
            let fast = mapped.decode(text.as_bytes(), RECEIVED_AT);
            match compare(&fast, &record, &mapping, &plain) {
                Ok(()) => {}
                Err(slow) => panic!(
                    "seed {seed}, round {round}\n{mapping:#?}\n{text}\n  one pass: {fast:?}\n  each pointer: {slow}"
                ),
            }
            if fast.is_ok() {
                events += 1;
            } else {
                rejected += 1;
            }
            let damaged = damaged(&mut dice, text.into_bytes());
            let _ = mapped.decode(&damaged, RECEIVED_AT);
        }
    }
    println!(
        "{} records compared ({events} events, {rejected} rejected), {batches} elements of batches, \
         and as many damaged ones of both read, seed {seed}: no difference, no panic, {:.0} s",
        events + rejected,
        start.elapsed().as_secs_f64()
    );
}

/// Whether the slow reading agrees; otherwise what it says.
fn compare(
    fast: &Result<Event<'_>, Rejected>,
    record: &Value,
    rules: &MappingRules,
    plain: &Decoder,
) -> Result<(), String> {
    let Some(flat) = flattened(record, rules) else {
        // a text at the envelope that holds no event
        return if fast.is_err() {
            Ok(())
        } else {
            Err("no event".to_owned())
        };
    };
    compare_flat(fast, &flat, plain, None)
}

/// `place`, if given, is that of an element that has its record's id.
fn compare_flat(
    fast: &Result<Event<'_>, Rejected>,
    flat: &Value,
    plain: &Decoder,
    place: Option<i16>,
) -> Result<(), String> {
    let text = flat.to_string();
    let mut slow = plain.decode(text.as_bytes(), RECEIVED_AT);
    if let (Ok(event), Some(place)) = (&mut slow, place) {
        event.event_id = id::of_element(event.event_id, place);
    }
    let is_same = match (fast, &slow) {
        (Ok(fast), Ok(slow)) => fast == slow,
        (Err(fast), Err(slow)) => (fast.reason, fast.field) == (slow.reason, slow.field),
        _ => false,
    };
    if is_same {
        Ok(())
    } else {
        Err(format!("{slow:?} of {text}"))
    }
}

/// Puts a few records of this form into one, reads it, and panics unless each of them is read as it
/// would be by itself. Returns how many there were.
fn compare_batch(dice: &mut Dice, record: &Value, rules: &MappingRules, plain: &Decoder) -> u64 {
    let mut elements = vec![record.clone(); dice.below(3) as usize];
    elements.extend((0..dice.below(3)).map(|_| tree(dice, 2)));
    let is_inside = rules.envelope.is_none() && dice.below(2) == 0;
    let mut spec = SemanticSpec::default();
    spec.events.mapping = MappingRules {
        batch: Some(if is_inside {
            "/\u{fc}b".to_owned()
        } else {
            String::new()
        }),
        ..rules.clone()
    };
    let mut outer = Map::new();
    if is_inside && let Value::Object(shared) = record {
        outer.extend(shared.clone());
        outer.insert("\u{fc}b".to_owned(), Value::Array(elements.clone()));
    }
    let whole = match is_inside {
        true => Value::Object(outer),
        false => Value::Array(elements.clone()),
    };
    let text = whole.to_string();
    let mut read = 0;
    spec.decoder()
        .decode_each(text.as_bytes(), RECEIVED_AT, |element| {
            let value = &elements[read];
            assert_eq!(element.index as usize, read);
            assert_eq!(element.payload, value.to_string().as_bytes());
            let compared = if !value.is_object() {
                // what is no object is no event, whatever a pointer leads to
                element
                    .verdict
                    .is_err()
                    .then_some(())
                    .ok_or_else(String::new)
            } else if is_inside {
                let flat = fields_of(&whole, Some(value), rules);
                let place = has_id_of_record(&whole, value, rules).then_some(element.index);
                compare_flat(&element.verdict, &flat, plain, place)
            } else {
                compare(&element.verdict, value, rules, plain)
            };
            if let Err(slow) = compared {
                panic!(
                    "{rules:#?}\n{text}\n  element {read}: {:?}\n  by itself: {slow}",
                    element.verdict
                );
            }
            read += 1;
        });
    assert_eq!(read, elements.len(), "{rules:#?}\n{text}");
    let damaged = damaged(dice, text.into_bytes());
    spec.decoder().decode_each(&damaged, RECEIVED_AT, |_| ());
    read as u64
}

/// The record under our own names.
fn flattened(record: &Value, rules: &MappingRules) -> Option<Value> {
    let mut record = record.clone();
    if let Some(envelope) = &rules.envelope
        && let Some(Value::String(text)) = record.pointer(envelope)
    {
        let inner: Value = serde_json::from_str(text).ok().filter(Value::is_object)?;
        *record.pointer_mut(envelope)? = inner;
    }
    let event = match &rules.envelope {
        Some(envelope) => record.pointer(envelope),
        None => Some(&record),
    };
    Some(fields_of(&record, event, rules))
}

/// Whether the first pointer that leads to an id begins at the record.
fn has_id_of_record(record: &Value, event: &Value, rules: &MappingRules) -> bool {
    let pointers = rules.fields.get(Field::EventId.as_str());
    let leads = |pointer: &&String| value_at(record, Some(event), pointer).is_some();
    let first = pointers.and_then(|all| all.iter().find(leads));
    first.is_some_and(|pointer| pointer.starts_with('$'))
}

/// What a pointer leads to, unless it is null.
fn value_at<'v>(record: &'v Value, event: Option<&'v Value>, pointer: &str) -> Option<&'v Value> {
    let value = match pointer.strip_prefix('$') {
        Some(outer) => record.pointer(outer),
        None => event.and_then(|event| event.pointer(pointer)),
    };
    value.filter(|value| !value.is_null())
}

/// The fields of an event under our own names.
fn fields_of(record: &Value, event: Option<&Value>, rules: &MappingRules) -> Value {
    let mut flat = Map::new();
    for field in Field::ALL {
        let own = vec![format!("/{field}")];
        let pointers = rules.fields.get(field.as_str()).unwrap_or(&own);
        let found = pointers
            .iter()
            .find_map(|pointer| value_at(record, event, pointer));
        let constant = rules.constants.get(field.as_str()).map(|text| json!(text));
        if let Some(value) = found.cloned().or(constant) {
            flat.insert(field.to_string(), value);
        }
    }
    Value::Object(flat)
}

const NAMES: [&str; 10] = ["a", "b", "c", "0", "1", "url", "user_id", "ü~/", "", "data"];

fn way(dice: &mut Dice) -> String {
    (0..1 + dice.below(4))
        .map(|_| {
            format!(
                "/{}",
                dice.one(&NAMES).replace('~', "~0").replace('/', "~1")
            )
        })
        .collect()
}

fn rules(dice: &mut Dice) -> MappingRules {
    let mut rules = MappingRules::default();
    if dice.below(3) == 0 {
        rules.envelope = Some(way(dice));
    }
    for field in Field::ALL {
        if dice.below(8) == 0 {
            continue;
        }
        let pointers = (0..dice.below(5) + 1).map(|_| {
            let way = way(dice);
            let is_outer = dice.below(6) == 0 && rules.envelope.as_ref() != Some(&way);
            if is_outer { format!("${way}") } else { way }
        });
        rules.fields.insert(field.to_string(), pointers.collect());
    }
    if dice.below(4) == 0 {
        rules
            .constants
            .insert("session_id".to_owned(), "constant \"ü".to_owned());
    }
    rules
}

/// A record that most rules find an event in.
fn record(dice: &mut Dice, rules: &MappingRules) -> Value {
    let mut record = Map::new();
    let mut event = tree(dice, 3);
    if !event.is_object() || dice.below(2) == 0 {
        event = Value::Object(Map::new());
    }
    let mut outer = BTreeMap::new();
    for field in Field::ALL {
        let own = vec![format!("/{field}")];
        let pointers = rules.fields.get(field.as_str()).unwrap_or(&own);
        if dice.below(64) == 0 {
            continue;
        }
        let pointer = &pointers[dice.below(pointers.len() as u64) as usize];
        let value = value_of(dice, field);
        match pointer.strip_prefix('$') {
            Some(pointer) => drop(outer.insert(pointer.to_owned(), value)),
            None => put(&mut event, pointer, value),
        }
    }
    let mut whole = match &rules.envelope {
        None => event,
        Some(envelope) => {
            if dice.below(2) == 0 {
                let text = if dice.below(30) == 0 {
                    "{".to_owned()
                } else {
                    event.to_string()
                };
                event = Value::String(text);
            }
            if dice.below(2) == 0 {
                record.insert("b".to_owned(), tree(dice, 2));
            }
            let mut record = Value::Object(record);
            put(&mut record, envelope, event);
            record
        }
    };
    for (pointer, value) in outer {
        put(&mut whole, &pointer, value);
    }
    whole
}

/// Puts a value at the end of a way, with objects and arrays of one element on it.
fn put(at: &mut Value, pointer: &str, value: Value) {
    let (mut at, mut value) = (at, Some(value));
    let mut steps = pointer.split('/').skip(1).peekable();
    while let Some(step) = steps.next() {
        let key = step.replace("~1", "/").replace("~0", "~");
        if let Value::Array(list) = at {
            let Some(next) = key
                .parse::<usize>()
                .ok()
                .and_then(|index| list.get_mut(index))
            else {
                return;
            };
            at = next;
        } else {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Value::Object(map) = at else { return };
            at = map.entry(key).or_insert(Value::Null);
        }
        if steps.peek().is_none() {
            *at = value.take().unwrap_or_default();
        }
    }
}

fn tree(dice: &mut Dice, depth: u64) -> Value {
    match dice.below(if depth == 0 { 6 } else { 10 }) {
        0 => Value::Null,
        1 => json!(dice.below(2) == 0),
        2 => json!(dice.below(1 << 50) as i64 - (1 << 49)),
        3 => json!(0.5),
        4 => json!("text \u{1} \" \\ ü"),
        5 => json!("2026-03-01T11:59:59Z"),
        6 => Value::Array((0..dice.below(3)).map(|_| tree(dice, depth - 1)).collect()),
        _ => {
            let entries =
                (0..dice.below(5)).map(|_| ((*dice.one(&NAMES)).to_owned(), tree(dice, depth - 1)));
            Value::Object(entries.collect())
        }
    }
}

/// A value that is right for a field more often than not.
fn value_of(dice: &mut Dice, field: Field) -> Value {
    if dice.below(96) == 0 {
        return tree(dice, 2);
    }
    match field {
        Field::EventId => {
            let half = || format!("{:012x}", dice.0 & 0xffff_ffff_ffff);
            json!(format!("6f9619ff-8b86-d011-b42d-{}", half()))
        }
        Field::UserId => json!(dice.below(1 << 40)),
        Field::EventTs => json!(1_772_366_000_000_u64 + dice.below(500_000)),
        Field::Ip => json!(format!("192.0.2.{}", dice.below(300))),
        _ => json!(format!("/ü\"{}", dice.below(1000))),
    }
}

fn damaged(dice: &mut Dice, mut text: Vec<u8>) -> Vec<u8> {
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(text.len() as u64) as usize;
        match dice.below(4) {
            0 => text[at] = dice.below(256) as u8,
            1 => text.insert(at, *dice.one(b"{}[]\":,\\u0\xff")),
            2 => text.truncate(at.max(1)),
            _ => {
                let end = (at + dice.below(12) as usize).min(text.len());
                let piece = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
        }
    }
    text
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one<'o, T>(&mut self, of: &'o [T]) -> &'o T {
        &of[self.below(of.len() as u64) as usize]
    }
}
