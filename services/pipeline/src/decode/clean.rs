//! Optional fields that cannot be used as they are: left out, or repaired by a fixed rule. Nothing
//! here costs an event.

use std::borrow::Cow;
use std::net::IpAddr;

use super::field::{
    MAX_ID_CHARS, MAX_SITE_BYTES, MAX_URL_BYTES, MAX_USER_AGENT_BYTES, NoText, comparable,
    is_number, plain, said,
};
use super::object::{Fields, Seen};
use super::{CleanReason, Cleaned, Field, address};
use crate::spec::IpRange;

/// The optional fields of an event.
#[derive(Debug)]
pub(super) struct Optional<'a> {
    pub(super) referrer: Option<Cow<'a, str>>,
    pub(super) ip: Option<IpAddr>,
    pub(super) session_id: Option<Cow<'a, str>>,
    pub(super) user_agent: Option<Cow<'a, str>>,
    pub(super) event_name: Option<Cow<'a, str>>,
    pub(super) site: Option<Cow<'a, str>>,
    pub(super) cleaned: Cleaned,
}

/// Reads all of them.
pub(super) fn fields<'a>(fields: &Fields<'a>, proxies: &[IpRange]) -> Optional<'a> {
    let mut cleaned = Cleaned::default();
    let referrer = text(fields, Field::Referrer, &mut cleaned);
    let referrer = cut(referrer, MAX_URL_BYTES, Field::Referrer, &mut cleaned);
    let user_agent = text(fields, Field::UserAgent, &mut cleaned);
    let user_agent = cut(
        user_agent,
        MAX_USER_AGENT_BYTES,
        Field::UserAgent,
        &mut cleaned,
    );
    Optional {
        referrer,
        ip: ip(fields, proxies, &mut cleaned),
        session_id: short(fields, Field::SessionId, &mut cleaned),
        user_agent,
        event_name: short(fields, Field::EventName, &mut cleaned).and_then(said),
        site: site(fields, &mut cleaned),
        cleaned,
    }
}

/// A text that is not empty.
fn text<'a>(fields: &Fields<'a>, field: Field, cleaned: &mut Cleaned) -> Option<Cow<'a, str>> {
    let raw = raw(fields, field, cleaned)?;
    let reason = match plain(raw) {
        Ok(text) if text.is_empty() => CleanReason::Empty,
        Ok(text) => return Some(text),
        Err(unusable) => unusable.into(),
    };
    cleaned.note(field, reason);
    None
}

/// A text or a number: half of the feeds have sessions and sites with numbers.
fn name<'a>(fields: &Fields<'a>, field: Field, cleaned: &mut Cleaned) -> Option<Cow<'a, str>> {
    match fields.seen(field) {
        Seen::Raw(raw) if is_number(raw) => {
            cleaned.note(field, CleanReason::Number);
            Some(Cow::Borrowed(raw))
        }
        _ => text(fields, field, cleaned),
    }
}

fn site<'a>(fields: &Fields<'a>, cleaned: &mut Cleaned) -> Option<Cow<'a, str>> {
    let site = name(fields, Field::Site, cleaned);
    cut(site, MAX_SITE_BYTES, Field::Site, cleaned).map(comparable)
}

/// A text or a number of at most [`MAX_ID_CHARS`].
fn short<'a>(fields: &Fields<'a>, field: Field, cleaned: &mut Cleaned) -> Option<Cow<'a, str>> {
    let text = name(fields, field, cleaned)?;
    // a text of at most 128 bytes needs no counting
    let end = (text.len() > MAX_ID_CHARS)
        .then(|| text.char_indices().nth(MAX_ID_CHARS))
        .flatten();
    let most = end.map_or(text.len(), |(at, _)| at);
    cut(Some(text), most, field, cleaned)
}

fn ip(fields: &Fields<'_>, proxies: &[IpRange], cleaned: &mut Cleaned) -> Option<IpAddr> {
    let field = Field::Ip;
    let raw = raw(fields, field, cleaned)?;
    let text = if raw.starts_with('[') {
        // a header that came more than once, as a list of its values
        serde_json::from_str::<Vec<String>>(raw)
            .map(|values| Cow::Owned(values.join(",")))
            .map_err(|_| CleanReason::WrongType)
    } else {
        plain(raw).map_err(CleanReason::from)
    };
    let found = text.and_then(|text| match text.parse() {
        Ok(address) if !raw.starts_with('[') => Ok((address, None)),
        Ok(address) => Ok((address, Some(CleanReason::List))),
        Err(_) => address::client(&text, proxies).map(|(address, reason)| (address, Some(reason))),
    });
    match found {
        Ok((address, reason)) => {
            if let Some(reason) = reason {
                cleaned.note(field, reason);
            }
            Some(address)
        }
        Err(reason) => {
            cleaned.note(field, reason);
            None
        }
    }
}

/// The raw text of a field that is there once.
fn raw<'a>(fields: &Fields<'a>, field: Field, cleaned: &mut Cleaned) -> Option<&'a str> {
    match fields.seen(field) {
        Seen::Raw(raw) => Some(raw),
        Seen::Nothing => None,
        Seen::Twice => {
            cleaned.note(field, CleanReason::RepeatedKey);
            None
        }
    }
}

/// The text up to the last character that ends within `most` bytes.
fn cut<'a>(
    text: Option<Cow<'a, str>>,
    most: usize,
    field: Field,
    cleaned: &mut Cleaned,
) -> Option<Cow<'a, str>> {
    let text = text?;
    if text.len() <= most {
        return Some(text);
    }
    cleaned.note(field, CleanReason::TooLong);
    let end = text.floor_char_boundary(most);
    Some(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    })
}

impl From<NoText> for CleanReason {
    fn from(unusable: NoText) -> Self {
        match unusable {
            NoText::OtherType => Self::WrongType,
            NoText::LoneSurrogate | NoText::Nul => Self::BadCharacters,
        }
    }
}
