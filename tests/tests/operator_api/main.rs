//! The operator and its resource on a real API server.

mod crd_validation;
mod reconcile;
mod stage;
mod topics;
