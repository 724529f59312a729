//! One line a second for whoever watches.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::metrics::Metrics;

const INTERVAL: Duration = Duration::from_secs(1);

/// Writes a line to standard error once a second: over the last one on a terminal, below it
/// elsewhere.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    terminal: bool,
    last: Instant,
    last_acknowledged: u64,
    dirty: bool,
}

impl Progress {
    /// Shown on a terminal, and elsewhere only when `wanted`.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            shown: wanted || terminal,
            terminal,
            last: Instant::now(),
            last_acknowledged: 0,
            dirty: false,
        }
    }

    /// Brings the gauges up to date and writes a line when a second has passed.
    pub fn tick(&mut self, metrics: &Metrics, lag: Duration) {
        let passed = self.last.elapsed();
        if passed < INTERVAL {
            return;
        }
        metrics
            .unacknowledged
            .set(i64::try_from(metrics.open()).unwrap_or(i64::MAX));
        let acknowledged = metrics.acknowledged.get();
        let rate = (acknowledged - self.last_acknowledged) as f64 / passed.as_secs_f64();
        self.last = Instant::now();
        self.last_acknowledged = acknowledged;
        if self.shown {
            let (begin, end) = if self.terminal {
                ("\r\x1b[K", "")
            } else {
                ("", "\n")
            };
            let sent = metrics.sent();
            let lag = lag.as_millis();
            let line = format!(
                "{begin}sent {sent}, acknowledged {acknowledged}, {rate:.0} records/s, schedule lag {lag} ms{end}"
            );
            // nobody left to read it is no reason to stop sending
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
            self.dirty = self.terminal;
        }
    }

    /// Leaves the line as it stands.
    pub fn finish(&mut self) {
        if std::mem::take(&mut self.dirty) {
            let _ = std::io::stderr().lock().write_all(b"\n");
        }
    }
}
