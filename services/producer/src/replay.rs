//! Turns logs into click events: one line, one event, with ids that are the same at every replay.
//!
//! ```text
//! input (plain, gzip, stdin) -> access_log | json_lines -> client (user, session) -> pace (due) -> Record
//! ```
//! Everything but [`input`] is pure. Every line ends in exactly one [`Outcome`], so
//! `lines = events + unparsable + skipped` holds for every input.

pub mod access_log;
pub mod client;
pub mod input;
pub mod json_lines;
pub mod pace;
mod source;

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use clickstream_pipeline::decode::Field;
use clickstream_pipeline::event::EventTime;
use uuid::Uuid;

use self::access_log::{LogLineProblem, Request};
use self::client::{Sessions, user_id};
use self::input::Line;
use self::json_lines::{FieldMap, JsonClick, JsonLineProblem};
use self::pace::{Pace, Speed};
pub use self::source::Source;
use crate::event_json::EventJson;
use crate::record::{Record, RecordKind};

/// What the lines of an input look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Access log, common or combined.
    #[value(aliases = ["common", "combined"])]
    AccessLog,
    /// One JSON object a line.
    Json,
}

/// How lines become events.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// How fast.
    pub speed: Speed,
    /// The longest pause between two events, in time as it passes during the replay.
    pub max_pause: Duration,
    /// Where JSON lines keep their fields.
    pub fields: FieldMap,
    /// Put before request targets that begin with `/`.
    pub base_url: Option<String>,
    /// Added to every event time, in microseconds.
    pub shift_micros: i64,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self {
            speed: Speed::Times(1.0),
            max_pause: Duration::MAX,
            fields: FieldMap::default(),
            base_url: None,
            shift_micros: 0,
        }
    }
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The line is a click.
    Event(Record),
    /// The line is broken.
    Unparsable(Unparsable),
    /// The line is in order and no click.
    Skipped(Skipped),
}

/// Why a line is broken; never its text, which may hold personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unparsable {
    /// Not a line of an access log.
    #[error(transparent)]
    Log(#[from] LogLineProblem),
    /// Not a JSON object.
    #[error(transparent)]
    Json(JsonLineProblem),
    /// Longer than [`input::MAX_LINE_BYTES`].
    #[error("longer than 1 MiB")]
    TooLong,
}

/// Why a line in order is no click.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// Nothing but white space.
    #[error("blank")]
    Blank,
    /// A JSON object without a URL: a heartbeat, for example.
    #[error("no url")]
    NoUrl,
    /// A JSON object without a time.
    #[error("no event_ts")]
    NoTime,
}

/// A replay under way: options and what has to be remembered between lines and between inputs.
#[derive(Debug)]
pub struct Replay {
    options: ReplayOptions,
    sessions: Sessions,
    pace: Pace,
    oldest: Option<i64>,
    newest: Option<i64>,
    due: Duration,
}

impl Replay {
    /// A replay that has seen nothing yet.
    #[must_use]
    pub fn new(options: ReplayOptions) -> Self {
        let pace = Pace::new(options.speed, options.max_pause);
        Self {
            options,
            sessions: Sessions::default(),
            pace,
            oldest: None,
            newest: None,
            due: Duration::ZERO,
        }
    }

    /// The oldest event time so far, in microseconds since the Unix epoch, without the shift.
    #[must_use]
    pub fn oldest_micros(&self) -> Option<i64> {
        self.oldest
    }

    /// The newest event time so far, in microseconds since the Unix epoch, without the shift.
    #[must_use]
    pub fn newest_micros(&self) -> Option<i64> {
        self.newest
    }

    /// When the last event so far is due.
    #[must_use]
    pub fn last_due(&self) -> Duration {
        self.due
    }

    /// Takes the next line of an input.
    pub fn line(
        &mut self,
        source: &Source,
        format: Format,
        number: u64,
        line: &Line<'_>,
    ) -> Outcome {
        let text = match line {
            Line::TooLong => return Outcome::Unparsable(Unparsable::TooLong),
            Line::Text(text) if text.iter().all(u8::is_ascii_whitespace) => {
                return Outcome::Skipped(Skipped::Blank);
            }
            Line::Text(text) => text,
        };
        let id = source.event_id(number, text);
        match format {
            Format::AccessLog => match access_log::parse(text) {
                Ok(request) => Outcome::Event(self.request(id, &request)),
                Err(problem) => Outcome::Unparsable(problem.into()),
            },
            Format::Json => match json_lines::parse(text, &self.options.fields) {
                Ok(click) => Outcome::Event(self.click(id, &click)),
                Err(JsonLineProblem::NoUrl) => Outcome::Skipped(Skipped::NoUrl),
                Err(JsonLineProblem::NoTime) => Outcome::Skipped(Skipped::NoTime),
                Err(problem) => Outcome::Unparsable(Unparsable::Json(problem)),
            },
        }
    }

    fn request(&mut self, id: Uuid, request: &Request<'_>) -> Record {
        let micros = request.time.timestamp_micros();
        let user = user_id([Some(request.host.as_ref()), request.user_agent.as_deref()]);
        let session = self.sessions.session_id(&user, micros);
        let mut event = EventJson::new();
        event.text(
            "event_id",
            id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()),
        );
        event.text("user_id", &user);
        event.text("event_ts", &self.shifted(micros));
        event.text("url", &self.absolute(&request.target));
        if let Some(referrer) = &request.referrer {
            event.text("referrer", referrer);
        }
        if let Ok(ip) = request.host.parse::<IpAddr>() {
            event.text("ip", &ip.to_string());
        }
        event.text("session_id", &session);
        if let Some(user_agent) = &request.user_agent {
            event.text("user_agent", user_agent);
        }
        self.record(user, event, Some(micros))
    }

    fn click(&mut self, id: Uuid, click: &JsonClick<'_>) -> Record {
        let user = click.user().map_or_else(
            || user_id(click.client().iter().map(Option::as_deref)),
            Cow::into_owned,
        );
        let mut event = EventJson::new();
        for field in Field::ALL {
            let name = field.as_str();
            match (field, click.token(field)) {
                (Field::EventTs, Some(token)) => match click.micros {
                    Some(micros) if !click.time_is_ours || self.options.shift_micros != 0 => {
                        event.text(name, &self.shifted(micros));
                    }
                    _ => event.raw(name, token),
                },
                (_, Some(token)) => event.raw(name, token),
                (Field::EventId, None) => {
                    event.text(
                        name,
                        id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()),
                    );
                }
                (Field::UserId, None) => event.text(name, &user),
                (Field::SessionId, None) => {
                    if let Some(micros) = click.micros {
                        event.text(name, &self.sessions.session_id(&user, micros));
                    }
                }
                (_, None) => {}
            }
        }
        self.record(user, event, click.micros)
    }

    fn record(&mut self, user: String, event: EventJson, micros: Option<i64>) -> Record {
        self.oldest = [self.oldest, micros].into_iter().flatten().min();
        self.newest = self.newest.max(micros);
        self.due = self.pace.due(micros);
        Record {
            key: user,
            payload: event.finish(),
            due: self.due,
            kind: RecordKind::Event,
        }
    }

    fn shifted(&self, micros: i64) -> String {
        EventTime::from_micros(micros.saturating_add(self.options.shift_micros)).to_string()
    }

    fn absolute<'a>(&self, target: &'a str) -> Cow<'a, str> {
        match &self.options.base_url {
            Some(base) if target.starts_with('/') => {
                Cow::Owned(format!("{}{target}", base.trim_end_matches('/')))
            }
            _ => Cow::Borrowed(target),
        }
    }
}

#[cfg(test)]
mod tests;
