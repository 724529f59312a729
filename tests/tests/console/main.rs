//! The console in a real browser, beside real Kafka, PostgreSQL, processors and producers.

mod access;
mod explained;
#[path = "../end_to_end/load.rs"]
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
mod load;
mod looks;
mod numbers;
mod outages;
#[path = "../end_to_end/records.rs"]
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
mod records;
#[path = "../end_to_end/stack.rs"]
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
mod stack;
mod stage;
mod strangers;
