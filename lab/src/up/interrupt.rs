//! Ctrl-C and SIGTERM, counted.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Waits for signals to end. Each clone sees every signal that comes after its last
/// [`Interrupts::next`].
#[derive(Clone)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// From now on signals are counted and end nothing by themselves.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> anyhow::Result<Self> {
        let (count, receiver) = watch::channel(0_u32);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    /// Completes with the next signal.
    pub async fn next(&mut self) {
        // the sender lives as long as the runtime
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
