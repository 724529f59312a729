//! What a commit adds to the metrics.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clickstream_pipeline::{
    commit::{Remedy, Settlement},
    decode::CleanedCounts,
    engine::Flush,
};

use crate::{
    metrics::{FlushOutcome, HeartbeatMetrics, Skew, WriterMetrics},
    retry::{self, ErrorClass},
    sink::SinkFault,
};

/// An event dated further than this after its record counts as dated ahead: clocks that are kept
/// differ by less.
const AHEAD_MICROS: i64 = 1_000_000;

/// The label of a remedy.
pub fn word(remedy: &Remedy) -> &'static str {
    match remedy {
        Remedy::Repeat { .. } => "repeat",
        Remedy::Distrust => "distrust",
        Remedy::DeadLetter { .. } => "dead_letter",
        Remedy::Reclaim => "reclaim",
        Remedy::Stop => "stop",
    }
}

/// Counts a committed flush.
pub fn count(
    metrics: &WriterMetrics,
    flush: &Flush,
    settlement: &Settlement,
    cleaned: &CleanedCounts,
    took: Duration,
    now: DateTime<Utc>,
) {
    if settlement.deltas.is_empty() && !flush.fenced.is_empty() {
        metrics.flush(FlushOutcome::Fenced);
        return;
    }
    metrics.flush(FlushOutcome::Committed);
    metrics.commit_seconds.observe(took.as_secs_f64());
    metrics
        .rows
        .with_label_values(&["copy"])
        .inc_by(settlement.copied as u64);
    metrics
        .rows
        .with_label_values(&["insert"])
        .inc_by(settlement.suspects as u64);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a flush holds far fewer than 2^52 rows"
    )]
    metrics.flush_rows.observe(flush.batch.rows.len() as f64);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a flush holds far less than 2^52 bytes"
    )]
    metrics.flush_bytes.observe(flush.batch.bytes() as f64);
    if !settlement.distrusted.is_empty() {
        metrics.misjudged.inc();
    }
    for letter in &flush.batch.dead_letters {
        metrics.rejected(letter.reason);
    }
    metrics.cleaned(cleaned);
    if !metrics.is_read() {
        return;
    }
    let received = metrics.latency.with_label_values(&["received"]).local();
    let event = metrics.latency.with_label_values(&["event"]).local();
    let now = now.timestamp_micros();
    let mut ahead = 0;
    for row in &flush.batch.rows {
        ahead += u64::from(row.event_ts.micros() - row.received_at.micros() > AHEAD_MICROS);
        received.observe(seconds(now - row.received_at.micros()));
        event.observe(seconds(now - row.event_ts.micros()));
    }
    metrics.future(Skew::Tolerated, ahead);
}

/// What was cleaned in the events of a flush.
pub fn cleaned(flush: &Flush) -> CleanedCounts {
    flush.batch.cleaned()
}

/// Properties of the events of a flush that limits left out.
pub fn trimmed(flush: &Flush) -> u64 {
    let rows = flush.batch.rows.iter();
    rows.map(|row| u64::from(row.trimmed)).sum()
}

/// Counts the heartbeats of a committed flush.
pub fn beats(metrics: &HeartbeatMetrics, flush: &Flush, now: DateTime<Utc>) {
    let spans = flush.batch.spans.values();
    for sent in spans.flat_map(|span| &span.heartbeats) {
        let took = seconds(now.timestamp_micros() - sent.micros());
        metrics.latency.observe(took);
    }
}

/// The class of a failure of the sink.
pub fn class(fault: &SinkFault) -> ErrorClass {
    match fault {
        SinkFault::Postgres(error) => retry::class_of(error),
        SinkFault::Deadline(_) => ErrorClass::Timeout,
        SinkFault::NotAdvanced { .. } => ErrorClass::Other,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "differences of times are exact in 53 bits of microseconds"
)]
fn seconds(micros: i64) -> f64 {
    micros.max(0) as f64 / 1e6
}
