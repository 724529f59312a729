//! Whether both sides of the process still work. What a process that hangs cannot tell of itself,
//! `/livez` can.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::failpoints::tuned;

/// The reader's longest legitimate wait is that of a rebalance for the last flush: half the session
/// time-out, and some seconds for claims.
const READER: Duration = Duration::from_secs(30);
/// The writer's is a flush: every step of it has 90 s.
const WRITER: Duration = Duration::from_secs(600);

/// When each side was last seen to work.
pub struct Progress {
    began: Instant,
    reader: AtomicU64,
    writer: AtomicU64,
}

impl Progress {
    /// Both work now.
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            reader: AtomicU64::new(0),
            writer: AtomicU64::new(0),
        }
    }

    /// The reader works.
    pub fn reader(&self) {
        self.stamp(&self.reader);
    }

    /// The writer works.
    pub fn writer(&self) {
        self.stamp(&self.writer);
    }

    fn stamp(&self, side: &AtomicU64) {
        let millis = self.began.elapsed().as_millis();
        side.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Which side has not worked for longer than anything it does may take, and for how long.
    pub fn stalled(&self) -> Option<(&'static str, Duration)> {
        let now = self.began.elapsed();
        let silent = |side: &AtomicU64| {
            now.saturating_sub(Duration::from_millis(side.load(Ordering::Relaxed)))
        };
        let sides = [
            (
                "reading thread",
                silent(&self.reader),
                tuned("CLICKSTREAM_TEST_READER_STALLS_MS", READER),
            ),
            (
                "writing task",
                silent(&self.writer),
                tuned("CLICKSTREAM_TEST_WRITER_STALLS_MS", WRITER),
            ),
        ];
        sides
            .into_iter()
            .find(|(_, silent, most)| silent > most)
            .map(|(side, silent, _)| (side, silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_that_does_nothing_for_too_long_is_named() {
        let long_ago = Instant::now().checked_sub(WRITER + Duration::from_secs(1));
        let Some(began) = long_ago else {
            return;
        };
        let progress = Progress::new(began);
        assert_eq!(
            progress.stalled().map(|(side, _)| side),
            Some("reading thread")
        );
        progress.reader();
        assert_eq!(
            progress.stalled().map(|(side, _)| side),
            Some("writing task")
        );
        progress.writer();
        assert_eq!(progress.stalled(), None);
    }
}
