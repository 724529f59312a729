//! The operator and its resource on a real API server.

mod api_proxy;
mod crd_validation;
mod faults;
mod first_release;
mod incidents;
mod lifecycle;
mod loss;
mod metrics;
mod names;
mod network;
mod plugin;
mod pod_monitor;
mod pods;
mod processor;
mod readers;
mod reconcile;
mod restricted;
mod snapshot;
mod stage;
mod sweeps;
mod tenancy;
mod topics;
mod tracing;
mod uncreated;
mod unknowns;
