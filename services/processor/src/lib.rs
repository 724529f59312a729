//! Takes click events from Kafka into PostgreSQL, exactly once.
//!
//! ```text
//!   kafka::source (its own thread)          runner (tokio)                         sink
//!   poll ─▶ pipeline::Engine ──── Shared ───▶ take_flush ─▶ pipeline::commit::settle ─▶ one transaction
//!     ▲        rebalance: claim, drain ◀────── claims, commands ◀──────────────────── outcome
//! ```

pub mod failpoints;
pub mod migrate;
pub mod retry;
pub mod sink;
