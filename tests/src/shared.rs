//! One Kafka, one PostgreSQL and one Kubernetes API for all tests of a process, started by the
//! first test that asks.
//!
//! Tests keep out of each other's way by names of their own ([`crate::unique_name`]); a test that
//! breaks a server starts one for itself.

use tokio::sync::OnceCell;

#[cfg(feature = "kubernetes")]
use crate::KubeApi;
use crate::{Kafka, KafkaOptions, Postgres, PostgresOptions, PostgresVersion};

/// The shared Kafka: one broker.
///
/// # Errors
/// As [`Kafka::start`].
pub async fn kafka() -> anyhow::Result<&'static Kafka> {
    static KAFKA: OnceCell<Kafka> = OnceCell::const_new();
    KAFKA
        .get_or_try_init(|| Kafka::start(KafkaOptions::default()))
        .await
}

/// The shared PostgreSQL of this version.
///
/// # Errors
/// As [`Postgres::start`].
pub async fn postgres(version: PostgresVersion) -> anyhow::Result<&'static Postgres> {
    static V15: OnceCell<Postgres> = OnceCell::const_new();
    static V18: OnceCell<Postgres> = OnceCell::const_new();
    let server = match version {
        PostgresVersion::V15 => &V15,
        PostgresVersion::V18 => &V18,
    };
    server
        .get_or_try_init(|| {
            Postgres::start(PostgresOptions {
                version,
                ..PostgresOptions::default()
            })
        })
        .await
}

/// The shared Kubernetes API; a test's own part of it is a namespace.
///
/// # Errors
/// As [`KubeApi::start`].
#[cfg(feature = "kubernetes")]
pub async fn kube_api() -> anyhow::Result<&'static KubeApi> {
    static KUBE_API: OnceCell<KubeApi> = OnceCell::const_new();
    KUBE_API.get_or_try_init(KubeApi::start).await
}
