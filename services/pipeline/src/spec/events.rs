//! How records are read as events: what a spec says of it, and the rules that follow, which every anchor keeps.

pub(crate) mod columns;
mod derived;
mod mapping;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ip_range::IpRange;
use super::quantity::Bytes;
use super::validate::At;
use crate::decode::columns::PromotedColumn;
use crate::decode::mapping::MappingRules;
use crate::decode::properties::PropertyLimits;
use crate::derived::DerivedRules;

pub use crate::decode::mapping::Preset;
pub use columns::TAKEN_COLUMN_NAMES;
pub use derived::{AcquisitionPolicy, BotsPolicy, PageSpec};

/// Ranges of trusted proxies at most.
const MOST_PROXIES: usize = 64;

/// How records are read as events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("x-kubernetes-validations" = super::schema::rules(&mapping::schema::RULES)))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventsSpec {
    /// Where the id of an event comes from, by which a resend is told from another click. Live. Default `EventId`.
    pub id: EventIds,
    /// Addresses of proxies that are trusted to say who called them, as ranges such as `10.0.0.0/8`, at most 64 of at most
    /// 64 characters. With any, an `ip` that is a list means the right-most address that is none of theirs; without, the
    /// left-most one. Without effect with `optionalFields: Reject`, which takes no list at all. Live. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))
    )]
    pub trusted_proxies: Vec<IpRange>,
    /// What becomes of an event with an optional field (`referrer`, `ip`, `session_id`, `user_agent`, `event_name`,
    /// `site`) that cannot be used as it is. Live. Default `Clean`.
    pub optional_fields: OptionalFields,
    /// The product that wrote the events: the fields are found where it puts them. What is said
    /// under `fields`, `constants` and `envelope` goes over it. Events of Matomo and GA4 have no
    /// ids, so theirs are made as by `id: FromFields`. Live. Default: none, the events are this
    /// project's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Where each field stands, by the field's name: 1 to 8 JSON pointers, such as
    /// `/context/page/url`, of which the first counts that leads to something other than null. One
    /// that begins with `$/` starts at the record, outside of an envelope; `[key=name]` is the
    /// element of an array whose `key` is the text `name`. A pointer has at most 256 characters and
    /// 16 steps. An empty list leaves the field to its constant. Live. Default: at the key of its own
    /// name, or where the preset says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "mapping::schema::fields"))]
    pub fields: BTreeMap<String, Vec<String>>,
    /// The text of a field where its pointers lead to nothing, by the field's name; 1 to 1024
    /// characters, and what the field may hold: at most 128 as a `user_id`, an address as an `ip`. Live. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "mapping::schema::constants")
    )]
    pub constants: BTreeMap<String, String>,
    /// JSON pointer to the event inside the record: an object, or a text that holds one as JSON. It
    /// has at most 256 characters and 16 steps, and no `$` in front. Of a record without it, only
    /// fields with a `$` in front are found.
    /// Live. Default: the record is the event, or the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "mapping::schema::pointer"))]
    pub envelope: Option<String>,
    /// JSON pointer to an array within the event's envelope, or within the record: each element of it
    /// is an event, at most 1000 and of at most 16 days. It has at most 256 characters and 16 steps. A
    /// record without the array is one event.
    /// Empty text: the record is an array, of which each element is read as a record. Pointers of
    /// fields begin at the element, and those with a `$` in front at the record. Live. Default: none,
    /// each record is one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "mapping::schema::batch_pointer")
    )]
    pub batch: Option<String>,
    /// The five bytes that serializers of a schema registry put in front of JSON. Live. Default
    /// `Keep`.
    #[serde(skip_serializing_if = "is_default")]
    pub schema_registry_prefix: SchemaRegistryPrefix,
    /// What becomes of all that an event says besides its fields. Live. Default `Ignore`.
    #[serde(skip_serializing_if = "is_default")]
    pub properties: PropertiesPolicy,
    /// How much of it is kept: what exceeds a limit is left out, and the event stays.
    /// Live.
    #[serde(skip_serializing_if = "is_default")]
    pub property_limits: PropertyLimitsSpec,
    /// Keys of events that have columns of their own in `clickstream_events` and
    /// `clickstream_late_events`, at most 32. A migration adds the columns before anything is written
    /// to them; what was stored before has null there. A column that is taken off this list stays,
    /// and is null from then on. It makes no difference whether `properties` are stored. Live.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            length(max = 32),
            extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
        )
    )]
    pub columns: Vec<PromotedColumn>,
    /// How the page that a hit is counted by is made from its URL, which stays in its row as it is:
    /// scheme and host in lower case, without user and the scheme's own port, without the query but
    /// for some keys. With such rules, and `{}` are some, the host is the `site` of events that name
    /// none. Live. Default: none, the URL is the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PageSpec>,
    /// What becomes of where visitors come from: the campaign in the URL, the referrer's host. Live.
    /// Default `Ignore`.
    #[serde(skip_serializing_if = "is_default")]
    pub acquisition: AcquisitionPolicy,
    /// What becomes of events that something speaks for being a program's: its user agent is in the
    /// list (`crawler-user-agents` 1.60.0 and words such as `bot`), or missing, or names a browser that
    /// a program drives. Nothing is dropped. Live. Default `Ignore`.
    #[serde(skip_serializing_if = "is_default")]
    pub bots: BotsPolicy,
}

/// What becomes of all that an event says besides its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PropertiesPolicy {
    /// It stays in the log.
    #[default]
    Ignore,
    /// It is stored in the column `properties`, as it stands in the event.
    Store,
}

/// How much is kept of what an event says besides its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PropertyLimitsSpec {
    /// Longest JSON text of an event's properties, in bytes. Live. 64 to 32Ki. Default `8Ki`.
    #[cfg_attr(feature = "schema", schemars(extend("x-kubernetes-validations" = super::schema::holding("64", "32Ki"))))]
    pub max_bytes: Bytes,
    /// Most keys, those of objects inside of objects included. Live. 1 to 1024. Default 64.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1024)))]
    pub max_keys: u16,
    /// Most levels of objects and arrays, of which the event is the first. Live. 1 to 16.
    /// Default 5.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16)))]
    pub max_depth: u8,
}

impl Default for PropertyLimitsSpec {
    fn default() -> Self {
        let limits = PropertyLimits::default();
        Self {
            max_bytes: Bytes::new(limits.bytes.into()),
            max_keys: limits.keys,
            max_depth: limits.depth,
        }
    }
}

impl PropertyLimitsSpec {
    fn limits(&self) -> PropertyLimits {
        PropertyLimits {
            // validation keeps it below
            bytes: u16::try_from(self.max_bytes.as_len()).unwrap_or(MOST_PROPERTY_BYTES),
            keys: self.max_keys,
            depth: self.max_depth,
        }
    }

    fn check(&self, at: &mut At<'_>) {
        let least = Bytes::new(64);
        let most = Bytes::new(MOST_PROPERTY_BYTES.into());
        at.field("maxBytes").within(self.max_bytes, least..=most);
        at.field("maxKeys").within(self.max_keys, 1..=1024);
        at.field("maxDepth").within(self.max_depth, 1..=16);
    }
}

/// Longest text of properties that a spec may ask for, in bytes.
const MOST_PROPERTY_BYTES: u16 = 32 << 10;

/// What becomes of the five bytes that serializers of a schema registry put in front of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum SchemaRegistryPrefix {
    /// A record that begins with 0x00 becomes a dead letter.
    #[default]
    Keep,
    /// They are taken off where a record begins with 0x00.
    Strip,
}

/// Where the id of an event comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EventIds {
    /// The field `event_id`: a UUID, or any other text or integer, of which one is made.
    #[default]
    EventId,
    /// All the other fields, for feeds without ids: two events that are alike in all of them count as one.
    FromFields,
}

/// What becomes of an event with an optional field that cannot be used as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OptionalFields {
    /// The field is repaired by a fixed rule or left out, and counted; the event is kept.
    #[default]
    Clean,
    /// The record becomes a dead letter.
    Reject,
}

impl EventsSpec {
    /// Whether a document need not have it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The rules that follow.
    #[must_use]
    pub fn rules(&self) -> EventRules {
        EventRules {
            version: RulesVersion::Second,
            optional_fields: self.optional_fields,
            id: self.ids(),
            trusted_proxies: self.trusted_proxies.clone(),
            mapping: self.mapping(),
            properties: (self.properties == PropertiesPolicy::Store)
                .then(|| self.property_limits.limits()),
            columns: self.columns.clone(),
            derived: self.derived(),
        }
    }

    /// Where ids come from: a preset whose events have none makes them of the fields.
    fn ids(&self) -> EventIds {
        let is_without = self.preset.is_some_and(|preset| !preset.has_ids());
        if is_without && !self.fields.contains_key("event_id") {
            EventIds::FromFields
        } else {
            self.id
        }
    }

    pub(super) fn check(&self, at: &mut At<'_>) {
        if self.trusted_proxies.len() > MOST_PROXIES {
            at.field("trustedProxies").problem(format!(
                "more than {MOST_PROXIES}: join neighbouring ranges"
            ));
        }
        self.check_mapping(at);
        self.property_limits.check(&mut at.field("propertyLimits"));
        self.check_columns(&mut at.field("columns"));
        self.check_derived(at);
    }
}

/// Which spellings of fields are read at all. An anchor keeps it, so an audit reads a stretch of the log as the release
/// did that wrote its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum RulesVersion {
    /// Those of the first release, whose anchors say nothing of it.
    First = 1,
    /// Those of today.
    Second = 2,
}

/// Rules of a release that this one does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {0} of the rules for events is of a later release: use that release")]
pub struct UnknownVersion(u8);

impl TryFrom<u8> for RulesVersion {
    type Error = UnknownVersion;

    fn try_from(number: u8) -> Result<Self, UnknownVersion> {
        match number {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            other => Err(UnknownVersion(other)),
        }
    }
}

impl From<RulesVersion> for u8 {
    fn from(version: RulesVersion) -> Self {
        version as u8
    }
}

/// How records are read as events, as anchors keep it. Fields that this release does not know are an error: verdicts by
/// half of the rules would be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRules {
    /// Which spellings are read.
    pub version: RulesVersion,
    /// What becomes of an event with an optional field that cannot be used. Version 1 rejects it always.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional_fields: OptionalFields,
    /// Where the id of an event comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: EventIds,
    /// The proxies whose word on the client's address is taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trusted_proxies: Vec<IpRange>,
    /// Where the fields of an event stand in a record.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mapping: MappingRules,
    /// How much is kept of what is no field; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<PropertyLimits>,
    /// What has columns of its own, in the order in which they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<PromotedColumn>,
    /// What is derived from the fields of an event.
    #[serde(default, skip_serializing_if = "is_default")]
    pub derived: DerivedRules,
}

impl EventRules {
    /// The rules of the first release: what an anchor without any means.
    #[must_use]
    pub fn of_first_release() -> Self {
        Self {
            version: RulesVersion::First,
            optional_fields: OptionalFields::Reject,
            id: EventIds::EventId,
            trusted_proxies: Vec::new(),
            mapping: MappingRules::default(),
            properties: None,
            columns: Vec::new(),
            derived: DerivedRules::default(),
        }
    }

    /// Whether an anchor need not name them.
    #[must_use]
    pub fn is_first_release(&self) -> bool {
        *self == Self::of_first_release()
    }
}

impl Default for EventRules {
    /// The rules of a spec that says nothing of them.
    fn default() -> Self {
        EventsSpec::default().rules()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
