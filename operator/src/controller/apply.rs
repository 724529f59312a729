//! Children into the API: tables, topics, processors and producer, each of them when it may be
//! there.

mod held;
mod kafka;
pub mod migration;
pub mod targets;
pub mod topics;
