//! The whole data path with real processes: producer, Kafka, processors, PostgreSQL, and after every test the audit.

mod smoke;
mod stack;
