//! Traces: spans from the services to an OpenTelemetry Collector, by the standard `OTEL_*`
//! variables.
//!
//! ```text
//! producer `send` ── traceparent header ──> processor `process` ─> `flush` ─> fence, copy, insert, aggregates, advance, commit
//! ```
//! Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set. Spans have level
//! `DEBUG`, so that logs at the usual level neither show them nor pay for them; the layer that
//! exports them takes every span of this project whatever `RUST_LOG` says.

mod export;
mod remote;
mod sampler;
mod settings;

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Status, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::export::Exporting;
use self::sampler::{Ids, TraceSampler};
pub use self::{
    export::{ExportError, collector},
    remote::{RemoteSpan, TRACEPARENT, TRACESTATE},
    settings::{DEFAULT_RATIO, Settings, SettingsError},
};
use crate::logging::{self, LogFormat, LoggingError};

/// Links of one span at most. A flush holds thousands of records, and anybody who may write to the
/// topic may give each of them a header.
pub const MAX_LINKS: u32 = 32;

static SAMPLER: OnceLock<TraceSampler> = OnceLock::new();

/// Why logs or traces could not start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Logs.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// An `OTEL_*` variable cannot be followed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Spans cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Logs and traces of this process, until it is dropped: that sends the last spans, and waits for
/// it 5 s at most.
#[derive(Debug)]
#[must_use = "dropping it ends the traces"]
pub struct Telemetry {
    _exporting: Option<Exporting>,
}

/// Starts logs as [`logging::init`] does, and traces where the environment asks for them. `service`
/// is the name of the program, and that of its spans' resource unless `OTEL_SERVICE_NAME` gives
/// another.
///
/// # Errors
/// [`InitError`] names the variable.
pub fn init(
    service: &'static str,
    format: LogFormat,
    default_filter: &str,
) -> Result<Telemetry, InitError> {
    let settings = Settings::read(|variable| std::env::var(variable).ok())?;
    let Some(settings) = settings else {
        logging::init(format, default_filter)?;
        return Ok(Telemetry { _exporting: None });
    };
    let resource = resource(service);
    let (queue, exporting) = export::start(&settings, &resource)?;
    let sampler = TraceSampler::new(settings.sampler);
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler.clone())
        .with_id_generator(Ids::default())
        .with_max_links_per_span(MAX_LINKS)
        .with_span_processor(queue)
        .build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(service))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_ours).with_max_level_hint(LevelFilter::DEBUG));
    let logs = logging::layer(format, default_filter, true)?;
    tracing_subscriber::registry()
        .with(logs)
        .with(spans)
        .try_init()
        .map_err(LoggingError::AlreadyInitialised)?;
    // set last: whoever asks `is_on` finds everything in place
    SAMPLER.get_or_init(|| sampler);
    tracing::info!(
        collector = settings.endpoint.host_str().unwrap_or_default(),
        port = settings.endpoint.port_or_known_default(),
        sampler = ?settings.sampler,
        "traces are exported"
    );
    Ok(Telemetry {
        _exporting: Some(exporting),
    })
}

/// Spans of this project, and its warnings as events of the spans they come from.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("clickstream")
        && (metadata.is_span() || *metadata.level() <= tracing::Level::WARN)
}

fn resource(service: &'static str) -> Resource {
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.namespace", "clickstream"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ]);
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.trim().is_empty() => resource.with_service_name(name).build(),
        _ => resource.build(),
    }
}

/// Whether this process exports spans. Cheap enough to ask for every record.
#[must_use]
pub fn is_on() -> bool {
    SAMPLER.get().is_some()
}

/// Begins a trace with a message, if it is one of those that are sampled; `span` is called for
/// those alone. Without a span this costs a random number.
pub fn message(span: impl FnOnce() -> Span) -> Option<Span> {
    let sampler = SAMPLER.get()?;
    let trace = Ids::default().draw();
    sampler.takes_message(trace).then(|| {
        Ids::with_next(trace, || {
            let span = span();
            // begun here, while the id is the chosen one
            span.context();
            span
        })
    })
}

/// Marks a span as failed. `why` is shown to whoever sees traces, so it holds no secret and no
/// event.
pub fn fail(span: &Span, why: impl std::fmt::Display) {
    if !span.is_disabled() {
        span.set_status(Status::error(why.to_string()));
    }
}
