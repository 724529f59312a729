//! Where the page listens, and what its clients may take.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clickstream_telemetry::http::Limits;
use clickstream_telemetry::listen::listen;
use thiserror::Error;
use tokio::net::TcpListener;

/// A browser opens up to six connections. One that stops to read gives its place back after
/// seconds, and every other after half a minute; only the stream of those who may look has longer,
/// and a page that is alive comes back by itself and is told only what it missed.
pub const LIMITS: Limits = Limits {
    connections: 256,
    header: Duration::from_secs(10),
    write: Duration::from_secs(10),
    connection: Duration::from_secs(30),
    stream: Duration::from_secs(30 * 60),
    keep_alive: true,
};

/// The server could not listen.
#[derive(Debug, Error)]
#[error("--listen {addr}: cannot listen; choose another address or stop what holds the port")]
pub struct BindError {
    addr: SocketAddr,
    #[source]
    source: io::Error,
}

/// Opens the listener.
///
/// # Errors
/// [`BindError`]
pub async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let error = |source| BindError { addr, source };
    let listener = listen(addr).map_err(error)?;
    let local = listener.local_addr().map_err(error)?;
    Ok((listener, local))
}
