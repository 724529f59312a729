//! The pure core of the pipeline: everything that decides, and nothing that waits. No clock, no
//! thread, no I/O.
//!
//! ```text
//!  Kafka record ─▶ decode ─▶ window, watermark, lateness ─▶ filter ─▶ batch      engine::Engine::record
//!                                                                      │
//!                 begin ─ fence ─ rows ─ ledgers ─ hits ─ advance ─ commit         commit::settle
//!                          │       │                │        │
//!                       offset   settle::Plan   settle::Aggregates  checkpoint
//! ```
//! What a record becomes depends on the log and on the spec alone. Only one question is left to the
//! database: whether an event with the same id and day is already stored.

pub mod acquisition;
pub mod admission;
pub mod batch;
pub mod bots;
pub mod checkpoint;
pub mod commit;
pub mod decode;
pub mod derived;
pub mod engine;
pub mod event;
pub mod filter;
pub mod offset;
pub mod ownership;
pub mod page;
pub mod settle;
pub mod sketch;
pub mod spec;
pub mod watermark;
pub mod window;
