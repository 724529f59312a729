//! Kafka as the source: one consumer on its own thread.

mod asker;
mod config;
mod context;
mod identity;
mod intake;
mod retention;
mod source;
mod statistics;
mod watch;

pub use config::{ConsumerSettings, describe};
pub use identity::Identity;
pub use retention::watch_retention;
pub use source::{Source, SourceFault};
