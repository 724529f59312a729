//! A click as the JSON that a visitor's client sends.

use std::fmt::Write as _;

use chrono::{DateTime, FixedOffset, Utc};
use clickstream_pipeline::decode::Field;
use uuid::{Builder, Uuid};

use super::random::Random;
use super::site::write_url;
use super::visitors::{TimeSpelling, Visitor};
use super::visits::Referrer;
use super::{Click, IdForm};
use crate::event_json::EventJson;

/// An event before it is written.
#[derive(Clone, Debug)]
pub struct Draft {
    pub visitor: Visitor,
    pub click: Click,
    pub id: Uuid,
    pub millis: i64,
}

impl Draft {
    /// The event of a click at `millis` since the Unix epoch.
    pub fn new(seed: u64, ids: IdForm, click: Click, millis: i64, random: &mut Random) -> Self {
        let mut bits = [0; 16];
        random.fill(&mut bits);
        let id = match ids {
            IdForm::V4 => Builder::from_random_bytes(bits).into_uuid(),
            IdForm::V7 => {
                let (_, tail) = bits
                    .split_last_chunk::<10>()
                    .expect("sixteen bytes hold ten");
                Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(0), tail)
                    .into_uuid()
            }
        };
        Self {
            visitor: Visitor::new(seed, click.visitor),
            click,
            id,
            millis,
        }
    }
}

/// Writes the event; the field of `fault` gets the token given instead of its own, or is left out.
pub fn write_event(draft: &Draft, fault: Option<(Field, Option<&str>)>) -> Vec<u8> {
    let mut json = EventJson::new();
    let mut text = String::with_capacity(96);
    for field in Field::ALL {
        if let Some((faulty, token)) = fault
            && faulty == field
        {
            if let Some(token) = token {
                json.raw(field.as_str(), token);
            }
            continue;
        }
        text.clear();
        match field {
            Field::UserId if draft.visitor.numeric => json.raw(field.as_str(), &draft.visitor.key),
            Field::EventTs if draft.visitor.time == TimeSpelling::EpochMillis => {
                json.raw(field.as_str(), itoa::Buffer::new().format(draft.millis));
            }
            _ => {
                if let Some(value) = value(draft, field, &mut text) {
                    json.text(field.as_str(), value);
                }
            }
        }
    }
    json.finish()
}

/// The text of a field, built in `buffer` where it is not at hand; `None` when the client does not
/// send it.
fn value<'a>(draft: &'a Draft, field: Field, buffer: &'a mut String) -> Option<&'a str> {
    match field {
        Field::EventId => write!(buffer, "{}", draft.id).expect("writing to a string cannot fail"),
        Field::UserId => return Some(&draft.visitor.key),
        Field::EventTs => write_time(draft.millis, draft.visitor.time, buffer),
        Field::Url => {
            write_url(draft.click.page, buffer);
            buffer.push_str(draft.click.campaign);
        }
        Field::Referrer => match draft.click.referrer {
            _ if draft.visitor.app => return None,
            Referrer::None => return None,
            Referrer::External(referrer) => return Some(referrer),
            Referrer::Page(page) => write_url(page, buffer),
        },
        Field::Ip => {
            write!(buffer, "{}", draft.visitor.ip?).expect("writing to a string cannot fail")
        }
        Field::SessionId => {
            write!(buffer, "{:010x}", draft.click.session).expect("writing to a string cannot fail")
        }
        Field::UserAgent => return draft.visitor.user_agent,
        // all clicks are page views, and their URLs say on which site
        Field::EventName | Field::Site => return None,
    }
    Some(buffer)
}

fn write_time(millis: i64, spelling: TimeSpelling, out: &mut String) {
    let instant: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    let written = match spelling {
        TimeSpelling::Utc | TimeSpelling::EpochMillis => {
            write!(out, "{}", instant.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
        }
        TimeSpelling::Spaced => write!(out, "{}", instant.format("%Y-%m-%d %H:%M:%S%.3f")),
        TimeSpelling::Offset(minutes) => {
            let offset = FixedOffset::east_opt(minutes * 60)
                .unwrap_or(FixedOffset::east_opt(0).expect("zero is an offset"));
            write!(
                out,
                "{}",
                instant
                    .with_timezone(&offset)
                    .format("%Y-%m-%dT%H:%M:%S%.3f%:z")
            )
        }
    };
    written.expect("writing to a string cannot fail");
}
