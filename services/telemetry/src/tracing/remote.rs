//! The context of a span, as W3C headers carry it from one process to another.

use std::str::FromStr as _;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Name of the header with trace, span and flags.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the header with what tracing systems add; never without the other.
pub const TRACESTATE: &str = "tracestate";

/// Bytes of a `traceparent` of version 00, hexadecimal numbers and dashes between them; later
/// versions may add some.
const PARENT: usize = 55;
/// Beyond this no version is believed.
const LONGEST_PARENT: usize = 128;
/// What W3C asks every system to pass on at least; longer ones are left out.
const LONGEST_STATE: usize = 512;

/// A sampled span of another process, or of this one on its way to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSpan(SpanContext);

impl RemoteSpan {
    /// The span that a record's headers name, if it is sampled. Anybody may write headers: what is
    /// not exactly right names no span, and is no error.
    #[must_use]
    pub fn from_headers(traceparent: &[u8], tracestate: Option<&[u8]>) -> Option<Self> {
        let short = |bytes: &[u8], most: usize| bytes.len() <= most && bytes.is_ascii();
        // the propagator reads numbers as Rust does, with a plus sign in front
        let is_written_right = |bytes: &[u8]| {
            let mut first = bytes.iter().take(PARENT);
            first.all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
        };
        if !short(traceparent, LONGEST_PARENT) || !is_written_right(traceparent) {
            return None;
        }
        let headers = Headers {
            parent: str::from_utf8(traceparent).ok()?.to_owned(),
            state: tracestate
                .filter(|bytes| short(bytes, LONGEST_STATE))
                .and_then(|bytes| str::from_utf8(bytes).ok())
                .filter(|text| TraceState::from_str(text).is_ok())
                .unwrap_or_default()
                .to_owned(),
        };
        let found = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span = found.span().span_context().clone();
        (span.is_valid() && span.is_sampled()).then_some(Self(span))
    }

    /// A span of this process, if it is sampled.
    #[must_use]
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context().span().span_context().clone();
        (context.is_valid() && context.is_sampled()).then_some(Self(context))
    }

    /// The headers for it: `traceparent`, and `tracestate` where there is one.
    #[must_use]
    pub fn headers(&self) -> (String, Option<String>) {
        let mut headers = Headers::default();
        let context = Context::new().with_remote_span_context(self.0.clone());
        TraceContextPropagator::new().inject_context(&context, &mut headers);
        let state = (!headers.state.is_empty()).then_some(headers.state);
        (headers.parent, state)
    }

    /// Makes `span`, which nobody has entered yet, a child of this one.
    pub fn adopt(&self, span: &Span) {
        let context = Context::new().with_remote_span_context(self.0.clone());
        // refused only where the span is not recorded, and then there is nothing to say
        span.set_parent(context).ok();
    }

    /// Says that `span` has to do with this one.
    pub fn link(&self, span: &Span) {
        span.add_link(self.0.clone());
    }
}

#[derive(Default)]
struct Headers {
    parent: String,
    state: String,
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(&self.parent),
            TRACESTATE => Some(&self.state),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.parent = value,
            TRACESTATE => self.state = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(traceparent: &str) -> Option<RemoteSpan> {
        RemoteSpan::from_headers(traceparent.as_bytes(), None)
    }

    #[test]
    fn headers_name_the_same_span_on_the_other_side() {
        let span = RemoteSpan::from_headers(HEADER.as_bytes(), Some(b"vendor=1")).unwrap();
        let (parent, state) = span.headers();
        assert_eq!(
            (parent.as_str(), state.as_deref()),
            (HEADER, Some("vendor=1"))
        );
        assert_eq!(read(HEADER).unwrap().headers(), (HEADER.to_owned(), None));
    }

    #[test]
    fn a_span_that_is_not_sampled_is_none() {
        assert_eq!(read(&HEADER.replace("-01", "-00")), None);
    }

    #[test]
    fn what_is_not_exactly_right_is_ignored() {
        for wrong in [
            "",
            "-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let long = format!("cc-{}-{}", &HEADER[3..], "x".repeat(LONGEST_PARENT));
        assert_eq!(read(&long), None);
    }

    #[test]
    fn a_broken_or_long_state_is_left_out_and_the_span_is_kept() {
        let long = format!("a={}", "x".repeat(LONGEST_STATE));
        for state in [&b"nonsense"[..], &[0xff, 0xfe], long.as_bytes()] {
            let span = RemoteSpan::from_headers(HEADER.as_bytes(), Some(state)).unwrap();
            assert_eq!(span.headers(), (HEADER.to_owned(), None));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_at_all_do_harm(
            parent in proptest::collection::vec(any::<u8>(), 0..200),
            state in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..600)),
        ) {
            let span = RemoteSpan::from_headers(&parent, state.as_deref());
            // random bytes are no span
            prop_assert_eq!(span, None);
        }

        #[test]
        fn a_header_that_is_nearly_right_is_taken_whole_or_not_at_all(
            at in 0..HEADER.len(),
            byte in any::<u8>(),
        ) {
            let mut changed = HEADER.as_bytes().to_vec();
            changed[at] = byte;
            if let Some(span) = RemoteSpan::from_headers(&changed, None) {
                // what was read is what is passed on, in the form of version 00
                let (parent, _) = span.headers();
                prop_assert_eq!(&parent.as_bytes()[3..53], &changed[3..53]);
                prop_assert_eq!(read(&parent), Some(span));
            }
        }
    }
}
