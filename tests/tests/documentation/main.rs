//! What the documentation says, tried: statements are run, files opened, and every command is
//! either run somewhere or has a reason.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

mod backup;
mod commands;
mod kubernetes;
mod links;
mod markdown;
mod messages;
mod pipeline;
mod power_bi;
mod recipes;
mod settings;
mod up;
