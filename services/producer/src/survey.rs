//! What is in logs, before anything of it is sent.

mod outlook;

use std::fmt;
use std::time::Duration;

use clickstream_pipeline::event::EventTime;
use serde::{Serialize, Serializer};

pub use self::outlook::{Observer, Outlook};
use crate::replay::account::{Account, Reason};
use crate::replay::hit::Miss;
use crate::replay::input::InputError;
use crate::replay::merge::{Reading, Step};
use crate::replay::pace::Speed;
use crate::replay::{Outcome, Replay, ReplayOptions};

/// What a replay of some logs would send.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// Lines of all logs: `events + unparsable + skipped`.
    pub lines: u64,
    /// Lines that are clicks.
    pub events: u64,
    /// Lines that are broken.
    pub unparsable: u64,
    /// Lines that are in order and no clicks.
    pub skipped: u64,
    /// What became of lines that are no events, with the first three of each reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Inputs of which less than half was understood, what they look like and which option to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_understood: Option<String>,
    /// Events of which nothing tells users apart, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Inputs with the same lines, and what is sent of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<String>,
    /// What the pipeline will make of the events.
    #[serde(flatten)]
    pub outlook: Outlook,
    /// The oldest event time, in microseconds since the Unix epoch.
    pub oldest_micros: Option<i64>,
    /// The newest event time, likewise.
    pub newest_micros: Option<i64>,
    /// When the last event is due, from the start of the replay; in JSON as seconds. Zero at full
    /// speed.
    #[serde(rename = "takes_seconds", serialize_with = "seconds")]
    pub takes: Duration,
    /// Whether events are sent as fast as the brokers take them.
    pub at_full_speed: bool,
}

impl Survey {
    /// Reads the logs from beginning to end; `observer` tells what the pipeline will make of them.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn of(
        reading: &Reading,
        options: ReplayOptions,
        mut observer: Observer,
    ) -> Result<Self, InputError> {
        let at_full_speed = options.speed == Speed::Max;
        let mut replay = Replay::new(options);
        let mut account = Account::default();
        let (mut events, mut unparsable, mut skipped) = (0, 0, 0);
        reading.each(&mut |step| {
            let read = match step {
                Step::Begins { input, looks, .. } => {
                    account.begin(input, looks);
                    return true;
                }
                Step::Line(read) => read,
            };
            account.line(read.input, read.number, read.hit.as_ref().err().copied());
            match replay.take(read) {
                Outcome::Event(record) => {
                    events += 1;
                    observer.observe(&record);
                }
                Outcome::Miss(Miss::Unparsable(_)) => unparsable += 1,
                Outcome::Miss(Miss::Skipped(_)) => skipped += 1,
            }
            true
        })?;
        Ok(Self {
            lines: events + unparsable + skipped,
            events,
            unparsable,
            skipped,
            reasons: account.reasons(),
            not_understood: replay.doubts().behind(account.not_understood()),
            note: replay.doubts().note(),
            copies: replay.copies(),
            outlook: observer.outlook(),
            oldest_micros: replay.oldest_micros(),
            newest_micros: replay.newest_micros(),
            takes: replay.last_due(),
            at_full_speed,
        })
    }
}

/// `9999 events of 2015-05-17T10:05:03Z to 2015-05-20T21:05:59Z (3 d 11 h); 1 line is broken; none
/// goes back in time; at this pace the replay takes 3 d 11 h`
impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.events == 1 { "" } else { "s" };
        write!(f, "{} event{plural}", self.events)?;
        if let (Some(oldest), Some(newest)) = (self.oldest_micros, self.newest_micros) {
            let period = Duration::from_micros(newest.abs_diff(oldest));
            write!(
                f,
                " of {} to {} ({})",
                EventTime::from_micros(oldest),
                EventTime::from_micros(newest),
                rough(period)
            )?;
        }
        match (self.unparsable, self.skipped) {
            (0, 0) => {}
            (broken, 0) => write!(f, "; {} broken", lines(broken))?,
            (0, others) => write!(f, "; {} no click", lines(others))?,
            (broken, others) => {
                let verb = if others == 1 { "is" } else { "are" };
                write!(f, "; {} broken, {others} {verb} no click", lines(broken))?;
            }
        }
        if self.events > 0 {
            write!(f, "; {}", self.outlook)?;
        }
        if self.at_full_speed {
            write!(f, "; sent as fast as the brokers take them")
        } else {
            write!(f, "; at this pace the replay takes {}", rough(self.takes))
        }
    }
}

fn lines(count: u64) -> String {
    if count == 1 {
        "1 line is".to_owned()
    } else {
        format!("{count} lines are")
    }
}

/// A time in its two largest units.
fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let from = units.iter().position(|(count, _)| *count > 0);
    let Some(from) = from else {
        return "under a second".to_owned();
    };
    let shown = units[from..].iter().take(2).filter(|(count, _)| *count > 0);
    shown
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::spec::SemanticSpec;

    use super::*;
    use crate::replay::fields::FieldMap;

    const LOG: &str = r#"192.0.2.7 - - [10/Mar/2026:08:00:01 +0000] "GET / HTTP/1.1" 200 5 "-" "a"
no request

192.0.2.7 - - [12/Mar/2026:10:00:01 +0000] "GET /b HTTP/1.1" 200 5 "-" "a"
192.0.2.7 - - [10/Mar/2026:07:59:01 +0000] "GET /c HTTP/1.1" 200 5 "-" "a"
"#;

    fn survey(speed: Speed) -> anyhow::Result<Survey> {
        let folder = std::env::temp_dir().join(format!("survey-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder)?;
        let path = folder.join("access.log");
        std::fs::write(&path, LOG)?;
        let options = ReplayOptions {
            speed,
            ..ReplayOptions::default()
        };
        let reading = Reading {
            paths: vec![path],
            format: None,
            fields: FieldMap::default(),
        };
        let observer = Observer::new(&SemanticSpec::default(), EventTime::MAX);
        let survey = Survey::of(&reading, options, observer);
        std::fs::remove_dir_all(&folder)?;
        Ok(survey?)
    }

    #[test]
    fn every_line_is_counted_once_and_the_period_is_that_of_the_events() -> anyhow::Result<()> {
        let seen = survey(Speed::Times(1.0))?;
        assert_eq!((seen.lines, seen.events), (5, 3));
        assert_eq!((seen.unparsable, seen.skipped), (1, 1));
        assert_eq!(
            seen.to_string(),
            "3 events of 2026-03-10T07:59:01Z to 2026-03-12T10:00:01Z (2 d 2 h); 1 line is broken, 1 is \
             no click; 1 goes back in time, by up to 2 d 2 h, none too far to be on time in one \
             partition; at this pace the replay takes 2 d 2 h"
        );
        Ok(())
    }

    #[test]
    fn a_replay_at_full_speed_waits_for_nothing() -> anyhow::Result<()> {
        let seen = survey(Speed::Max)?;
        assert_eq!(seen.takes, Duration::ZERO);
        assert!(
            seen.to_string()
                .ends_with("as fast as the brokers take them"),
            "{seen}"
        );
        Ok(())
    }

    #[test]
    fn times_are_said_in_their_two_largest_units() {
        for (seconds, said) in [
            (0, "under a second"),
            (59, "59 s"),
            (3_600, "1 h"),
            (86_400 * 3 + 3_600 * 11 + 59, "3 d 11 h"),
            (62, "1 min 2 s"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), said);
        }
    }
}
