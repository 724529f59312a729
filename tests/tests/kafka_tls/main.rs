//! TLS and SASL to Kafka, for all three programs.

mod operator;
mod secured_kafka;
mod services;

use std::path::PathBuf;

use clickstream_testbed::build_binary;

#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
#[path = "../end_to_end/commands.rs"]
mod commands;
#[allow(
    dead_code,
    reason = "shared with the operator's tests, which use all of it"
)]
#[path = "../operator_api/rights.rs"]
mod rights;
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
#[path = "../end_to_end/stack.rs"]
mod stack;
#[allow(
    dead_code,
    reason = "shared with the operator's tests, which use all of it"
)]
#[path = "../operator_api/stage.rs"]
mod stage;
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
#[path = "../end_to_end/watch.rs"]
mod watch;

/// A program of ours.
async fn program(name: &'static str) -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(move || build_binary(name)).await?
}
