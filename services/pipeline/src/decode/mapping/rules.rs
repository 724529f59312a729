//! The rules of a mapping, as anchors keep them: presets are spelled out, so that a later release
//! with other presets still judges a stretch of the log as it was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most pointers of one field.
pub const MAX_POINTERS: usize = 8;

/// Where the fields of an event stand in a record. The default is the event format of this project:
/// every field at the key of its own name, at the top of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingRules {
    /// The pointers of each field by the field's name: the first that leads to something other than
    /// null gives the value. A field that is not listed stands at its own name; one with an empty
    /// list nowhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Vec<String>>,
    /// The text of a field where its pointers lead to nothing, by the field's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, String>,
    /// Pointer to the event within the record: an object, or a text that holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
    /// Pointer to an array, within the envelope, of which each element is an event; empty where the
    /// record itself is an array, of which each element is read as a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Whether five bytes that begin with 0x00 are taken off the front: the prefix of a schema
    /// registry's serializers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strip_registry_prefix: bool,
}

impl MappingRules {
    /// Whether records are read as this project's own events, for which no mapping has to be
    /// compiled.
    pub(in crate::decode) fn is_own_format(&self) -> bool {
        self.fields.is_empty()
            && self.constants.is_empty()
            && self.envelope.is_none()
            && self.batch.is_none()
    }
}
