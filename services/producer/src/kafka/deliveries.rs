//! What becomes of records once they are handed over, and what the client says on the way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clickstream_telemetry::tracing as traces;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::spans::Spans;
use crate::metrics::Metrics;

/// Counts each record exactly once, as acknowledged or as failed.
pub struct Deliveries {
    metrics: Metrics,
    begun: Instant,
    connected: AtomicBool,
    credentials: Mutex<Option<String>>,
    trouble: Mutex<Option<String>>,
    failure: Mutex<Option<String>>,
    /// Spans of records on their way.
    pub spans: Spans,
}

impl Deliveries {
    /// Counts into `metrics`; the opaque value of each record is the microsecond after `begun` at
    /// which it was sent, or leads to its span.
    pub fn new(metrics: Metrics, begun: Instant) -> Self {
        Self {
            metrics,
            begun,
            connected: AtomicBool::new(false),
            credentials: Mutex::new(None),
            trouble: Mutex::new(None),
            failure: Mutex::new(None),
            spans: Spans::default(),
        }
    }

    /// From now on trouble is worth a line in the log; before, it ends up in the error that ends
    /// the run.
    pub fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    pub fn refused_credentials(&self) -> Option<String> {
        read(&self.credentials)
    }

    pub fn last_trouble(&self) -> Option<String> {
        read(&self.trouble)
    }

    pub fn last_failure(&self) -> Option<String> {
        read(&self.failure)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: usize) {
        let (sent, span) = self.spans.take(sent);
        if let Some(span) = span {
            match result {
                Ok(message) => {
                    span.record(
                        "messaging.destination.partition.id",
                        message.partition().to_string(),
                    );
                    span.record("messaging.kafka.offset", message.offset());
                }
                Err((error, _)) => traces::fail(&span, error),
            }
        }
        match result {
            Ok(_) => {
                let now = self.begun.elapsed().as_micros();
                self.metrics
                    .acknowledge
                    .observe(now.saturating_sub(sent as u128) as f64 / 1e6);
                self.metrics.acknowledged.inc();
            }
            Err((error, _)) => {
                self.metrics.failed.inc();
                if write(&self.failure, error.to_string()) {
                    tracing::error!(%error, "a record could not be delivered, further ones are only counted");
                }
            }
        }
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        if matches!(
            error.rdkafka_error_code(),
            Some(
                Code::Authentication
                    | Code::SaslAuthenticationFailed
                    | Code::UnsupportedSASLMechanism
            )
        ) {
            write(&self.credentials, reason.to_owned());
        }
        write(&self.trouble, reason.to_owned());
        if self.connected.load(Ordering::Relaxed) {
            tracing::warn!(%error, reason, "kafka client in trouble, records are kept and retried");
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // what matters arrives in `error` as well
        tracing::debug!(?level, facility, text, "librdkafka");
    }
}

fn read(place: &Mutex<Option<String>>) -> Option<String> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Remembers the text; whether it is the first.
fn write(place: &Mutex<Option<String>>, text: String) -> bool {
    place
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(text)
        .is_none()
}
