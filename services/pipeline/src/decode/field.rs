//! One function per field: from its raw JSON text to its value, or to the rule it breaks.

use std::borrow::Cow;
use std::net::IpAddr;

use uuid::Uuid;

use super::object::Fields;
use super::timestamp::{self, Unreadable};
use super::{Decoder, Field, RejectReason, Rejected};
use crate::event::{EventTime, UserId};
use crate::spec::RulesVersion;

/// Longest `url` and `referrer`, in bytes.
const MAX_URL_BYTES: usize = 8192;
/// Longest `user_agent`, in bytes.
const MAX_USER_AGENT_BYTES: usize = 1024;
/// Longest `user_id` and `session_id`, in Unicode scalar values.
const MAX_ID_CHARS: usize = 128;

pub(super) fn event_id(fields: &Fields<'_>) -> Result<Uuid, Rejected> {
    let field = Field::EventId;
    let text = string(field, fields.required(field)?)?;
    let id = Uuid::try_parse(&text).map_err(|_| invalid(field, "not a UUID"))?;
    if id.is_nil() {
        return Err(invalid(field, "the nil UUID identifies nothing"));
    }
    Ok(id)
}

pub(super) fn user_id<'a>(fields: &Fields<'a>) -> Result<UserId<'a>, Rejected> {
    let field = Field::UserId;
    let raw = fields.required(field)?;
    if is_number(raw) {
        // i64's own grammar has no fraction and no exponent
        return raw
            .parse()
            .map(UserId::Number)
            .map_err(|_| invalid(field, "a number, but not a 64-bit integer"));
    }
    if !raw.starts_with('"') {
        return Err(invalid(field, "neither a string nor an integer"));
    }
    let text = string(field, raw)?;
    bounded_chars(field, &text)?;
    Ok(UserId::Text(text))
}

pub(super) fn event_ts(
    fields: &Fields<'_>,
    received_at: EventTime,
    decoder: &Decoder,
) -> Result<EventTime, Rejected> {
    let field = Field::EventTs;
    let raw = fields.required(field)?;
    let first = decoder.version == RulesVersion::First;
    let read = if is_number(raw) {
        if first {
            timestamp::first::from_epoch_millis(raw)
        } else {
            timestamp::from_number(raw)
        }
    } else if raw.starts_with('"') {
        let text = string(field, raw)?;
        if first {
            timestamp::first::from_text(text.as_bytes())
        } else {
            timestamp::from_text(text.as_bytes())
        }
    } else if first {
        return Err(invalid(field, "neither a string nor an integer"));
    } else {
        return Err(invalid(field, "neither a string nor a number"));
    };
    let time = read.map_err(|unreadable| match unreadable {
        Unreadable::Form(rule) => invalid(field, rule),
        Unreadable::OutOfRange => Rejected::field(
            RejectReason::TimestampOutOfRange,
            field,
            "before 2000 or after 2099 (UTC)",
        ),
    })?;
    if time.micros()
        > received_at
            .micros()
            .saturating_add(decoder.max_future_skew_micros)
    {
        // whoever reads this looks at the event first, and the event is right
        let rule = if received_at < EventTime::MIN {
            "later than the record's timestamp, which is before 2000: a client writes this topic's record timestamps in \
             another unit than milliseconds, or none"
        } else {
            "later than the record's timestamp by more than maxFutureSkew"
        };
        return Err(Rejected::field(
            RejectReason::TimestampInFuture,
            field,
            rule,
        ));
    }
    Ok(time)
}

pub(super) fn url<'a>(fields: &Fields<'a>) -> Result<Cow<'a, str>, Rejected> {
    let field = Field::Url;
    let text = string(field, fields.required(field)?)?;
    if text.is_empty() {
        return Err(invalid(field, "empty"));
    }
    bounded_url(field, text)
}

pub(super) fn referrer<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejected> {
    let field = Field::Referrer;
    fields
        .optional(field)?
        .map(|raw| bounded_url(field, string(field, raw)?))
        .transpose()
}

pub(super) fn ip(fields: &Fields<'_>) -> Result<Option<IpAddr>, Rejected> {
    let field = Field::Ip;
    let Some(raw) = fields.optional(field)? else {
        return Ok(None);
    };
    let address = string(field, raw)?
        .parse()
        .map_err(|_| invalid(field, "not an IPv4 or IPv6 address"))?;
    Ok(Some(address))
}

pub(super) fn session_id<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejected> {
    let field = Field::SessionId;
    let Some(raw) = fields.optional(field)? else {
        return Ok(None);
    };
    let text = string(field, raw)?;
    bounded_chars(field, &text)?;
    Ok(Some(text))
}

pub(super) fn user_agent<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejected> {
    let field = Field::UserAgent;
    let Some(raw) = fields.optional(field)? else {
        return Ok(None);
    };
    let text = string(field, raw)?;
    if text.len() > MAX_USER_AGENT_BYTES {
        return Err(invalid(field, "longer than 1024 bytes"));
    }
    Ok(Some(text))
}

/// The string a raw JSON value stands for, borrowed unless it holds an escape sequence.
fn string<'a>(field: Field, raw: &'a str) -> Result<Cow<'a, str>, Rejected> {
    let Some(inner) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Err(invalid(field, "not a string"));
    };
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        // valid JSON has no raw control characters, so no U+0000 either
        return Ok(Cow::Borrowed(inner));
    }
    // the structural pass has proved the escapes well-formed: what is left to fail are surrogates without a partner
    let text: String =
        serde_json::from_str(raw).map_err(|_| invalid(field, "contains a lone surrogate"))?;
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(invalid(field, "contains U+0000"));
    }
    Ok(Cow::Owned(text))
}

fn bounded_url(field: Field, text: Cow<'_, str>) -> Result<Cow<'_, str>, Rejected> {
    if text.len() > MAX_URL_BYTES {
        Err(invalid(field, "longer than 8192 bytes"))
    } else {
        Ok(text)
    }
}

fn bounded_chars(field: Field, text: &str) -> Result<(), Rejected> {
    if text.is_empty() {
        return Err(invalid(field, "empty"));
    }
    // a text of at most 128 bytes needs no counting
    if text.len() > MAX_ID_CHARS && text.chars().nth(MAX_ID_CHARS).is_some() {
        return Err(invalid(field, "longer than 128 characters"));
    }
    Ok(())
}

/// Whether a raw JSON value is a number: no other value begins like one.
fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn invalid(field: Field, rule: &str) -> Rejected {
    Rejected::field(RejectReason::InvalidField, field, rule)
}
