#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

use super::*;

/// A Collector: takes batches while it is there.
#[derive(Clone, Debug, Default)]
struct Collector {
    away: Arc<AtomicBool>,
    batches: Arc<Mutex<Vec<usize>>>,
    asked: Arc<tokio::sync::Notify>,
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.asked.notify_one();
        if self.away.load(Ordering::Relaxed) {
            return Err(OTelSdkError::InternalFailure("refused".to_owned()));
        }
        self.batches.lock().unwrap().push(batch.len());
        Ok(())
    }
}

fn span() -> SpanData {
    let now = std::time::SystemTime::now();
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "x".into(),
        start_time: now,
        end_time: now,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    }
}

fn sending(
    collector: &Collector,
    queue: usize,
    delay: Duration,
) -> (SpanQueue, CancellationToken, Sending<Collector>) {
    let (sender, receiver) = mpsc::channel(queue);
    let stop = CancellationToken::new();
    let sending = Sending {
        exporter: collector.clone(),
        receiver,
        stop: stop.clone(),
        max_batch: 10,
        delay,
        away: false,
    };
    (SpanQueue(sender), stop, sending)
}

#[test]
fn a_full_queue_takes_no_more_and_nobody_waits() {
    let dropped = SPANS.with_label_values(&["dropped"]);
    let before = dropped.get();
    let collector = Collector::default();
    let (queue, _stop, _sending) = sending(&collector, 3, Duration::ZERO);
    for _ in 0..5 {
        queue.on_end(span());
    }
    assert_eq!(dropped.get() - before, 2);
}

#[tokio::test]
async fn spans_wait_for_others_until_the_batch_is_full_or_the_delay_is_over() {
    let collector = Collector::default();
    let (queue, stop, sending) = sending(&collector, 100, Duration::from_millis(50));
    for _ in 0..23 {
        queue.on_end(span());
    }
    let begun = std::time::Instant::now();
    let running = tokio::spawn(sending.run());
    for _ in 0..3 {
        collector.asked.notified().await;
    }
    assert_eq!(*collector.batches.lock().unwrap(), [10, 10, 3]);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn the_end_sends_what_waits_at_once() {
    let collector = Collector::default();
    let (queue, stop, sending) = sending(&collector, 100, Duration::from_secs(3_600));
    for _ in 0..12 {
        queue.on_end(span());
    }
    stop.cancel();
    sending.run().await;
    assert_eq!(*collector.batches.lock().unwrap(), [10, 2]);
}

#[test]
fn an_outage_is_one_warning_and_ends_with_one_line() {
    let collector = Collector::default();
    let (_queue, _stop, mut sending) = sending(&collector, 100, Duration::ZERO);
    let lines = crate::logging::capture::lines(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            for away in [true, true, true, false, false, false] {
                collector.away.store(away, Ordering::Relaxed);
                sending.export(vec![span()]).await;
            }
        });
    });
    let shown: Vec<_> = lines.lines().collect();
    assert_eq!(shown.len(), 2, "{lines}");
    assert!(
        shown[0].contains("WARN") && shown[0].contains("refused"),
        "{lines}"
    );
    assert!(shown[1].contains("exported again"), "{lines}");
}

#[test]
fn an_exporter_speaks_http_and_https() {
    for endpoint in [
        "http://collector:4318/v1/traces",
        "https://collector/v1/traces",
    ] {
        let settings = Settings::read(|variable| {
            (variable == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").then(|| endpoint.to_owned())
        });
        let built = exporter(&settings.unwrap().unwrap());
        assert!(built.is_ok(), "{endpoint}: {:?}", built.err());
    }
}

#[test]
fn the_thread_ends_when_its_handle_is_dropped() {
    let settings = Settings::read(|variable| {
        // nobody listens at port 1
        (variable == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://127.0.0.1:1".to_owned())
    });
    let settings = settings.unwrap().unwrap();
    let resource = Resource::builder_empty().build();
    let (queue, exporting) = start(&settings, &resource).unwrap();
    let begun = std::time::Instant::now();
    drop(exporting);
    assert!(begun.elapsed() < LAST_SPANS);
    // and nothing is kept for it any more
    assert!(queue.0.is_closed());
}
