//! The operator and its resource on a real API server.

mod crd_validation;
mod plugin;
mod reconcile;
mod stage;
mod topics;
