//! How far the audit is, on standard error.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// Counts records and shows them once in a while, until it is dropped.
pub struct Progress {
    read: Arc<AtomicU64>,
    shown: Option<AbortHandle>,
    line: bool,
}

impl Progress {
    /// Shows progress towards `total` records: one changing line on a terminal, a line every five
    /// seconds elsewhere.
    pub fn show(total: u64) -> Self {
        let read = Arc::new(AtomicU64::new(0));
        let line = std::io::stderr().is_terminal();
        let every = if line {
            Duration::from_millis(500)
        } else {
            Duration::from_secs(5)
        };
        let counter = Arc::clone(&read);
        let task = tokio::spawn(async move {
            let begun = Instant::now();
            let mut ticks = tokio::time::interval(every);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let read = counter.load(Ordering::Relaxed);
                let rate = u128::from(read) * 1_000 / begun.elapsed().as_millis().max(1);
                let percent = (read * 100).checked_div(total).unwrap_or(100).min(100);
                let text = format!("audit: {read} of {total} offsets, {percent} %, {rate}/s");
                let mut out = std::io::stderr().lock();
                // a closed standard error is no reason to stop
                let _ = if line {
                    write!(out, "\r{text}\x1b[K")
                } else {
                    writeln!(out, "{text}")
                };
            }
        });
        Self {
            read,
            shown: Some(task.abort_handle()),
            line,
        }
    }

    /// Counts records without showing them.
    pub fn silent() -> Self {
        Self {
            read: Arc::default(),
            shown: None,
            line: false,
        }
    }

    /// Counts records.
    pub fn add(&self, records: u64) {
        self.read.fetch_add(records, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = self.shown.take() {
            task.abort();
            if self.line {
                let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
            }
        }
    }
}
