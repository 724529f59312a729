//! From finished spans to the Collector, on a thread of its own.
//!
//! ```text
//! span ends ── try_send ──> queue (bounded) ──> thread: batches ── OTLP over HTTP ──> Collector
//!                └ full: dropped and counted
//! ```
//! Whoever ends a span never waits: neither for the Collector nor for the encoding of what goes
//! there. The SDK's own batch processor would do, but it tells nobody how much it dropped before
//! the process ends.

use std::fmt;
use std::sync::LazyLock;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter as OtlpExporter, WithExportConfig as _,
    WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::settings::Settings;

/// How long the end of a process waits for its last spans.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// What became of finished spans.
static SPANS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = Opts::new(
        "clickstream_trace_spans_total",
        "Spans of sampled traces, by what became of them: exported, dropped (the queue was full) or failed (the Collector did not take them); alert when dropped or failed rises, since traces have holes then",
    );
    let spans = IntCounterVec::new(options, &["outcome"])
        .expect("the name and the label are valid and do not change");
    for outcome in ["exported", "dropped", "failed"] {
        spans.with_label_values(&[outcome]);
    }
    spans
});

/// What became of spans; of a process that exports none, all zero.
#[must_use]
pub fn collector() -> Box<dyn Collector> {
    Box::new(SPANS.clone())
}

fn count(outcome: &str, spans: usize) {
    SPANS.with_label_values(&[outcome]).inc_by(spans as u64);
}

/// Why spans cannot be exported at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The exporter refuses its settings.
    #[error("the OTLP exporter: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The system's certificates cannot be read.
    #[error("the certificates to trust, for https to the Collector: {0}")]
    Certificates(#[source] std::io::Error),
    /// No thread or no runtime.
    #[error("the thread that exports spans: {0}")]
    Thread(#[from] std::io::Error),
}

/// Where spans end up when they are finished.
pub struct SpanQueue(mpsc::Sender<SpanData>);

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue").finish_non_exhaustive()
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            count("dropped", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        // the thread is ended by its own handle, which waits for it
        Ok(())
    }
}

/// The exporting thread. Dropping it sends what waits, and gives up after [`LAST_SPANS`].
#[derive(Debug)]
pub struct Exporting {
    stop: CancellationToken,
    ended: std_mpsc::Receiver<()>,
}

impl Drop for Exporting {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(std_mpsc::RecvTimeoutError::Timeout) = self.ended.recv_timeout(LAST_SPANS) {
            warn!("the last spans were not taken in time, they are lost");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// [`ExportError`], before anything is sent.
pub fn start(
    settings: &Settings,
    resource: &Resource,
) -> Result<(SpanQueue, Exporting), ExportError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut exporter = exporter(settings)?;
    exporter.set_resource(resource);
    let (sender, receiver) = mpsc::channel(settings.max_queue);
    let (done, ended) = std_mpsc::sync_channel(1);
    let stop = CancellationToken::new();
    let sending = Sending {
        exporter,
        receiver,
        stop: stop.clone(),
        max_batch: settings.max_batch,
        delay: settings.delay,
        away: false,
    };
    std::thread::Builder::new()
        .name("spans".to_owned())
        .spawn(move || {
            runtime.block_on(sending.run());
            // nobody waits any more when the process is past its end
            done.send(()).ok();
        })?;
    Ok((SpanQueue(sender), Exporting { stop, ended }))
}

fn exporter(settings: &Settings) -> Result<OtlpExporter, ExportError> {
    let builder = OtlpExporter::builder()
        .with_http()
        .with_endpoint(settings.endpoint.as_str())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(settings.timeout);
    let builder = if settings.endpoint.scheme() == "https" {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(ExportError::Certificates)?
            .https_only()
            .enable_http1()
            .build();
        builder.with_http_client(HyperClient::new(connector, settings.timeout, None))
    } else {
        let client = HyperClient::with_default_connector(settings.timeout, None);
        builder.with_http_client(client)
    };
    Ok(builder.build()?)
}

struct Sending<E> {
    exporter: E,
    receiver: mpsc::Receiver<SpanData>,
    stop: CancellationToken,
    max_batch: usize,
    delay: Duration,
    /// Whether the last request failed: an outage is worth one line, not one for each request.
    away: bool,
}

impl<E: SpanExporter> Sending<E> {
    async fn run(mut self) {
        let mut batch = Vec::new();
        let mut last = false;
        while !last {
            last = self.gather(&mut batch).await;
            while !batch.is_empty() {
                let rest = batch.split_off(self.max_batch.min(batch.len()));
                self.export(std::mem::replace(&mut batch, rest)).await;
            }
        }
    }

    /// Waits for a full batch, or for the first span and the delay; `true` when these are the last.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) -> bool {
        let mut due = std::pin::pin!(tokio::time::sleep(self.delay));
        while batch.len() < self.max_batch {
            let (free, waiting) = (self.max_batch - batch.len(), !batch.is_empty());
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    while let Ok(span) = self.receiver.try_recv() {
                        batch.push(span);
                    }
                    return true;
                }
                () = &mut due, if waiting => return false,
                taken = self.receiver.recv_many(batch, free) => {
                    if taken == 0 {
                        return true;
                    }
                    if !waiting {
                        due.as_mut().reset(tokio::time::Instant::now() + self.delay);
                    }
                }
            }
        }
        false
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        match self.exporter.export(batch).await {
            Ok(()) => {
                count("exported", spans);
                if std::mem::take(&mut self.away) {
                    let lost = SPANS.with_label_values(&["failed"]).get()
                        + SPANS.with_label_values(&["dropped"]).get();
                    info!(lost, "spans are exported again");
                }
            }
            Err(error) => {
                count("failed", spans);
                if !std::mem::replace(&mut self.away, true) {
                    warn!(
                        %error,
                        "spans cannot be exported; they are dropped and counted until the collector takes them again"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
