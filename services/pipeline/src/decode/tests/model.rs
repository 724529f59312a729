//! A second decoder, written for clarity over `serde_json::Value`: the judge in differential tests.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::timestamps::oracle;
use super::*;

/// An event as plain values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) event_id: u128,
    pub(super) user_id: String,
    pub(super) event_ts: i64,
    pub(super) url: String,
    pub(super) referrer: Option<String>,
    pub(super) ip: Option<IpAddr>,
    pub(super) session_id: Option<String>,
    pub(super) user_agent: Option<String>,
}

type Verdict = (RejectReason, Option<Field>);

pub(super) fn plain(event: &Event<'_>) -> Plain {
    Plain {
        event_id: event.event_id.as_u128(),
        user_id: event.user_id.to_string(),
        event_ts: event.event_ts.micros(),
        url: event.url.to_string(),
        referrer: event.referrer.as_deref().map(str::to_owned),
        ip: event.ip,
        session_id: event.session_id.as_deref().map(str::to_owned),
        user_agent: event.user_agent.as_deref().map(str::to_owned),
    }
}

/// The verdict on a JSON value, whose keys cannot repeat and whose strings cannot hold lone
/// surrogates.
pub(super) fn judge_value(value: &Value) -> Result<Plain, Verdict> {
    let object = value.as_object().ok_or((RejectReason::NotAnObject, None))?;

    let id = text(object, Field::EventId)?.ok_or(missing(Field::EventId))?;
    let id = uuid::Uuid::parse_str(&id)
        .map_err(|_| invalid(Field::EventId))?
        .as_u128();
    if id == 0 {
        return Err(invalid(Field::EventId));
    }
    let user_id = match present(object, Field::UserId).ok_or(missing(Field::UserId))? {
        Value::Number(number) => number.as_i64().ok_or(invalid(Field::UserId))?.to_string(),
        _ => short(object, Field::UserId)?.ok_or(missing(Field::UserId))?,
    };
    let event_ts = instant(object)?;
    let url = sized(object, Field::Url, 1..=8192)?.ok_or(missing(Field::Url))?;
    let referrer = sized(object, Field::Referrer, 0..=8192)?;
    let ip = match text(object, Field::Ip)? {
        Some(ip) => Some(ip.parse().map_err(|_| invalid(Field::Ip))?),
        None => None,
    };
    let session_id = short(object, Field::SessionId)?;
    let user_agent = sized(object, Field::UserAgent, 0..=1024)?;
    Ok(Plain {
        event_id: id,
        user_id,
        event_ts,
        url,
        referrer,
        ip,
        session_id,
        user_agent,
    })
}

fn instant(object: &Map<String, Value>) -> Result<i64, Verdict> {
    let field = Field::EventTs;
    let micros = match present(object, field).ok_or(missing(field))? {
        Value::Number(number) if number.is_f64() => return Err(invalid(field)),
        Value::Number(number) => number
            .as_i64()
            .map_or(i128::MAX, |millis| i128::from(millis) * 1000),
        _ => i128::from(
            text(object, field)?
                .and_then(|text| oracle(&text))
                .ok_or(invalid(field))?,
        ),
    };
    if !(946_684_800_000_000..4_102_444_800_000_000).contains(&micros) {
        return Err((RejectReason::TimestampOutOfRange, Some(field)));
    }
    if micros > i128::from(RECEIVED_AT.micros()) + i128::from(FIRST.max_future_skew_micros) {
        return Err((RejectReason::TimestampInFuture, Some(field)));
    }
    i64::try_from(micros).map_err(|_| invalid(field))
}

fn present(object: &Map<String, Value>, field: Field) -> Option<&Value> {
    object.get(field.as_str()).filter(|value| !value.is_null())
}

fn text(object: &Map<String, Value>, field: Field) -> Result<Option<String>, Verdict> {
    match present(object, field) {
        None => Ok(None),
        Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text.clone())),
        Some(_) => Err(invalid(field)),
    }
}

fn sized(
    object: &Map<String, Value>,
    field: Field,
    bytes: std::ops::RangeInclusive<usize>,
) -> Result<Option<String>, Verdict> {
    let text = text(object, field)?;
    if text
        .as_ref()
        .is_some_and(|text| !bytes.contains(&text.len()))
    {
        Err(invalid(field))
    } else {
        Ok(text)
    }
}

fn short(object: &Map<String, Value>, field: Field) -> Result<Option<String>, Verdict> {
    let text = text(object, field)?;
    let is_bad = text
        .as_ref()
        .is_some_and(|text| !(1..=128).contains(&text.chars().count()));
    if is_bad {
        Err(invalid(field))
    } else {
        Ok(text)
    }
}

fn missing(field: Field) -> Verdict {
    (RejectReason::MissingField, Some(field))
}

fn invalid(field: Field) -> Verdict {
    (RejectReason::InvalidField, Some(field))
}
