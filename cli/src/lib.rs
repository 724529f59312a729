//! `kubectl clickstream`: looks after `ClickstreamPipeline` resources from a terminal.
//!
//! ```text
//! init ──> a file ──> validate ──> kubectl apply ──> status ──> pause, resume, audit
//! ```
//!
//! `init`, `validate`, `completion` and `version` ask no cluster. `status` reads the resource and its Events and nothing else,
//! `pause` and `resume` write one field, and `audit` runs as a Job, with what the processors may do.

pub mod args;
pub mod complete;

mod access;
mod audit;
mod init;
mod paint;
mod status;
mod suspend;
mod validate;
