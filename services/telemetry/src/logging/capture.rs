//! Log lines as tests see them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt as _;

use super::{LogFormat, parse_filter};

/// Bytes that were written instead of going to stderr.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub fn writer(&self) -> impl Fn() -> Self + Send + Sync + use<> {
        let captured = self.clone();
        move || captured.clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `emit` logs on this thread.
pub fn lines(emit: impl FnOnce()) -> String {
    let captured = Captured::default();
    let filter = parse_filter("default filter", "info").unwrap();
    let layer = super::lines(LogFormat::Pretty, filter, false, false, captured.writer());
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, emit);
    captured.text()
}
