//! Kafka as the source: one consumer on its own thread.

mod config;
mod context;
mod identity;
mod source;

pub use config::{ConsumerSettings, describe};
pub use source::{Source, SourceFault};
