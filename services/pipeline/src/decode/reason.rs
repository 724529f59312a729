//! The closed list of reasons against a record, as it stands in `clickstream_dead_letters` and in
//! metrics labels.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Why a record is no event. Of several reasons the first in the order of the variants counts, and
/// from [`RejectReason::MissingField`] on, the first field in the order of [`Field::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// The payload has zero bytes (a null value is no payload at all, and is skipped instead).
    Empty,
    /// The payload is longer than `spec.processor.maxEventBytes`, or it holds more events, or
    /// events of more days, than one record may.
    TooLarge,
    /// The payload is not UTF-8.
    InvalidUtf8,
    /// The payload is not one JSON document.
    InvalidJson,
    /// The document is valid, and something else than an object.
    NotAnObject,
    /// A required field is absent or null.
    MissingField,
    /// A field has the wrong type, form or length, or appears twice.
    InvalidField,
    /// The event is dated outside the years 2000 to 2099.
    TimestampOutOfRange,
    /// The event is dated after its record by more than `spec.watermark.maxFutureSkew`.
    TimestampInFuture,
    /// The decoder had no objection, but a constraint of the database had.
    RefusedByDatabase,
}

impl RejectReason {
    /// Every reason, in order.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::TooLarge,
        Self::InvalidUtf8,
        Self::InvalidJson,
        Self::NotAnObject,
        Self::MissingField,
        Self::InvalidField,
        Self::TimestampOutOfRange,
        Self::TimestampInFuture,
        Self::RefusedByDatabase,
    ];

    /// The reason as it is stored and as it labels metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidJson => "invalid_json",
            Self::NotAnObject => "not_an_object",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::TimestampInFuture => "timestamp_in_future",
            Self::RefusedByDatabase => "refused_by_database",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`RejectReason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reason for rejecting a record")]
pub struct UnknownRejectReason;

impl FromStr for RejectReason {
    type Err = UnknownRejectReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownRejectReason)
    }
}

/// A field of an event, in the order in which fields are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `event_id`, required.
    EventId,
    /// `user_id`, required.
    UserId,
    /// `event_ts`, required.
    EventTs,
    /// `url`, required.
    Url,
    /// `referrer`.
    Referrer,
    /// `ip`.
    Ip,
    /// `session_id`.
    SessionId,
    /// `user_agent`.
    UserAgent,
    /// `event_name`.
    EventName,
    /// `site`.
    Site,
}

impl Field {
    /// Every field, in order.
    pub const ALL: [Self; 10] = [
        Self::EventId,
        Self::UserId,
        Self::EventTs,
        Self::Url,
        Self::Referrer,
        Self::Ip,
        Self::SessionId,
        Self::UserAgent,
        Self::EventName,
        Self::Site,
    ];

    /// The field's key in the JSON object.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventId => "event_id",
            Self::UserId => "user_id",
            Self::EventTs => "event_ts",
            Self::Url => "url",
            Self::Referrer => "referrer",
            Self::Ip => "ip",
            Self::SessionId => "session_id",
            Self::UserAgent => "user_agent",
            Self::EventName => "event_name",
            Self::Site => "site",
        }
    }

    /// Whether there is no event without it.
    #[must_use]
    pub const fn is_required(self) -> bool {
        (self as usize) < Self::Referrer as usize
    }

    /// The field with this key, if the key is one of ours.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Some(match key {
            "event_id" => Self::EventId,
            "user_id" => Self::UserId,
            "event_ts" => Self::EventTs,
            "url" => Self::Url,
            "referrer" => Self::Referrer,
            "ip" => Self::Ip,
            "session_id" => Self::SessionId,
            "user_agent" => Self::UserAgent,
            "event_name" => Self::EventName,
            "site" => Self::Site,
            _ => return None,
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The verdict against a record: what a dead letter says besides the record itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The first reason that applies.
    pub reason: RejectReason,
    /// The field it applies to, for reasons about a field.
    pub field: Option<Field>,
    /// The rule that was broken, for a person to read (`url: longer than 8192 bytes`); never
    /// content of the payload.
    pub detail: Cow<'static, str>,
}

impl Rejected {
    /// A verdict on the record as a whole.
    pub(super) fn record(reason: RejectReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            field: None,
            detail: detail.into(),
        }
    }

    /// The rule that was broken, without the field in front of it.
    #[must_use]
    pub fn rule(&self) -> &str {
        let rule = self.field.and_then(|field| {
            let rest = self.detail.strip_prefix(field.as_str())?;
            rest.strip_prefix(": ")
        });
        rule.unwrap_or(&self.detail)
    }

    /// A verdict on one field; `rule` is what the field breaks.
    pub(super) fn field(reason: RejectReason, field: Field, rule: &str) -> Self {
        Self {
            reason,
            field: Some(field),
            detail: Cow::Owned(format!("{field}: {rule}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_word() {
        for reason in RejectReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert_eq!("Empty".parse::<RejectReason>(), Err(UnknownRejectReason));
    }

    #[test]
    fn reasons_and_fields_are_listed_in_their_order() {
        assert!(RejectReason::ALL.is_sorted_by(|a, b| a < b));
        assert!(Field::ALL.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn every_field_is_found_by_its_key() {
        for field in Field::ALL {
            assert_eq!(Field::from_key(field.as_str()), Some(field));
        }
        assert_eq!(Field::from_key("URL"), None);
    }
}
