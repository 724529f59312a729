//! The whole data path with real processes: producer, Kafka, processors, PostgreSQL, and after every test the audit.

mod bad_input;
mod certificates;
mod commands;
mod crash_points;
mod days;
mod duplicates;
mod handover;
mod heartbeat;
mod kafka_faults;
mod kills;
mod late;
mod load;
mod malformed;
mod metrics;
mod pooling;
mod postgres_faults;
mod progress;
mod records;
mod skipped;
mod smoke;
mod stack;
mod tls;
mod tracing;
mod upgrade;
mod watch;
mod zombies;
