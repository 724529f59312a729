//! The part of the spec that decides verdicts: two processors with the same log and the same [`SemanticSpec`] write
//! the same rows. It is stored with every anchor, so an audit judges a stretch of the log by the rules of its time.

use serde::{Deserialize, Serialize};

use super::events::EventRules;
use crate::decode::Decoder;

/// What happens to an event whose window is past its allowed lateness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LatePolicy {
    /// The event is counted in its own window, however old that is, and becomes a raw row marked late.
    #[default]
    Merge,
    /// The event becomes a row of `clickstream_late_events` and no part of the aggregates.
    Divert,
    /// The event becomes a raw row marked late; the aggregates stay as they are.
    Store,
    /// The event is counted and otherwise forgotten.
    Drop,
}

impl LatePolicy {
    /// Whether a document need not name it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a late event becomes a row of `clickstream_events`.
    pub fn stores(self) -> bool {
        matches!(self, Self::Merge | Self::Store)
    }
}

/// Everything in the spec that a verdict depends on, in the units the engine counts in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
// by half of the rules of a later release nothing can be judged
#[serde(deny_unknown_fields)]
pub struct SemanticSpec {
    /// Length of a tumbling window, in microseconds; at least one second.
    pub window_micros: i64,
    /// How far the watermark stays behind the event times seen, in microseconds.
    pub delay_micros: i64,
    /// How far an event may be dated after its record's timestamp, in microseconds.
    pub max_future_skew_micros: i64,
    /// How long after its end a window still takes events, in microseconds of event time.
    pub allowed_lateness_micros: i64,
    /// What happens to events that come later than that.
    pub late_policy: LatePolicy,
    /// The largest payload that is decoded, in bytes.
    pub max_event_bytes: usize,
    /// How records are read as events.
    // left out where it is what the first release does, whose anchors have no such field
    #[serde(
        default = "EventRules::of_first_release",
        skip_serializing_if = "EventRules::is_first_release"
    )]
    pub events: EventRules,
}

impl SemanticSpec {
    /// The decoder that follows these rules. It is compiled: make one and keep it.
    #[must_use]
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self)
    }
}

impl Default for SemanticSpec {
    /// The values of a spec that sets none of them.
    fn default() -> Self {
        Self {
            window_micros: 60_000_000,
            delay_micros: 10_000_000,
            max_future_skew_micros: 300_000_000,
            allowed_lateness_micros: 600_000_000,
            late_policy: LatePolicy::Merge,
            max_event_bytes: 65_536,
            events: EventRules::default(),
        }
    }
}
