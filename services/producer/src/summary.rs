//! The account of a run: what was sent and what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::metrics::Metrics;
use crate::record::RecordKind;
use crate::replay::account::Reason;

/// The account of a run. `sent = acknowledged + failed` at its end, and for logs
/// `lines = events + unparsable + skipped`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Records handed to the Kafka client, plus those it refused for good.
    pub sent: u64,
    /// Records acknowledged by all in-sync replicas.
    pub acknowledged: u64,
    /// Records that are not in the log, as far as the producer can know.
    pub failed: u64,
    /// Records sent, by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Lines read, of which...
    pub lines: u64,
    /// ...were broken,
    pub unparsable: u64,
    /// ...and were no clicks.
    pub skipped: u64,
    /// What became of lines that are no events, with the first three of each reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Inputs of which less than half was understood, what they look like and which option to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_understood: Option<String>,
    /// Events of which nothing tells users apart, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Inputs with the same lines, and what was sent of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<String>,
    /// How far sending fell behind the schedule at worst, in milliseconds.
    pub max_schedule_lag_ms: u64,
    /// From the first record to the last acknowledgement, in milliseconds.
    pub elapsed_ms: u64,
    /// Acknowledged records a second over that time.
    pub rate: f64,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// What ended the run early, or why records failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Summary {
    /// The account so far.
    #[must_use]
    pub fn take(metrics: &Metrics, max_schedule_lag: Duration, elapsed: Duration) -> Self {
        let acknowledged = metrics.acknowledged.get();
        let (unparsable, skipped) = (metrics.lines_unparsable.get(), metrics.lines_skipped.get());
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 {
            acknowledged as f64 / seconds
        } else {
            0.0
        };
        Self {
            sent: metrics.sent(),
            acknowledged,
            failed: metrics.failed.get(),
            kinds: RecordKind::NAMES
                .into_iter()
                .zip(metrics.sent.iter().map(prometheus::IntCounter::get))
                .collect(),
            bytes: metrics.sent_bytes.get(),
            lines: metrics.lines_replayed.get() + unparsable + skipped,
            unparsable,
            skipped,
            reasons: Vec::new(),
            not_understood: None,
            note: None,
            copies: None,
            max_schedule_lag_ms: millis(max_schedule_lag),
            elapsed_ms: millis(elapsed),
            rate: (rate * 10.0).round() / 10.0,
            interrupted: false,
            error: None,
        }
    }

    /// Whether everything that was sent is in the log, everything that was to be sent was, and
    /// every input was understood.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0
            && self.acknowledged == self.sent
            && self.error.is_none()
            && self.not_understood.is_none()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {}, acknowledged {}, failed {}",
            self.sent, self.acknowledged, self.failed
        )?;
        if self.lines > 0 {
            write!(
                f,
                ", lines {}, events {}, unparsable {}, skipped {}",
                self.lines,
                self.lines - self.unparsable - self.skipped,
                self.unparsable,
                self.skipped
            )?;
        }
        write!(
            f,
            ", {} records/s, schedule lag at most {} ms",
            self.rate, self.max_schedule_lag_ms
        )?;
        if self.interrupted {
            write!(f, ", interrupted")?;
        }
        for reason in &self.reasons {
            write!(f, "\n  {reason}")?;
        }
        for note in self.note.iter().chain(&self.copies) {
            write!(f, "\n  {note}")?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
