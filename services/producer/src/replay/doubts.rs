//! What is wrong with the events of a run taken together, although each line was understood.

use clickstream_pipeline::decode::Field;

use super::formats::LineFormat;
use super::hit::Hit;
use super::time::FORMS;

/// Events, and those that hardly are what somebody wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    events: u64,
    /// Events whose time cannot be read.
    timeless: u64,
    /// What the log calls the first of those times.
    time: Option<String>,
    /// Events without user, address, user agent or anything else that tells users apart.
    anonymous: u64,
}

impl Doubts {
    /// Counts an event; `format` has read it.
    pub fn observe(&mut self, hit: &Hit<'_>, format: &dyn LineFormat) {
        self.events += 1;
        if hit.micros().is_none() {
            self.timeless += 1;
            let called = || format.called(Field::EventTs).map(str::to_owned);
            self.time = self.time.take().or_else(called);
        }
        let client = hit
            .client
            .as_deref()
            .is_some_and(|name| !matches!(name, "" | "-"));
        let known = hit.user.is_some()
            || client
            || hit.user_agent.is_some()
            || hit.apart.iter().any(Option::is_some);
        self.anonymous += u64::from(!known);
    }

    /// What is worth a line at the end.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let (events, have) = match self.anonymous {
            0 => return None,
            1 => ("1 event".to_owned(), "has"),
            count => (format!("{count} events"), "have"),
        };
        Some(format!(
            "{events} {have} nothing to tell users apart by, and all of them are one user: \
             --map user_id=NAME says which field is the user"
        ))
    }

    /// Why nothing will come of any event.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let called = match &self.time {
            _ if self.events == 0 || self.timeless < self.events => return None,
            Some(name) => format!(" (`{name}` in the log)"),
            None => String::new(),
        };
        Some(format!(
            "no event has an event_ts{called} that can be read as a time: --map event_ts=NAME \
             says which field it is; what is read is {FORMS}"
        ))
    }

    /// The same behind what else was not understood.
    #[must_use]
    pub fn behind(&self, not_understood: Option<String>) -> Option<String> {
        match (not_understood, self.error()) {
            (Some(first), Some(second)) => Some(format!("{first}\n{second}")),
            (first, second) => first.or(second),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use super::Doubts;
    use crate::replay::fields::FieldMap;
    use crate::replay::format::Format;

    fn doubts(map: &str, lines: &[&str]) -> Doubts {
        let map: FieldMap = map.parse().unwrap();
        let mut doubts = Doubts::default();
        for line in lines {
            let mut reader = Format::Json.reader(&map);
            let hit = reader.read(line.as_bytes()).unwrap();
            doubts.observe(&hit, &*reader);
        }
        doubts
    }

    #[test]
    fn events_with_nothing_to_tell_users_apart_are_counted() {
        let bare = r#"{"ts":1,"url":"/a","tz":"x"}"#;
        let said = doubts("", &[bare, bare]).note().unwrap();
        assert!(said.starts_with("2 events have nothing") && said.contains("--map user_id="));
        assert_eq!(doubts("client=tz", &[bare]).note(), None);
        for field in [
            r#""user_id":"a""#,
            r#""ip":"192.0.2.1""#,
            r#""ua":"x""#,
            r#""user":"a""#,
        ] {
            let line = format!(r#"{{"ts":1,"url":"/a",{field}}}"#);
            assert_eq!(doubts("", &[&line]).note(), None, "{field}");
        }
        let dash = r#"{"ts":1,"url":"/a","ip":"-"}"#;
        assert!(
            doubts("", &[dash])
                .note()
                .unwrap()
                .starts_with("1 event has")
        );
    }

    #[test]
    fn times_that_cannot_be_read_are_an_error_where_none_can() {
        let (read, unread) = (
            r#"{"ts":1,"url":"/"}"#,
            r#"{"ts":"11/20/2026 10:00:01","url":"/"}"#,
        );
        let said = doubts("", &[unread, unread]).error().unwrap();
        assert!(
            said.contains("event_ts (`ts` in the log)") && said.contains("2026-11-20 10:00:01"),
            "{said}"
        );
        let own = r#"{"page":{"When":"soon"},"url":"/"}"#;
        let said = doubts("event_ts=page.When", &[own]).error().unwrap();
        assert!(said.contains("event_ts (`page.When` in the log)"), "{said}");
        assert_eq!(doubts("", &[read, unread]).error(), None);
        assert_eq!(doubts("", &[]).error(), None);
        let both = doubts("", &[unread])
            .behind(Some("first".to_owned()))
            .unwrap();
        assert!(both.starts_with("first\nno event has an event_ts"));
    }
}
