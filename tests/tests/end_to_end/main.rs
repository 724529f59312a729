//! The whole data path with real processes: producer, Kafka, processors, PostgreSQL, and after every test the audit.

mod crash_points;
mod handover;
mod kills;
mod load;
mod postgres_faults;
mod progress;
mod smoke;
mod stack;
mod zombies;
