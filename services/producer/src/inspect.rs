//! The first events of logs as a table, without Kafka.

use std::io::{self, Write};

use clickstream_pipeline::decode::{Decoder, Rejected};
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::SemanticSpec;

use crate::record::Record;
use crate::replay::account::Account;
use crate::replay::doubts::Doubts;
use crate::replay::formats::LineFormat;
use crate::replay::input::InputError;
use crate::replay::merge::{Reading, Step};
use crate::replay::{Outcome, Replay, ReplayOptions};

/// Events that are shown.
const EVENTS: usize = 5;

/// Lines that are read in search of them.
const LINES: usize = 10_000;

/// Characters of a column.
const WIDEST: usize = 44;

const COLUMNS: [&str; 6] = ["event_ts", "ip", "url", "referrer", "user_id", "user_agent"];

/// What the first lines of logs come to.
#[derive(Debug)]
pub struct Inspection {
    rows: Vec<[String; 6]>,
    rejected: Vec<String>,
    inputs: Vec<String>,
    account: Account,
    doubts: Doubts,
    lines: usize,
}

impl Inspection {
    /// Reads until five events were seen, or enough lines that are none.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn of(
        reading: &Reading,
        options: ReplayOptions,
        rules: &SemanticSpec,
    ) -> Result<Self, InputError> {
        let mut replay = Replay::new(options);
        let decoder = rules.decoder();
        let mut seen = Self {
            rows: Vec::new(),
            rejected: Vec::new(),
            inputs: Vec::new(),
            account: Account::default(),
            doubts: Doubts::default(),
            lines: 0,
        };
        reading.each(&mut |step| {
            let read = match step {
                Step::Begins {
                    input,
                    looks,
                    format,
                } => {
                    seen.account.begin(input, looks);
                    seen.inputs.push(format!("{input}: read as {format}"));
                    return true;
                }
                Step::Line(read) => read,
            };
            seen.lines += 1;
            let miss = read.hit.as_ref().err().copied();
            seen.account.line(read.input, read.number, miss);
            let format = read.format;
            if let Outcome::Event(record) = replay.take(read) {
                match row(&record, &decoder) {
                    Ok(row) => seen.rows.push(row),
                    Err(rejected) => seen.rejected.push(why(&rejected, format)),
                }
            }
            seen.rows.len() < EVENTS && seen.lines < LINES
        })?;
        seen.doubts = replay.doubts().clone();
        Ok(seen)
    }

    /// What to say of inputs of which nothing, or less than half, was understood, or no time at
    /// all.
    #[must_use]
    pub fn not_understood(&self) -> Option<String> {
        self.doubts.behind(self.account.not_understood())
    }

    /// Writes the table, and what became of the other lines.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for input in &self.inputs {
            writeln!(out, "{input}")?;
        }
        let names = COLUMNS.map(str::to_owned);
        let all = || std::iter::once(&names).chain(&self.rows);
        // what no event has needs no column
        let shown: Vec<(usize, usize)> = (0..COLUMNS.len())
            .filter(|column| self.rows.iter().any(|row| row[*column] != "-"))
            .map(|column| (column, all().map(|row| row[column].chars().count()).max()))
            .map(|(column, width)| (column, width.unwrap_or(0)))
            .collect();
        if !self.rows.is_empty() {
            for row in all() {
                let cells: Vec<String> = shown
                    .iter()
                    .map(|&(column, width)| format!("{:width$}", row[column]))
                    .collect();
                writeln!(out, "{}", cells.join("  ").trim_end())?;
            }
        }
        for rejected in &self.rejected {
            writeln!(out, "will be rejected: {rejected}")?;
        }
        for reason in self.account.reasons() {
            writeln!(out, "{reason}")?;
        }
        if let Some(note) = self.doubts.note() {
            writeln!(out, "{note}")?;
        }
        Ok(())
    }
}

/// Why an event will be rejected; a field that the log calls otherwise, with that name as well.
fn why(rejected: &Rejected, format: &dyn LineFormat) -> String {
    let Rejected { reason, detail, .. } = rejected;
    let called = rejected.field.and_then(|field| {
        let rule = detail.strip_prefix(field.as_str())?;
        let name = format
            .called(field)
            .filter(|name| *name != field.as_str())?;
        Some(format!("{reason}: {field} (`{name}` in the log){rule}"))
    });
    called.unwrap_or_else(|| format!("{reason}: {detail}"))
}

fn row(record: &Record, decoder: &Decoder) -> Result<[String; 6], Rejected> {
    let event = decoder.decode(&record.payload, EventTime::MAX)?;
    let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), cut);
    let ip = event.ip.map(|ip| ip.to_string());
    Ok([
        event.event_ts.to_string(),
        or_dash(ip.as_deref()),
        cut(&event.url),
        or_dash(event.referrer.as_deref()),
        cut(&record.key),
        or_dash(event.user_agent.as_deref()),
    ])
}

/// A text that fits its column and its line.
fn cut(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut chars = text.chars().map(plain);
    let mut short: String = chars.by_ref().take(WIDEST).collect();
    if chars.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

    use super::*;
    use crate::replay::fields::FieldMap;

    #[test]
    fn why_an_event_will_be_rejected_is_said_with_the_logs_own_name() {
        let folder = std::env::temp_dir().join(format!("inspect-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("visits.csv");
        let long = "x".repeat(9_000);
        std::fs::write(
            &path,
            format!("event_ts,Page\n1795168801,/{long}\nsoon,/a\n"),
        )
        .unwrap();
        let reading = Reading {
            paths: vec![path],
            format: None,
            fields: "url=Page".parse::<FieldMap>().unwrap(),
        };
        let seen =
            Inspection::of(&reading, ReplayOptions::default(), &SemanticSpec::default()).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let [url, time] = seen.rejected.as_slice() else {
            panic!("{seen:?}");
        };
        assert!(
            url.contains("url (`Page` in the log): longer than 8192 bytes"),
            "{url}"
        );
        assert!(time.contains(": event_ts: "), "{time}");
    }
}
