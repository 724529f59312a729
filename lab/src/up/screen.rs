//! What is shown once a second: a screen on a terminal, a line elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use clickstream_pipeline::checkpoint::Counters;
use indicatif::{HumanCount, ProgressBar};

use super::pages::Page;
use super::prepare::Pipeline;
use super::recent::Latency;
use xtask::steps::Steps;

/// The state of a moment.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Since the traffic began.
    pub elapsed: Duration,
    /// Records that came into the log.
    pub produced: i64,
    /// Verdicts.
    pub counts: Counters,
    /// Records that are not in PostgreSQL yet.
    pub lag: i64,
    /// From the broker's time stamp to a visible row.
    pub latency: Option<Latency>,
    /// Up to where event time is known to have come.
    pub watermark: Option<DateTime<Utc>>,
    /// Top pages of the last minute.
    pub pages: Vec<Page>,
}

/// Where the frames go.
pub struct Screen {
    block: Option<ProgressBar>,
    headline: String,
    footer: String,
    before: Option<Frame>,
}

impl Screen {
    /// A screen on standard error; without a terminal, says once how to connect.
    #[must_use]
    pub fn new(steps: &Steps, pipeline: &Pipeline) -> Self {
        let schema = &pipeline.document.target().schema;
        let separator = if pipeline.postgres_url.contains('?') {
            '&'
        } else {
            '?'
        };
        let psql = format!(
            "psql '{}{separator}options=-csearch_path%3D{schema}'",
            shown(&pipeline.postgres_url)
        );
        let logs = pipeline
            .logs()
            .map(|dir| dir.display().to_string())
            .unwrap_or_default();
        let page = pipeline
            .console()
            .map(|address| format!("  page  {address}\n"))
            .unwrap_or_default();
        let footer = format!("{page}  SQL   {psql}\n  logs  {logs}\n");
        let block = steps.block();
        if block.is_none() {
            eprint!("{footer}");
        }
        let headline = format!(
            "{} · {} processors · Ctrl-C drains, audits and stops",
            pipeline.log.topic(),
            pipeline.processors()
        );
        Self {
            block,
            headline,
            footer,
            before: None,
        }
    }

    /// Shows a frame.
    pub fn show(&mut self, frame: &Frame) {
        match &self.block {
            Some(block) => {
                block.set_message(self.text(frame));
                block.tick();
            }
            None => eprintln!("{}", line(frame, self.before.as_ref())),
        }
        self.before = Some(frame.clone());
    }

    /// Leaves the last frame where it is.
    pub fn leave(self, steps: &Steps) {
        if let Some(block) = &self.block {
            let last = block.message();
            block.finish_and_clear();
            steps.say(&last);
        }
    }

    fn text(&self, frame: &Frame) -> String {
        let table = table(frame, self.before.as_ref());
        format!("\n  {}\n\n{table}\n{}", self.headline, self.footer)
    }
}

/// The address without its password.
fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((login, server)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{server}")
        }
        None => url.to_owned(),
    }
}

fn table(frame: &Frame, before: Option<&Frame>) -> String {
    let mut text = String::new();
    for (name, total, rate) in rows(frame, before) {
        // infallible: writing to a String
        let _ = writeln!(
            text,
            "  {name:<12} {:>14} {:>12}/s",
            count(total),
            count(rate)
        );
    }
    let _ = writeln!(
        text,
        "  {:<12} {:>14}   records not in PostgreSQL yet",
        "lag",
        count(frame.lag)
    );
    if let Some(latency) = frame.latency {
        let _ = writeln!(
            text,
            "  {:<12} {:>14}   half of them, 99 % within {} (broker's stamp to row, last 10 s)",
            "visible in",
            millis(latency.p50),
            millis(latency.p99)
        );
    }
    if let Some(watermark) = frame.watermark {
        let _ = writeln!(
            text,
            "  {:<12} {}",
            "watermark",
            watermark.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
    }
    text.push('\n');
    text.push_str(&pages(&frame.pages));
    text
}

/// Pages with their hits, one a line.
#[must_use]
pub fn pages(pages: &[Page]) -> String {
    let mut text = String::new();
    for (url, hits) in pages {
        // a line each, however long the address
        let url: String = url
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(80)
            .collect();
        let _ = writeln!(text, "  {:>12}  {url}", count(*hits));
    }
    text
}

fn line(frame: &Frame, before: Option<&Frame>) -> String {
    let mut text = format!("{:>4} s", frame.elapsed.as_secs());
    for (name, total, rate) in rows(frame, before) {
        let _ = write!(text, "  {name} {} ({}/s)", count(total), count(rate));
    }
    let _ = write!(text, "  lag {}", count(frame.lag));
    if let Some(latency) = frame.latency {
        let _ = write!(
            text,
            "  p50 {} p99 {}",
            millis(latency.p50),
            millis(latency.p99)
        );
    }
    if let Some(watermark) = frame.watermark {
        let _ = write!(
            text,
            "  watermark {}",
            watermark.to_rfc3339_opts(SecondsFormat::Secs, true)
        );
    }
    if let Some((url, hits)) = frame.pages.first() {
        let url: String = url.chars().filter(|c| !c.is_control()).take(40).collect();
        let _ = write!(text, "  top {url} ({})", count(*hits));
    }
    text
}

fn rows(frame: &Frame, before: Option<&Frame>) -> [(&'static str, i64, i64); 5] {
    let since = before.map_or(Duration::ZERO, |before| before.elapsed);
    let seconds = (frame.elapsed.saturating_sub(since))
        .as_secs_f64()
        .max(1e-3);
    let of = |value: fn(&Frame) -> i64| {
        let (now, then) = (value(frame), before.map_or(0, value));
        (now, ((now - then) as f64 / seconds).round() as i64)
    };
    let row = |name, (total, rate)| (name, total, rate);
    [
        row("events in", of(|frame| frame.produced)),
        row("accepted", of(|frame| frame.counts.accepted)),
        row("duplicate", of(|frame| frame.counts.duplicate)),
        row("rejected", of(|frame| frame.counts.rejected)),
        row("late", of(|frame| frame.counts.late)),
    ]
}

/// A number with separators between thousands.
#[must_use]
pub fn count(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", HumanCount(number.unsigned_abs()))
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seconds: u64, produced: i64) -> Frame {
        Frame {
            elapsed: Duration::from_secs(seconds),
            produced,
            counts: Counters {
                consumed: produced,
                accepted: produced - 1,
                duplicate: 1,
                ..Counters::default()
            },
            lag: 4,
            latency: Some(Latency {
                p50: 4_100,
                p99: 9_800,
            }),
            watermark: DateTime::from_timestamp(1_767_225_600, 0),
            pages: vec![("/a\u{1b}[31m".to_owned(), 12)],
        }
    }

    #[test]
    fn rates_are_of_the_time_since_the_last_frame() {
        let text = table(&frame(12, 42_000), Some(&frame(10, 40_000)));
        let line = text
            .lines()
            .find(|line| line.contains("events in"))
            .expect("the line is there");
        assert!(
            line.contains("42,000") && line.contains(" 1,000/s"),
            "{line}"
        );
    }

    #[test]
    fn a_line_says_everything_that_the_screen_does() {
        let text = line(&frame(12, 42_000), Some(&frame(10, 40_000)));
        for part in [
            "42,000",
            "41,999",
            "lag 4",
            "p50 4.1 ms p99 9.8 ms",
            "2026-01-01T00:00:00Z",
            "/a",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn an_address_from_outside_cannot_steer_the_terminal() {
        assert!(!table(&frame(12, 42_000), None).contains('\u{1b}'));
        assert!(!line(&frame(12, 42_000), None).contains('\u{1b}'));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(
            shown("postgres://me:secret@db:5432/a"),
            "postgres://me@db:5432/a"
        );
        assert_eq!(shown("postgres://me@db/a"), "postgres://me@db/a");
    }
}
