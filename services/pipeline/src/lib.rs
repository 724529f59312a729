//! Placeholder of the crate's documentation.

pub mod decode;
pub mod event;
pub mod spec;
