//! Click events into Kafka: from a seeded generator, from a web server's access log, or from JSON lines.

pub mod event_json;
pub mod generator;
pub mod record;
pub mod replay;
