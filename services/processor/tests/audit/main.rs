//! The audit against real servers: clean where a processor has worked, and every tampering is
//! named.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bounded;
mod clicks;
mod columns;
mod cut;
mod distinct;
mod pipeline;
mod resent;
mod roles;
mod scenarios;
mod speed;
mod tampering;
mod unread;
