//! Lines that say to which trace they belong.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// Adds `trace_id` and `span_id` to what `line` writes, within a sampled span only: those are the
/// spans that somebody can look up.
pub struct WithTrace<F> {
    line: F,
    format: LogFormat,
    traced: bool,
}

impl<F> WithTrace<F> {
    /// Lines of this form; unless `traced`, they are left as they are.
    pub fn new(line: F, format: LogFormat, traced: bool) -> Self {
        Self {
            line,
            format,
            traced,
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let sampled = self.traced.then(sampled_span).flatten();
        let Some((trace, span)) = sampled else {
            return self.line.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.line
            .format_event(context, Writer::new(&mut line), event)?;
        let text = line.trim_end_matches('\n');
        match (self.format, text.strip_suffix('}')) {
            (LogFormat::Json, Some(object)) => writeln!(
                writer,
                r#"{object},"trace_id":"{trace}","span_id":"{span}"}}"#
            ),
            _ => writeln!(writer, "{text} trace_id={trace} span_id={span}"),
        }
    }
}

/// The ids of the span that this thread is in. It is asked for here and not in the log's own
/// registry, where a span below the log's level does not exist.
fn sampled_span() -> Option<(opentelemetry::trace::TraceId, opentelemetry::trace::SpanId)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_sampled().then(|| (span.trace_id(), span.span_id()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::logging::capture::Captured;
    use crate::logging::{lines, parse_filter};

    fn logged(format: LogFormat, sampler: Sampler) -> String {
        let captured = Captured::default();
        let filter = parse_filter("default filter", "info").unwrap();
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let subscriber = tracing_subscriber::registry()
            .with(lines(format, filter, false, true, captured.writer()))
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("outside");
            // below the log's level, as all spans are
            let span = tracing::debug_span!("flush");
            span.in_scope(|| tracing::info!(rows = 3, "inside"));
        });
        captured.text()
    }

    #[test]
    fn json_lines_within_a_sampled_span_carry_its_ids() {
        let text = logged(LogFormat::Json, Sampler::AlwaysOn);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0].get("trace_id"), None);
        assert_eq!(
            (lines[1]["message"].as_str(), &lines[1]["rows"]),
            (Some("inside"), &3.into())
        );
        assert_eq!(lines[1]["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(lines[1]["span_id"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn pretty_lines_within_a_sampled_span_end_with_its_ids() {
        let text = logged(LogFormat::Pretty, Sampler::AlwaysOn);
        let lines: Vec<&str> = text.lines().collect();
        assert!(!lines[0].contains("trace_id"), "{text}");
        assert!(
            lines[1].contains("inside rows=3 trace_id=") && lines[1].contains(" span_id="),
            "{text}"
        );
    }

    #[test]
    fn a_span_that_is_not_sampled_leaves_no_trace_in_the_log() {
        let text = logged(LogFormat::Json, Sampler::AlwaysOff);
        assert!(
            text.contains("inside") && !text.contains("trace_id"),
            "{text}"
        );
    }
}
