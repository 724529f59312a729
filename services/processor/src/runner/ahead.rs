//! Working ahead: while one flush is being committed, the next one is taken as soon as it is full,
//! and its COPY stream is encoded on another thread. Encoding is a tenth of a flush's time, and the
//! server would stand idle meanwhile.

use std::pin::pin;

use clickstream_pipeline::engine::Flush;
use tokio::task::JoinHandle;

use crate::{shared::Shared, sink::Prepared};

/// The next flush, on its way.
pub type Ahead = JoinHandle<(Flush, Prepared)>;

/// Waits until the growing batch is full, takes it, and starts to encode it. Dropped before, it
/// takes nothing.
pub async fn work_ahead(shared: &Shared) -> Ahead {
    loop {
        let flush = shared.with(|state| {
            // while the reader drains it waits for less, not for more
            if state.draining || !state.is_full(shared.limits()) {
                return None;
            }
            let flush = state.engine.take_flush(false)?;
            state.in_flight.extend(flush.claims.keys().copied());
            Some(flush)
        });
        if let Some(flush) = flush {
            shared.notify_reader();
            return tokio::task::spawn_blocking(move || {
                let mut flush = flush;
                let prepared = Prepared::of(&mut flush);
                (flush, prepared)
            });
        }
        shared.full().await;
    }
}

/// Settles a flush and works ahead meanwhile; what was begun ahead outlives the settlement.
pub async fn while_ahead<T>(
    settled: impl Future<Output = T>,
    shared: &Shared,
    wanted: bool,
) -> (T, Option<Ahead>) {
    let mut settled = pin!(settled);
    let mut working = pin!(work_ahead(shared));
    let mut ahead = None;
    loop {
        tokio::select! {
            biased;
            done = &mut settled => return (done, ahead),
            begun = &mut working, if wanted && ahead.is_none() => ahead = Some(begun),
        }
    }
}
