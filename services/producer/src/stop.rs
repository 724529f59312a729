//! Waiting that a signal can cut short.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Held by whoever may end the run; the run is over once it is dropped.
#[derive(Debug)]
pub struct StopHandle(
    #[expect(dead_code, reason = "its drop is the message")] SyncSender<Infallible>,
);

/// Tells a thread that it should come to an end, even while it waits.
#[derive(Debug)]
pub struct Stop(Receiver<Infallible>);

impl Stop {
    /// A pair that belongs together.
    #[must_use]
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = sync_channel(0);
        (StopHandle(sender), Self(receiver))
    }

    /// Whether the end has been asked for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits for this long; `false` when the end was asked for instead.
    #[must_use]
    pub fn wait(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Stop;

    #[test]
    fn a_wait_ends_by_itself_or_by_the_handles_drop() {
        let (handle, stop) = Stop::new();
        assert!(!stop.is_stopped());
        assert!(stop.wait(Duration::from_millis(1)));
        drop(handle);
        let before = Instant::now();
        assert!(!stop.wait(Duration::from_secs(60)));
        assert!(before.elapsed() < Duration::from_secs(30));
        assert!(stop.is_stopped());
    }
}
