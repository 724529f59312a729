//! Kafka and PostgreSQL: started here, or somebody else's.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use clickstream_testbed::{Kafka, KafkaOptions, Postgres, PostgresOptions};

use xtask::args::UpArgs;
use xtask::steps::Steps;

/// The database that is created on a PostgreSQL of our own.
const DATABASE: &str = "analytics";

/// Starts Kafka unless one was named. On its usual port where that is free, so that other tools
/// find it.
///
/// # Errors
/// It does not start.
pub async fn kafka(
    args: &UpArgs,
    steps: &Steps,
    kept: Option<&Path>,
) -> anyhow::Result<Option<Kafka>> {
    if args.kafka.is_some() {
        return Ok(None);
    }
    let options = KafkaOptions {
        data_dir: kept.map(|dir| dir.join("kafka")),
        port: free(9092),
        ..KafkaOptions::default()
    };
    let step = steps.begin("Kafka");
    let kafka = step
        .during(Kafka::start(options), Kafka::bootstrap_servers)
        .await?;
    Ok(Some(kafka))
}

/// Starts PostgreSQL unless one was named, with fsync on.
///
/// # Errors
/// It does not start.
pub async fn postgres(
    args: &UpArgs,
    steps: &Steps,
    kept: Option<&Path>,
) -> anyhow::Result<Option<Postgres>> {
    if args.postgres.is_some() {
        return Ok(None);
    }
    let options = PostgresOptions {
        data_dir: kept.map(|dir| dir.join("postgres")),
        port: free(5432),
        fsync: true,
        settings: vec![("shared_buffers".to_owned(), "256MB".to_owned())],
        ..PostgresOptions::default()
    };
    let step = steps.begin("PostgreSQL");
    let start = async {
        let postgres = Postgres::start(options).await?;
        let known = postgres
            .connect("postgres")
            .await?
            .query_opt("select from pg_database where datname = $1", &[&DATABASE])
            .await?;
        if known.is_none() {
            postgres.create_database(DATABASE).await?;
        }
        Ok(postgres)
    };
    let postgres = step
        .during(start, |postgres| postgres.url(DATABASE))
        .await?;
    Ok(Some(postgres))
}

/// Address of the database.
#[must_use]
pub fn postgres_url(args: &UpArgs, own: Option<&Postgres>) -> Option<String> {
    args.postgres
        .clone()
        .or_else(|| own.map(|postgres| postgres.url(DATABASE)))
}

/// The folder of servers that keep their data. PostgreSQL, which does not run as root, must be able
/// to reach it.
#[must_use]
pub fn kept_dir(target: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let searchable = |dir: &Path| {
        std::fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    if target
        .ancestors()
        .filter(|dir| dir.exists())
        .all(searchable)
    {
        target.join("up/kept")
    } else {
        std::env::temp_dir().join("clickstream-up-kept")
    }
}

/// The port of loopback, if nobody listens there.
pub fn free(port: u16) -> Option<u16> {
    TcpListener::bind(("127.0.0.1", port))
        .is_ok()
        .then_some(port)
}
