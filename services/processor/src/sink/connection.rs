//! Connecting to PostgreSQL: a pinned search_path, and a deadline for servers that fall silent.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clickstream_pipeline::spec::PostgresSettings;
use clickstream_postgres::{Access, DialError, TlsError, dial};
use thiserror::Error;
use tokio_postgres::Client;

use crate::retry;

/// How long it may take to have a session: a server that hangs, or whose network swallows
/// everything, accepts the connection and says nothing.
const SESSION_DEADLINE: Duration = Duration::from_secs(10);

/// What a role or a database may have set otherwise, and what statements here take for granted: the
/// protocol of a flush is one for READ COMMITTED, times are read and written as ISO, each step has
/// a time-out of its own. `synchronous_commit` is left as it is where it is safer than `on`.
const SETTINGS: &str = "\
    set timezone = 'UTC'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set bytea_output = 'hex'; \
    set extra_float_digits = 1; set default_transaction_isolation = 'read committed'; \
    set default_transaction_read_only = off; set default_transaction_deferrable = off; \
    set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'";

/// A session with the server.
pub struct Connection {
    /// The client; closed when the session ends.
    pub client: Client,
    /// Process id of the session's backend.
    pub backend_pid: i32,
    /// When that backend started; process ids are used again.
    pub backend_start: DateTime<Utc>,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The certificate material cannot be used.
    #[error("TLS to PostgreSQL: {0}")]
    Tls(#[from] TlsError),
    /// The server refused or did not answer.
    #[error("PostgreSQL at {host}:{port}, database {database}, user {user}: {}", retry::explain(.source))]
    Refused {
        /// Server.
        host: String,
        /// Port.
        port: u16,
        /// Database.
        database: String,
        /// Role.
        user: String,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It took the connection and said nothing more.
    #[error("PostgreSQL at {host}:{port} accepted the connection but did not open a session within {} s", SESSION_DEADLINE.as_secs())]
    Silent {
        /// Server.
        host: String,
        /// Port.
        port: u16,
    },
    /// A proxy hands the server's sessions out transaction by transaction.
    #[error(
        "PostgreSQL at {host}:{port} is behind a proxy that pools by transaction: claims and locks belong to a session, so \
         connect to the server itself, or let the proxy pool by session (PgBouncer: pool_mode = session)"
    )]
    Pooled {
        /// The proxy.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Names are stored as UTF-8 and nothing else.
    #[error("database {database} has encoding {encoding}; create it with encoding UTF8")]
    NotUtf8 {
        /// Database.
        database: String,
        /// Its encoding.
        encoding: String,
    },
}

impl ConnectError {
    /// Whether trying again later may help.
    pub fn may_come_back(&self) -> bool {
        match self {
            Self::Refused { source, .. } => retry::may_come_back(source),
            Self::Silent { .. } => true,
            Self::Tls(_) | Self::Pooled { .. } | Self::NotUtf8 { .. } => false,
        }
    }
}

/// Opens a session. `schema` becomes the search_path (before `pg_catalog`, with `pg_temp` last, so
/// that nothing of a temporary schema can shadow a table).
///
/// # Errors
/// [`ConnectError`], which names the server, the database and the role.
pub async fn connect(
    settings: &PostgresSettings,
    schema: &str,
    application: &str,
) -> Result<Connection, ConnectError> {
    let silent = |_| ConnectError::Silent {
        host: settings.host.clone(),
        port: settings.port,
    };
    tokio::time::timeout(
        SESSION_DEADLINE,
        open_session(settings, schema, application),
    )
    .await
    .map_err(silent)?
}

async fn open_session(
    settings: &PostgresSettings,
    schema: &str,
    application: &str,
) -> Result<Connection, ConnectError> {
    let refused = |source| ConnectError::Refused {
        host: settings.host.clone(),
        port: settings.port,
        database: settings.database.clone(),
        user: settings.user.clone(),
        source,
    };
    let client = dial(settings, application, Access::ReadWrite)
        .await
        .map_err(|error| match error {
            DialError::Tls(error) => ConnectError::Tls(error),
            DialError::Refused(source) => refused(source),
        })?;
    // not as options of the start-up packet, which PgBouncer refuses even where it pools by session
    client
        .batch_execute(&format!(
            "set search_path = \"{schema}\", pg_catalog, pg_temp; {SETTINGS}"
        ))
        .await
        .map_err(refused)?;
    let row = client
        .query_one(
            "select pg_backend_pid(), (select backend_start from pg_stat_activity where pid = pg_backend_pid()), \
             current_setting('server_encoding')",
            &[],
        )
        .await
        .map_err(refused)?;
    let encoding: String = row.get(2);
    if encoding != "UTF8" {
        return Err(ConnectError::NotUtf8 {
            database: settings.database.clone(),
            encoding,
        });
    }
    Ok(Connection {
        client,
        backend_pid: row.get(0),
        backend_start: row.get(1),
    })
}

/// The application_name of a processor's session; claims end sessions by it.
pub fn application(owner: &str) -> String {
    // PostgreSQL keeps 63 bytes of it
    format!("clickstream-processor {owner}")
        .chars()
        .filter(char::is_ascii)
        .take(63)
        .collect()
}
