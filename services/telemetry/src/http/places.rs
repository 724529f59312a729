//! The places of a server: a connection takes one, and while all are taken the client that keeps
//! the server waiting longest makes room.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How soon it is looked again whether somebody can make room, while all are being answered.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// As many as there may be connections.
pub(super) struct Places {
    free: Arc<Semaphore>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    next: u64,
    states: HashMap<u64, Arc<State>>,
}

/// What is known of who holds a place.
struct State {
    /// Since when the server waits for this client; `None` while it works for it.
    waiting: Mutex<Option<Instant>>,
    /// The place is wanted for somebody else.
    wanted: Notify,
}

/// One of the places, given back when it is dropped.
pub(super) struct Place {
    number: u64,
    state: Arc<State>,
    held: Arc<Mutex<Held>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(number: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(number)),
            held: Arc::default(),
        }
    }

    /// A place for somebody who has come: a free one, or that of the client that has been waited
    /// for longest. Who is being answered keeps its own.
    pub(super) async fn take(&self) -> Place {
        loop {
            let free = Arc::clone(&self.free);
            if let Ok(permit) = Arc::clone(&free).try_acquire_owned() {
                return self.taken(permit);
            }
            self.make_room();
            if let Ok(permit) = tokio::time::timeout(LOOK_AGAIN, free.acquire_owned()).await {
                return self.taken(permit.expect("the semaphore is never closed"));
            }
        }
    }

    fn taken(&self, permit: OwnedSemaphorePermit) -> Place {
        let state = Arc::new(State {
            waiting: Mutex::new(Some(Instant::now())),
            wanted: Notify::new(),
        });
        let mut held = self.held.lock();
        let number = held.next;
        held.next += 1;
        held.states.insert(number, Arc::clone(&state));
        Place {
            number,
            state,
            held: Arc::clone(&self.held),
            _permit: permit,
        }
    }

    fn make_room(&self) {
        let held = self.held.lock();
        let waiting = held.states.values().filter_map(|state| {
            let since = (*state.waiting.lock())?;
            Some((since, state))
        });
        if let Some((_, state)) = waiting.min_by_key(|(since, _)| *since) {
            state.wanted.notify_one();
        }
    }
}

impl Place {
    /// Ends when the place is wanted for somebody else while its client is waited for.
    pub(super) async fn is_wanted(&self) {
        loop {
            self.state.wanted.notified().await;
            if self.state.waiting.lock().is_some() {
                return;
            }
        }
    }

    /// The client has asked something. What this gives is to be kept until the answer is on its
    /// way.
    pub(super) fn answers(&self) -> Answering {
        *self.state.waiting.lock() = None;
        Answering(Arc::clone(&self.state))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.lock().states.remove(&self.number);
    }
}

/// The server works for a client. Once this is dropped, it waits for the client again: to read what
/// was sent, or to ask on.
pub(super) struct Answering(Arc<State>);

impl Drop for Answering {
    fn drop(&mut self) {
        *self.0.waiting.lock() = Some(Instant::now());
    }
}

/// The body of an answer.
pub(super) struct Answered {
    body: axum::body::Body,
    _answering: Answering,
}

impl Answered {
    pub(super) const fn new(body: axum::body::Body, answering: Answering) -> Self {
        Self {
            body,
            _answering: answering,
        }
    }
}

impl Body for Answered {
    type Data = <axum::body::Body as Body>::Data;
    type Error = <axum::body::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
