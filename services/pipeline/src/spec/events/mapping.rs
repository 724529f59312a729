//! What a spec says of where the fields of an event stand: the rules that follow, and what is wrong
//! with it.

use super::EventsSpec;
use crate::decode::mapping::{MAX_POINTERS, MappingRules, Pointer, Preset};
use crate::decode::{Field, check_constant};
use crate::spec::validate::At;

/// Longest constant, in Unicode scalar values.
const MAX_CONSTANT_CHARS: usize = 1024;

impl EventsSpec {
    /// The rules, with those of the preset below those that are written out.
    pub(super) fn mapping(&self) -> MappingRules {
        let mut rules = self.preset.map(Preset::rules).unwrap_or_default();
        // an anchor names what was followed: a field that a later release knows must not be looked
        // for in a log that was read without it
        let is_known = |name: &String, _: &mut Vec<String>| Field::from_key(name).is_some();
        rules.fields.retain(is_known);
        rules.fields.extend(self.fields.clone());
        rules.constants.extend(self.constants.clone());
        if let Some(envelope) = &self.envelope {
            rules.envelope = Some(envelope.clone());
        }
        if let Some(batch) = &self.batch {
            rules.batch = Some(batch.clone());
        }
        rules.strip_registry_prefix =
            self.schema_registry_prefix == super::SchemaRegistryPrefix::Strip;
        rules
    }

    /// What keeps the built-in producer's events from being read, if anything does, as it is called
    /// below `events`: they have the keys of this project's own names.
    pub(in crate::spec) fn hides_producer(&self) -> Option<String> {
        if self.preset.is_some() {
            return Some("preset".to_owned());
        }
        if self.envelope.is_some() {
            return Some("envelope".to_owned());
        }
        let required = [Field::EventId, Field::UserId, Field::EventTs, Field::Url];
        let hidden = required.map(Field::as_str).into_iter().find(|name| {
            let is_made = *name == "event_id" && self.id == super::EventIds::FromFields;
            let leads_there = |pointers: &Vec<String>| {
                pointers
                    .iter()
                    .any(|pointer| pointer.trim_start_matches('$').strip_prefix('/') == Some(name))
            };
            let pointers = self.fields.get(*name);
            !is_made
                && !self.constants.contains_key(*name)
                && pointers.is_some_and(|pointers| !leads_there(pointers))
        });
        hidden.map(|name| format!("fields.{name}"))
    }

    pub(super) fn check_mapping(&self, at: &mut At<'_>) {
        self.check_fields(&mut at.field("fields"));
        self.check_constants(&mut at.field("constants"));
        if let Some(envelope) = &self.envelope {
            check_inner(envelope, &mut at.field("envelope"));
        }
        if let Some(batch) = self.batch.as_ref().filter(|batch| !batch.is_empty()) {
            check_inner(batch, &mut at.field("batch"));
        }
    }

    fn check_fields(&self, at: &mut At<'_>) {
        for (name, pointers) in &self.fields {
            let mut at = at.field(name);
            check_name(name, &mut at);
            if pointers.is_empty() && !self.constants.contains_key(name) {
                at.problem(
                    "name at least one pointer, such as /context/page/url, or a text for it \
                     under constants",
                );
            }
            if pointers.len() > MAX_POINTERS {
                at.problem(format!("name at most {MAX_POINTERS} pointers"));
            }
            for (index, pointer) in pointers.iter().enumerate() {
                check_text(pointer, &mut at.index(index));
                if let Err(error) = pointer.parse::<Pointer>() {
                    at.index(index).problem(error.to_string());
                }
            }
        }
    }

    fn check_constants(&self, at: &mut At<'_>) {
        for (name, text) in &self.constants {
            let mut at = at.field(name);
            check_name(name, &mut at);
            if matches!(Field::from_key(name), Some(Field::EventId | Field::EventTs)) {
                at.problem("all events would have the same one: name pointers under fields");
                continue;
            }
            check_text(text, &mut at);
            if !(1..=MAX_CONSTANT_CHARS).contains(&text.chars().count()) {
                at.problem(format!("write 1 to {MAX_CONSTANT_CHARS} characters"));
            } else if let Some(Err(rejected)) = Field::from_key(name)
                // that is said already
                .filter(|_| !text.contains('\0'))
                .map(|field| check_constant(field, text))
            {
                at.problem(format!("no event could have it: {}", rejected.rule()));
            }
        }
    }
}

fn check_name(name: &str, at: &mut At<'_>) {
    if Field::from_key(name).is_none() {
        let names = Field::ALL.map(Field::as_str).join(", ");
        at.problem(format!("no field of an event: use one of {names}"));
    }
}

/// Rules are kept with every anchor as `jsonb`, which takes no U+0000; of the others nobody sees
/// what is meant.
pub(super) fn check_text(text: &str, at: &mut At<'_>) {
    if text.chars().any(char::is_control) {
        at.problem("leave control characters out");
    }
}

/// A pointer that begins where nothing is around it yet.
fn check_inner(text: &str, at: &mut At<'_>) {
    check_text(text, at);
    match text.parse::<Pointer>() {
        Ok(pointer) if pointer.from_record => {
            at.problem("it begins at the record anyhow: leave the `$` out");
        }
        Ok(_) => {}
        Err(error) => at.problem(error.to_string()),
    }
}

/// The same rules in the vocabulary of Kubernetes.
#[cfg(feature = "schema")]
pub(super) mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde_json::{Value, json};

    use super::{Field, MAX_CONSTANT_CHARS, MAX_POINTERS};
    use crate::decode::mapping::MAX_POINTER_CHARS;
    use crate::spec::schema::{ADDRESS, PRINTABLE, Rule};

    /// A pointer from the event on. Its steps: none, a key that does not begin with a bracket, one
    /// that begins with a bracket and does not end with one, or a key and its text in brackets.
    const WAY: &str = r"(/(([^/~\[\p{Cc}]|~[01])([^/~\p{Cc}]|~[01])*|\[(([^/~\p{Cc}]|~[01])*([^/~\]\p{Cc}]|~[01]))?|\[([^/~=\p{Cc}]|~[01])+=([^/~\p{Cc}]|~[01])*\])?){1,16}$";

    pub(in super::super) const RULES: [Rule; 1] = [Rule {
        rule: "!has(self.fields) || self.fields.all(key, size(self.fields[key]) > 0 || (has(self.constants) && key in self.constants))",
        message: "name at least one pointer, such as /context/page/url, or a text for it under constants",
        field: ".fields",
    }];

    fn known(names: &[Field]) -> Value {
        let names: Vec<&str> = names.iter().map(|field| field.as_str()).collect();
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        json!([{
            "rule": format!("self.all(key, key in [{}])", quoted.join(", ")),
            "message": format!("no field of an event: use one of {}", names.join(", ")),
        }])
    }

    /// A pointer from the event on, or from the record.
    pub(in super::super) fn field_pointer(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_POINTER_CHARS,
            "pattern": format!(r"^\$?{WAY}"),
        })
    }

    /// Pointers by the name of a field.
    pub(in super::super) fn fields(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": Field::ALL.len(),
            "additionalProperties": {
                "type": "array",
                "maxItems": MAX_POINTERS,
                "items": field_pointer(generator),
            },
            "x-kubernetes-validations": known(&Field::ALL),
        })
    }

    /// Texts by the name of a field.
    pub(in super::super) fn constants(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<Field> = Field::ALL
            .into_iter()
            .filter(|field| !matches!(field, Field::EventId | Field::EventTs))
            .collect();
        let mut validations = known(&names);
        if let Value::Array(rules) = &mut validations {
            rules.extend(own_rules());
        }
        json_schema!({
            "type": "object",
            "maxProperties": names.len(),
            "additionalProperties": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_CONSTANT_CHARS,
                "pattern": PRINTABLE,
            },
            "x-kubernetes-validations": validations,
        })
    }

    /// What a constant must be by the rules of its own field, where those ask for more than all of
    /// them do.
    fn own_rules() -> impl Iterator<Item = Value> {
        let characters = |field: Field| {
            (
                field,
                format!("size(self['{field}']) <= 128"),
                "longer than 128 characters",
            )
        };
        let rules = [
            characters(Field::UserId),
            (
                Field::Ip,
                format!("self['ip'].matches('{ADDRESS}')"),
                "not an IPv4 or IPv6 address",
            ),
            characters(Field::SessionId),
            (
                Field::UserAgent,
                "size(bytes(self['user_agent'])) <= 1024".to_owned(),
                "longer than 1024 bytes",
            ),
            characters(Field::EventName),
            (
                Field::Site,
                "size(bytes(self['site'])) <= 255".to_owned(),
                "longer than 255 bytes",
            ),
        ];
        rules.into_iter().map(|(field, holds, message)| {
            json!({
                "rule": format!("!('{field}' in self) || {holds}"),
                "message": format!("{field}: no event could have it: {message}"),
            })
        })
    }

    /// A pointer from the record on, or none: the record itself.
    pub(in super::super) fn batch_pointer(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_POINTER_CHARS,
            "pattern": format!("^$|^{WAY}"),
        })
    }

    /// A pointer from the record on.
    pub(in super::super) fn pointer(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_POINTER_CHARS,
            "pattern": format!("^{WAY}"),
        })
    }
}
