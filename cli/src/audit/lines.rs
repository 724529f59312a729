//! A pod's log is one stream; here it becomes the two again that the audit wrote.

use std::io::{IsTerminal as _, Write as _};

use clickstream_protocol::output;
use jiff::Timestamp;
use serde_json::Value;

/// Whether the report or what is said beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The report: standard output.
    Report(String),
    /// How far it is; the next one takes its place.
    Progress(String),
    /// A message, such as the reason of a failure.
    Aside(String),
}

impl Line {
    /// Tells them apart: logs are JSON objects on one line, which the report never has, and
    /// progress has a form of its own.
    pub fn of(text: &str) -> Self {
        let is_progress = text
            .strip_prefix("audit: ")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if is_progress {
            return Self::Progress(text.to_owned());
        }
        if text.starts_with("error: ") {
            return Self::Aside(text.to_owned());
        }
        let logged = text
            .starts_with("{\"")
            .then(|| serde_json::from_str::<Value>(text).ok())
            .flatten();
        match logged {
            Some(logged) if logged["level"].is_string() => Self::Aside(told(&logged)),
            _ => Self::Report(text.to_owned()),
        }
    }
}

/// A log line for a person.
fn told(logged: &Value) -> String {
    let mut text = format!(
        "{} {}",
        logged["level"].as_str().unwrap_or_default(),
        logged["message"].as_str().unwrap_or_default()
    );
    for (key, value) in logged.as_object().into_iter().flatten() {
        if !["level", "message", "timestamp", "target"].contains(&key.as_str()) {
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text
}

/// Splits the server's time from a line.
pub fn timed(line: &str) -> (Option<Timestamp>, &str) {
    match line.split_once(' ') {
        Some((time, text)) => match time.parse() {
            Ok(time) => (Some(time), text),
            Err(_) => (None, line),
        },
        // an empty line is its time alone
        None => line.parse().map_or((None, line), |time| (Some(time), "")),
    }
}

/// Writes lines where they belong.
#[derive(Default)]
pub struct Told {
    progress: bool,
}

impl Told {
    /// Writes one.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn tell(&mut self, line: &Line) -> std::io::Result<()> {
        // a closed standard error is no reason to stop
        let mut err = std::io::stderr().lock();
        let on_terminal = err.is_terminal();
        if self.progress {
            let _ = write!(err, "\r\x1b[K");
            self.progress = false;
        }
        match line {
            Line::Report(text) => {
                let mut out = output::stdout();
                writeln!(out, "{text}")?;
                out.flush()?;
            }
            Line::Progress(text) if on_terminal => {
                let _ = write!(err, "{text}").and_then(|()| err.flush());
                self.progress = true;
            }
            Line::Progress(text) | Line::Aside(text) => {
                let _ = writeln!(err, "{text}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_told_from_what_is_said_beside_it() {
        let report = |text: &str| Line::Report(text.to_owned());
        for text in [
            "{",
            "  \"clean\": true,",
            "audit clean: 5 records",
            "note: x",
            "{}",
            "",
        ] {
            assert_eq!(Line::of(text), report(text));
        }
        assert_eq!(
            Line::of("audit: 5 of 10 offsets, 50 %, 9/s"),
            Line::Progress("audit: 5 of 10 offsets, 50 %, 9/s".to_owned())
        );
        assert_eq!(
            Line::of(
                r#"{"timestamp":"t","level":"WARN","message":"slow","target":"m","broker":3}"#
            ),
            Line::Aside("WARN slow broker=3".to_owned())
        );
        assert_eq!(
            Line::of("error: no such role"),
            Line::Aside("error: no such role".to_owned())
        );
    }

    #[test]
    fn a_line_is_split_from_its_time_whatever_is_in_it() {
        let (time, text) = timed("2026-11-22T18:00:00.123456789Z  two  blanks ");
        assert!(time.is_some());
        assert_eq!(text, " two  blanks ");
        assert_eq!(timed("2026-11-22T18:00:00Z").1, "");
        assert_eq!(timed("no time"), (None, "no time"));
    }
}
