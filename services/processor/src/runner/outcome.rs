//! What a commit adds to the metrics.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clickstream_pipeline::{
    commit::{Remedy, Settlement},
    engine::Flush,
};

use crate::metrics::WriterMetrics;

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
    took: Duration,
    now: DateTime<Utc>,
) {
    metrics.flushes.with_label_values(&["committed"]).inc();
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
    for letter in &flush.batch.dead_letters {
        metrics.rejected(letter.reason.as_str());
    }
    let received = metrics.latency.with_label_values(&["received"]).local();
    let event = metrics.latency.with_label_values(&["event"]).local();
    let now = now.timestamp_micros();
    for row in &flush.batch.rows {
        received.observe(seconds(now - row.received_at.micros()));
        event.observe(seconds(now - row.event_ts.micros()));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "differences of times are exact in 53 bits of microseconds"
)]
fn seconds(micros: i64) -> f64 {
    micros.max(0) as f64 / 1e6
}
