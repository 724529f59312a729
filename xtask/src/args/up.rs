//! `cargo xtask up`.

use std::path::PathBuf;
use std::time::Duration;

/// What to run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask up                                        made-up traffic until Ctrl-C
  cargo xtask up --for 60s --rate 5000                  a minute of more of it
  cargo xtask up --replay access.log                    a web server's log, as fast as it goes
  cargo xtask up --replay clicks.jsonl.gz --map event_ts=t,url=u,referrer=r,user_agent=a --speed 60
  cargo xtask up --kafka localhost:9092 --postgres postgres://me:secret@localhost/analytics

A page about the run is served while it lasts; its address is on the screen.

Ctrl-C stops the producer, waits until everything produced is in PostgreSQL, audits it against the log, and stops.
A second Ctrl-C stops at once. The exit code is 0 only if the audit is clean.")]
pub struct UpArgs {
    /// The ClickstreamPipeline to run [default: manifests/quickstart/pipeline.yaml]; its first target and first topic
    /// are used.
    #[arg(long, value_name = "FILE")]
    pub pipeline: Option<PathBuf>,

    /// Drain and stop after this long, as Ctrl-C does.
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true, value_parser = super::duration)]
    pub period: Option<Duration>,

    /// Made-up events a second, instead of the document's.
    #[arg(long, value_name = "N", conflicts_with = "replay", allow_hyphen_values = true, value_parser = super::within(1..=1_000_000_u32))]
    pub rate: Option<u32>,

    /// Replay these logs instead of making events up, merged by time (plain, gzip, zstd, xz or bzip2; docs/your-data.md has
    /// all forms); ends by itself.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub replay: Vec<PathBuf>,

    /// Pace of a replay: max, or a factor (1: as the log was written, 60: an hour in a minute) [default: max].
    #[arg(long, value_name = "N|max", requires = "replay", allow_hyphen_values = true, value_parser = speed)]
    pub speed: Option<String>,

    /// Form of the replayed logs, such as combined, json, csv, or a LogFormat [default: seen from their first lines].
    #[arg(long, value_name = "FORMAT", requires = "replay")]
    pub format: Option<String>,

    /// Names of the fields in replayed logs, such as event_ts=t,url=request.uri.
    #[arg(long, value_name = "FIELD=NAME,…", requires = "replay", value_parser = map)]
    pub map: Option<String>,

    /// Brokers to use instead of starting Kafka.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,

    /// Database to use instead of starting PostgreSQL (without TLS).
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,

    /// Run the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,

    /// Keep topic and tables at the end, and go on with those of the last run with --keep.
    #[arg(long)]
    pub keep: bool,
}

/// As the producer takes it; said here before anything is compiled.
fn speed(text: &str) -> Result<String, String> {
    let factor = text.strip_suffix('x').unwrap_or(text).parse::<f64>();
    let usable = text == "max" || factor.is_ok_and(|times| times > 0.0 && times.is_finite());
    usable
        .then(|| text.to_owned())
        .ok_or_else(|| "expected a number above 0, as in 1, 60 or 0.5, or `max`".to_owned())
}

fn map(text: &str) -> Result<String, String> {
    text.split(',')
        .all(|pair| pair.contains('='))
        .then(|| text.to_owned())
        .ok_or_else(|| "expected FIELD=NAME pairs, as in event_ts=t,url=u".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_producer_would_refuse_is_refused_before_anything_is_compiled() {
        for text in ["max", "1", "60x", "0.5"] {
            assert_eq!(speed(text).as_deref(), Ok(text));
        }
        for text in ["abc", "0", "-1", "inf", ""] {
            assert!(speed(text).is_err(), "{text}");
        }
        assert!(map("event_ts=t,url=u").is_ok());
        assert!(map("event_ts").is_err());
    }
}
