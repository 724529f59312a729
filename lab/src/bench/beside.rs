//! What goes on beside a benchmark, on a thread of its own, so that nothing else delays the moments
//! it takes.

use std::{future::Future, thread::JoinHandle};

use tokio::sync::oneshot;

/// Work that goes on until it is told to stop.
pub struct Beside<T> {
    thread: JoinHandle<anyhow::Result<T>>,
    stop: oneshot::Sender<()>,
}

impl<T: Send + 'static> Beside<T> {
    /// Begins the work, which is given what tells it to stop.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start<F>(work: impl FnOnce(oneshot::Receiver<()>) -> F) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let work = work(stopped);
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(work)
            })?;
        Ok(Self { thread, stop })
    }

    /// Stops it; what has come of it.
    ///
    /// # Errors
    /// What made it end before.
    pub async fn end(self) -> anyhow::Result<T> {
        self.stop.send(()).ok();
        tokio::task::spawn_blocking(move || self.thread.join())
            .await?
            .map_err(|_| anyhow::anyhow!("the watching thread panicked"))?
    }
}
