//! Turns logs into click events: one line, one event, with ids that are the same at every replay.
//!
//! ```text
//! input (packed, plain, stdin) -> formats (hit) -> merge (time) -> client (user, session), ids -> pace (due) -> Record
//! ```
//! Everything but [`input`] and [`merge`] is pure. Every line ends in exactly one [`Outcome`], so
//! `lines = events + unparsable + skipped` holds for every input.

pub mod account;
pub mod address;
pub mod client;
mod copies;
pub mod detect;
pub mod doubts;
pub mod fields;
pub mod format;
pub mod formats;
pub mod hit;
pub mod ids;
pub mod input;
pub mod merge;
pub mod named_twice;
mod objects;
pub mod pace;
mod packing;
mod quoted;
pub mod time;
mod utf16;

use std::time::Duration;

use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::event::id::of_text;
use uuid::Uuid;

use self::client::{Clients, Sessions};
use self::copies::Copies;
use self::doubts::Doubts;
pub use self::format::Format;
use self::hit::{Hit, Miss, Time, Value};
use self::ids::Ids;
use self::merge::Read;
use self::pace::{Pace, Speed};
use crate::event_json::EventJson;
use crate::record::{Record, RecordKind};

/// How lines become events.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// How fast.
    pub speed: Speed,
    /// The longest pause between two events, in time as it passes during the replay.
    pub max_pause: Duration,
    /// A name space for event ids: the same lines under another one are other events.
    pub source: String,
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
            source: String::new(),
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
    /// The line is broken, or in order and no click.
    Miss(Miss),
}

impl Outcome {
    /// Whether the line is a click.
    #[must_use]
    pub fn is_event(&self) -> bool {
        matches!(self, Self::Event(_))
    }
}

/// A replay under way: options and what has to be remembered between lines and between inputs.
#[derive(Debug)]
pub struct Replay {
    options: ReplayOptions,
    clients: Clients,
    sessions: Sessions,
    ids: Ids,
    doubts: Doubts,
    copies: Copies,
    pace: Pace,
    oldest: Option<i64>,
    newest: Option<i64>,
    due: Duration,
    /// The last time that was written, and how.
    spelled: (Option<i64>, String),
}

impl Replay {
    /// A replay that has seen nothing yet.
    #[must_use]
    pub fn new(options: ReplayOptions) -> Self {
        let pace = Pace::new(options.speed, options.max_pause);
        Self {
            clients: Clients::default(),
            sessions: Sessions::default(),
            ids: Ids::new(&options.source),
            doubts: Doubts::default(),
            copies: Copies::default(),
            options,
            pace,
            oldest: None,
            newest: None,
            due: Duration::ZERO,
            spelled: (None, String::new()),
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

    /// Takes the next line.
    pub fn take(&mut self, read: Read<'_>) -> Outcome {
        self.copies.observe(read.input, read.text, read.hit.is_ok());
        match read.hit {
            Ok(hit) => {
                self.doubts.observe(&hit, read.format);
                Outcome::Event(self.event(read.text, &hit))
            }
            Err(miss) => Outcome::Miss(miss),
        }
    }

    /// What is wrong with the events so far.
    #[must_use]
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// What to say of inputs with the same lines, once all have been read.
    #[must_use]
    pub fn copies(&self) -> Option<String> {
        self.copies.warning()
    }

    /// Lines whose ids do not tell equal ones apart for certain.
    #[must_use]
    pub fn beyond_memory(&self) -> u64 {
        self.ids.beyond_memory()
    }

    fn event(&mut self, line: &[u8], hit: &Hit<'_>) -> Record {
        let micros = hit.micros();
        let address = hit.client.as_deref().and_then(address::first);
        let user = match &hit.user {
            Some(user) => user.text().into_owned(),
            None => self.clients.user(hit, address),
        };
        let mut event = EventJson::new();
        match &hit.id {
            Some(id) => match Uuid::try_parse(&id.text()) {
                Ok(_) => put(&mut event, "event_id", id),
                Err(_) => event.id("event_id", of_text(&id.text())),
            },
            None => event.id("event_id", self.ids.next(micros, line)),
        }
        match &hit.user {
            Some(id) => put(&mut event, "user_id", id),
            None => event.text("user_id", &user),
        }
        match &hit.time {
            Time::Micros(micros) => event.plain("event_ts", self.shifted(*micros)),
            Time::Unread(value) => put(&mut event, "event_ts", value),
        }
        match self.absolute(hit) {
            Some(url) => event.text("url", &url),
            None => put(&mut event, "url", &hit.url),
        }
        if let Some(referrer) = &hit.referrer {
            put(&mut event, "referrer", referrer);
        }
        if let Some(address) = address {
            event.shown("ip", &address);
        }
        match (&hit.session, micros) {
            (Some(session), _) => put(&mut event, "session_id", session),
            (None, Some(micros)) => {
                event.text("session_id", &self.sessions.session_id(&user, micros));
            }
            (None, None) => {}
        }
        if let Some(user_agent) = &hit.user_agent {
            put(&mut event, "user_agent", user_agent);
        }
        self.record(user, event, micros)
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

    /// The time as an event has it; many lines of a log have the time of the line before.
    fn shifted(&mut self, micros: i64) -> &str {
        if self.spelled.0 != Some(micros) {
            let shifted = micros.saturating_add(self.options.shift_micros);
            self.spelled = (Some(micros), EventTime::from_micros(shifted).to_string());
        }
        &self.spelled.1
    }

    /// The whole URL of a request whose target is only a path, where something says what comes in
    /// front of it.
    fn absolute(&self, hit: &Hit<'_>) -> Option<String> {
        let target = hit.url.text();
        if !target.starts_with('/') {
            return None;
        }
        if let Some(base) = &self.options.base_url {
            return Some(format!("{}{target}", base.trim_end_matches('/')));
        }
        Some(format!("{}{target}", hit.site.origin()?))
    }
}

fn put(event: &mut EventJson, name: &str, value: &Value<'_>) {
    match value {
        Value::Text(text) => event.text(name, text),
        Value::Token(token) => event.raw(name, token),
    }
}

#[cfg(test)]
mod tests;
