//! One function per field: from its raw JSON text to its value, or to the rule it breaks.

use std::borrow::Cow;
use std::net::IpAddr;

use uuid::Uuid;

use super::object::Fields;
use super::timestamp::{self, Unreadable};
use super::{Decoder, Field, RejectReason, Rejected};
use crate::event::{self, EventTime, UserId};
use crate::spec::RulesVersion;

/// Longest `url` and `referrer`, in bytes.
pub(super) const MAX_URL_BYTES: usize = 8192;
/// Longest `user_agent`, in bytes.
pub(super) const MAX_USER_AGENT_BYTES: usize = 1024;
/// Longest `site`, in bytes: as much as the host of a URL may have.
pub(super) const MAX_SITE_BYTES: usize = 255;
/// Longest `user_id`, `session_id` and `event_name`, in Unicode scalar values.
pub(super) const MAX_ID_CHARS: usize = 128;
/// Longest `event_id` that is no UUID, in Unicode scalar values.
const MAX_EVENT_ID_CHARS: usize = 200;

/// A UUID as it is, and of any other text or integer the one that is made of it.
pub(super) fn event_id(fields: &Fields<'_>, version: RulesVersion) -> Result<Uuid, Rejected> {
    let field = Field::EventId;
    let raw = fields.required(field)?;
    let text = match version {
        RulesVersion::Second if is_number(raw) => {
            if raw.contains(['.', 'e', 'E']) {
                return Err(invalid(field, "a number with a fraction or an exponent"));
            }
            Cow::Borrowed(if raw == "-0" { "0" } else { raw })
        }
        RulesVersion::Second if !raw.starts_with('"') => {
            return Err(invalid(field, "neither a string nor an integer"));
        }
        _ => string(field, raw)?,
    };
    let Ok(id) = Uuid::try_parse(&text) else {
        return match version {
            RulesVersion::First => Err(invalid(field, "not a UUID")),
            RulesVersion::Second if text.is_empty() => Err(invalid(field, "empty")),
            RulesVersion::Second if is_longer(&text, MAX_EVENT_ID_CHARS) => {
                Err(invalid(field, "longer than 200 characters"))
            }
            RulesVersion::Second => Ok(event::id::of_text(&text)),
        };
    };
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

pub(super) fn event_name<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejected> {
    let field = Field::EventName;
    let Some(raw) = fields.optional(field)? else {
        return Ok(None);
    };
    let text = string(field, raw)?;
    bounded_chars(field, &text)?;
    Ok(said(text))
}

pub(super) fn site<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejected> {
    let field = Field::Site;
    let Some(raw) = fields.optional(field)? else {
        return Ok(None);
    };
    let text = string(field, raw)?;
    if text.is_empty() {
        return Err(invalid(field, "empty"));
    }
    if text.len() > MAX_SITE_BYTES {
        return Err(invalid(field, "longer than 255 bytes"));
    }
    Ok(Some(comparable(text)))
}

/// The name of an event, if it says more than saying nothing would.
pub(super) fn said(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (name != event::PAGE_VIEW).then_some(name)
}

/// A site as it is compared: a host's name has no upper case, any other text is taken as it is.
pub(super) fn comparable(site: Cow<'_, str>) -> Cow<'_, str> {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') || !byte.is_ascii()
    };
    let host = site.split_once(':').map_or(&*site, |(host, _)| host);
    let is_host = host.contains('.') && host.bytes().all(is_plain);
    if is_host && site.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(site.to_ascii_lowercase())
    } else {
        site
    }
}

/// What is wrong with a text as the value of a field, by the rules without any cleaning.
///
/// # Errors
/// The rule that it breaks, behind the field's name.
pub(super) fn check(field: Field, text: &str) -> Result<(), Rejected> {
    // a text can always be written as JSON
    let raw = serde_json::to_string(text).unwrap_or_default();
    let mut fields = Fields::default();
    fields.insert(field, &raw);
    match field {
        Field::EventId => event_id(&fields, RulesVersion::Second).map(drop),
        Field::UserId => user_id(&fields).map(drop),
        // whether it is one depends on the record
        Field::EventTs => Ok(()),
        Field::Url => url(&fields).map(drop),
        Field::Referrer => referrer(&fields).map(drop),
        Field::Ip => ip(&fields).map(drop),
        Field::SessionId => session_id(&fields).map(drop),
        Field::UserAgent => user_agent(&fields).map(drop),
        Field::EventName => event_name(&fields).map(drop),
        Field::Site => site(&fields).map(drop),
    }
}

/// The string that a raw JSON value of a field stands for.
fn string<'a>(field: Field, raw: &'a str) -> Result<Cow<'a, str>, Rejected> {
    plain(raw).map_err(|unusable| {
        let rule = match unusable {
            NoText::OtherType => "not a string",
            NoText::LoneSurrogate => "contains a lone surrogate",
            NoText::Nul => "contains U+0000",
        };
        invalid(field, rule)
    })
}

/// Why a raw JSON value stands for no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoText {
    /// It is no string.
    OtherType,
    /// It holds half of a surrogate pair.
    LoneSurrogate,
    /// It holds U+0000.
    Nul,
}

/// The string a raw JSON value stands for, borrowed unless it holds an escape sequence.
pub(super) fn plain(raw: &str) -> Result<Cow<'_, str>, NoText> {
    let Some(inner) = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return Err(NoText::OtherType);
    };
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        // valid JSON has no raw control characters, so no U+0000 either
        return Ok(Cow::Borrowed(inner));
    }
    // the structural pass has proved the escapes well-formed: what is left to fail are surrogates
    // without a partner
    let text: String = serde_json::from_str(raw).map_err(|_| NoText::LoneSurrogate)?;
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(NoText::Nul);
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
    if is_longer(text, MAX_ID_CHARS) {
        return Err(invalid(field, "longer than 128 characters"));
    }
    Ok(())
}

fn is_longer(text: &str, chars: usize) -> bool {
    // no text has more characters than bytes
    text.len() > chars && text.chars().nth(chars).is_some()
}

/// Whether a raw JSON value is a number: no other value begins like one.
pub(super) fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

fn invalid(field: Field, rule: &str) -> Rejected {
    Rejected::field(RejectReason::InvalidField, field, rule)
}
