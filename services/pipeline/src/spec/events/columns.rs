//! What a spec says of columns that keys of events have: what is wrong with it.

use super::{EventsSpec, mapping::check_text};
use crate::decode::columns::{MAX_COLUMN_NAME_BYTES, MAX_COLUMNS};
use crate::decode::mapping::Pointer;
use crate::spec::validate::At;

/// Names that the tables of events have columns of already, and that PostgreSQL gives to every
/// table. A test of the processor compares the first ones with the tables.
pub const TAKEN_COLUMN_NAMES: [&str; 35] = [
    "event_id",
    "user_id",
    "event_ts",
    "event_date",
    "url",
    "referrer",
    "ip",
    "received_at",
    "session_id",
    "user_agent",
    "event_name",
    "site",
    "page",
    "referrer_host",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_term",
    "utm_content",
    "bot",
    "properties",
    "source_offset",
    "source_index",
    "is_late",
    "source_topic_id",
    "source_partition",
    "topic",
    "partition",
    "stored_at",
    "tableoid",
    "ctid",
    "xmin",
    "xmax",
    "cmin",
    "cmax",
];

/// Names that later releases may need.
const OUR_PREFIX: &str = "clickstream_";

const NAME: &str =
    "write 1 to 63 lower-case letters, digits and underscores, not beginning with a digit";
const TAKEN: &str =
    "the tables have a column of that name already, or may get one: choose another name";

impl EventsSpec {
    pub(super) fn check_columns(&self, at: &mut At<'_>) {
        if self.columns.len() > MAX_COLUMNS {
            at.problem(format!("name at most {MAX_COLUMNS} columns"));
        }
        for (index, column) in self.columns.iter().enumerate() {
            let mut at = at.index(index);
            let name = column.name.as_str();
            if !is_name(name) {
                at.field("name").problem(NAME);
            } else if is_taken(name) {
                at.field("name").problem(TAKEN);
            }
            let mut before = self.columns[..index].iter();
            if before.any(|other| other.name == name) {
                at.field("name").problem("it is named twice");
            }
            let mut at = at.field("pointer");
            check_text(&column.pointer, &mut at);
            if let Err(error) = column.pointer.parse::<Pointer>() {
                at.problem(error.to_string());
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_first = |c: char| c == '_' || c.is_ascii_lowercase();
    name.len() <= MAX_COLUMN_NAME_BYTES
        && name.starts_with(is_first)
        && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

fn is_taken(name: &str) -> bool {
    name.starts_with(OUR_PREFIX) || TAKEN_COLUMN_NAMES.contains(&name)
}

/// The same rules in the vocabulary of Kubernetes.
#[cfg(feature = "schema")]
pub(crate) mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    use super::{MAX_COLUMN_NAME_BYTES, OUR_PREFIX, TAKEN, TAKEN_COLUMN_NAMES};
    use crate::spec::schema::UNQUOTED;

    pub(crate) fn name(_: &mut SchemaGenerator) -> Schema {
        let taken = TAKEN_COLUMN_NAMES
            .map(|name| format!("'{name}'"))
            .join(", ");
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_COLUMN_NAME_BYTES,
            "pattern": UNQUOTED,
            "x-kubernetes-validations": [{
                "rule": format!("!self.startsWith('{OUR_PREFIX}') && !(self in [{taken}])"),
                "message": TAKEN,
            }],
        })
    }

    pub(crate) fn pointer(generator: &mut SchemaGenerator) -> Schema {
        super::super::mapping::schema::field_pointer(generator)
    }
}
