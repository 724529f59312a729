//! The operator and its resource on a real API server.

mod api_proxy;
mod crd_validation;
mod faults;
#[cfg(feature = "tls")]
mod kafka_tls;
mod lifecycle;
mod metrics;
mod names;
mod plugin;
mod reconcile;
mod snapshot;
mod stage;
mod sweeps;
mod tenancy;
mod topics;
mod tracing;

#[cfg(feature = "tls")]
#[path = "../end_to_end/certificates.rs"]
mod certificates;
#[cfg(feature = "tls")]
#[path = "../end_to_end/secured_kafka.rs"]
mod secured_kafka;
