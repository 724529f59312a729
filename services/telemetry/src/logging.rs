//! Structured logs on stderr.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use self::with_trace::WithTrace;

mod with_trace;

/// The environment variable that overrides the default filter.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: colours when stderr is a terminal.
    #[default]
    Pretty,
    /// For machines: one JSON object a line, fields flattened into it.
    Json,
}

/// A name that is no log format.
#[derive(Debug, thiserror::Error)]
#[error("unknown log format {0:?}: expected pretty or json")]
pub struct UnknownLogFormat(String);

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            other => Err(UnknownLogFormat(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A filter nobody could have meant; refused, since dropping it silently would hide the lines
    /// it asks for.
    #[error(
        "{origin}: cannot read {filter:?} as a log filter (for example: info,clickstream_processor=debug)"
    )]
    Filter {
        /// Where the filter came from: `RUST_LOG` or `default filter`.
        origin: &'static str,
        /// The filter as given.
        filter: String,
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is installed already.
    #[error("logging is already initialised")]
    AlreadyInitialised(#[source] TryInitError),
}

/// Sends every `tracing` (and `log`) record of this process to stderr. `RUST_LOG`, when set and not
/// empty, takes the place of `default_filter`. A program that has spans starts both with
/// [`crate::tracing::init`].
///
/// # Errors
/// [`LoggingError`] when a filter cannot be read, or at the second call in a process.
pub fn init(format: LogFormat, default_filter: &str) -> Result<(), LoggingError> {
    tracing_subscriber::registry()
        .with(layer(format, default_filter, false)?)
        .try_init()
        .map_err(LoggingError::AlreadyInitialised)
}

/// A layer that writes log lines.
pub(crate) type LogLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// The layer of [`init`]. With `traced`, lines from within a sampled span carry its `trace_id` and
/// `span_id`.
pub(crate) fn layer<S>(
    format: LogFormat,
    default_filter: &str,
    traced: bool,
) -> Result<LogLayer<S>, LoggingError>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
{
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(value) if !value.trim().is_empty() => parse_filter(FILTER_VARIABLE, &value)?,
        _ => parse_filter("default filter", default_filter)?,
    };
    let colours = std::io::stderr().is_terminal();
    Ok(lines(format, filter, colours, traced, std::io::stderr))
}

fn parse_filter(origin: &'static str, filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LoggingError::Filter {
            origin,
            filter: filter.to_owned(),
            source,
        })
}

/// The PostgreSQL client notes the parameters of each statement, which are visitors' data: whatever
/// a filter asks for, of it nothing below `info` is written.
fn holds_no_rows(line: &Metadata<'_>) -> bool {
    !line.target().starts_with("tokio_postgres") || *line.level() <= Level::INFO
}

fn lines<S, W>(
    format: LogFormat,
    filter: EnvFilter,
    colours: bool,
    traced: bool,
    writer: W,
) -> LogLayer<S>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // the hint leaves that of the other filter in force, so that what is off stays free of cost
    let filter = filter.and(filter_fn(holds_no_rows).with_max_level_hint(LevelFilter::TRACE));
    let plain = tracing_subscriber::fmt::format();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // it would be told on the very stream that is closed, by a panic
        .log_internal_errors(false)
        .with_ansi(colours);
    match format {
        LogFormat::Pretty => layer
            .event_format(WithTrace::new(plain.with_ansi(colours), format, traced))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => layer
            .fmt_fields(JsonFields::new())
            .event_format(WithTrace::new(
                plain.json().flatten_event(true),
                format,
                traced,
            ))
            .with_filter(filter)
            .boxed(),
    }
}

#[cfg(test)]
pub(crate) mod capture;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::capture::Captured;
    use super::*;

    fn logged(format: LogFormat, filter: &str, emit: impl FnOnce()) -> String {
        let captured = Captured::default();
        let filter = parse_filter("default filter", filter).unwrap();
        let lines = lines(format, filter, false, false, captured.writer());
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, emit);
        captured.text()
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let text = logged(LogFormat::Json, "info", || {
            tracing::info!(topic = "clickstream", partition = 3, "claimed partition");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["message"], "claimed partition");
        assert_eq!(line["topic"], "clickstream");
        assert_eq!(line["partition"], 3);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn pretty_lines_carry_no_escape_codes_unless_asked() {
        let text = logged(LogFormat::Pretty, "info", || {
            tracing::warn!(attempt = 2, "retrying");
        });
        assert!(
            text.contains("retrying") && text.contains("attempt=2"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn the_filter_holds_lines_below_its_level_back() {
        let text = logged(LogFormat::Pretty, "warn", || tracing::info!("not shown"));
        assert_eq!(text, "");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = parse_filter(FILTER_VARIABLE, "info,clickstream=loud").unwrap_err();
        assert!(error.to_string().starts_with("RUST_LOG: "), "{error}");
    }

    #[test]
    fn format_names_read_back_as_written() {
        for format in [LogFormat::Pretty, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        let error = "yaml".parse::<LogFormat>().unwrap_err().to_string();
        assert!(error.contains("yaml") && error.contains("json"), "{error}");
    }
}
