//! Opens sessions with PostgreSQL, alike for every service: time-outs that notice half-open
//! connections, and TLS with rustls. Says what a server answered without the values of rows.

mod explain;
mod tls;

use std::{future::poll_fn, time::Duration};

use clickstream_pipeline::spec::{PostgresSettings, SslMode};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls,
    config::TargetSessionAttrs,
    error::{DbError, Severity},
};
use tracing::{debug, warn};

pub use explain::{explain, explain_chain};
pub use tls::TlsError;

/// How long a TCP connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without an acknowledgement of sent bytes the kernel gives the connection up: a
/// server that vanished without a word is noticed within it.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Which servers will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One that takes writes: a standby is passed over.
    ReadWrite,
    /// Any: a standby serves readers as well.
    Any,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum DialError {
    /// The certificate material cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server refused or did not answer.
    #[error(transparent)]
    Refused(#[from] tokio_postgres::Error),
}

/// Opens a session and drives it in a task of its own until the client is dropped. Opening has no
/// deadline beyond that of the TCP connection: a server that accepts and says nothing is the
/// caller's to give up.
///
/// # Errors
/// [`DialError`]
pub async fn dial(
    settings: &PostgresSettings,
    application: &str,
    access: Access,
) -> Result<Client, DialError> {
    let mut config = Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .dbname(&settings.database)
        .user(&settings.user)
        .application_name(application)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3)
        .target_session_attrs(match access {
            Access::ReadWrite => TargetSessionAttrs::ReadWrite,
            Access::Any => TargetSessionAttrs::Any,
        });
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    match settings.ssl_mode {
        SslMode::Disable => {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
        SslMode::Require | SslMode::VerifyFull => {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let (client, connection) = config.connect(tls::connector(settings)?).await?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
    }
}

/// Drives a session to its end; whoever waits for an answer then is told why.
async fn drive<S, T>(mut connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message {
            tell(&notice);
        }
    }
}

/// What a server says beside its answers: that a table is there already is for nobody, that a right
/// was not granted is.
fn tell(notice: &DbError) {
    let said = explain::message(notice);
    match notice.parsed_severity() {
        Some(Severity::Warning) => warn!(said, "postgresql warns"),
        _ => debug!(said, "postgresql notes"),
    }
}
