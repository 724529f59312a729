#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot build its own input should stop there"
)]

mod batches;
mod envelopes;
mod model;
mod pointers;
mod properties;
mod samples;

use super::*;

/// Rules for a few fields; the others stand nowhere.
fn rules(fields: &[(Field, &[&str])]) -> MappingRules {
    let mut rules = MappingRules::default();
    for field in Field::ALL {
        rules.fields.insert(field.to_string(), Vec::new());
    }
    for (field, pointers) in fields {
        let pointers = pointers.iter().copied().map(str::to_owned).collect();
        rules.fields.insert(field.to_string(), pointers);
    }
    rules
}

fn mapper(rules: &MappingRules) -> Mapper {
    Mapper::new(rules, &[]).expect("these rules map something")
}

/// The raw text of a field, or the detail of what is wrong with it.
fn raw(fields: &Fields<'_>, field: Field) -> Result<Option<String>, String> {
    match fields.optional(field) {
        Ok(raw) => Ok(raw.map(str::to_owned)),
        Err(rejected) => Err(rejected.detail.into_owned()),
    }
}

/// The raw text of a field of a record that is one event.
fn found(rules: &MappingRules, record: &str, field: Field) -> Result<Option<String>, String> {
    let mapper = mapper(rules);
    match mapper.read(record) {
        Ok(Read::Event(event)) => raw(&event.fields, field),
        Ok(Read::Text(text)) => match mapper.read_text(&text) {
            Ok(Read::Event(event)) => raw(&event.fields, field),
            other => panic!("no event in the text: {other:?}"),
        },
        Ok(other) => panic!("not one event: {other:?}"),
        Err(rejected) => Err(rejected.to_string_for_tests()),
    }
}

impl Rejected {
    fn to_string_for_tests(&self) -> String {
        format!("{}: {}", self.reason, self.detail)
    }
}
