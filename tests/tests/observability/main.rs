//! What people watch: dashboards, alerts and runbooks, tried on real servers with real traffic
//! behind them.
//!
//! Grafana itself is not run: its dashboards are read with its own types, and every expression of
//! every panel is executed.

mod alerts;
mod dashboards;
mod operator;
mod panels;
mod pipeline_alerts;
mod rules;
mod scene;

#[path = "../operator_api/pods.rs"]
mod pods;

#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use all of it"
)]
#[path = "../end_to_end/records.rs"]
mod records;
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
