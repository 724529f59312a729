//! Kafka as the source: one consumer on its own thread.

mod config;
mod context;
mod identity;
mod retention;
mod source;
mod statistics;

pub use config::{ConsumerSettings, describe};
pub use retention::watch_retention;
pub use source::{Source, SourceFault};
