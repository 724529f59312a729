//! The admin server: probes, status and metrics over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 or 503, `{"status":"ok"}` or `{"status":"failing","reason":"…"}` |
//! | `/readyz` | the same with `"pending":"…"` |
//! | `/status` | the service's own JSON |
//! | `/metrics` | Prometheus text format 0.0.4 |
//!
//! By default everybody who reaches the port may ask. A [`Guard`] gives it a certificate, so that
//! it is asked by TLS, and asks for a token at `/status` and `/metrics`; probes need none, since
//! kubelets have none.
//!
//! It shares a process with the data path, so its cost has a ceiling: at most [`MAX_CONNECTIONS`]
//! at once, one request each, and [`CONNECTION_DEADLINE`] from accept to close. A client that
//! dribbles its header or never reads its answer gives its place back by then, and at once where
//! somebody else comes: a probe is answered however many connections are open. Nothing here changes
//! state.

mod access;
mod answers;
mod args;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::access::{Access, Judge, Judgement, TOKEN_HEADER};
pub use self::answers::Decision;
pub use self::args::{AdminArgs, Guard, GuardError};
pub use self::tokens::TokensError;
use crate::health::{Health, Verdict};
use crate::http::{self, Limits};
use crate::listen::listen;

/// Connections served at the same time; a scraper, a kubelet and a console need three.
pub const MAX_CONNECTIONS: usize = 64;

/// From the accept until the request's header must be complete.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// From the accept until the connection is closed, whatever the client does; Prometheus gives a
/// scrape 10 s too.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

const LIMITS: Limits = Limits {
    connections: MAX_CONNECTIONS,
    header: HEADER_DEADLINE,
    write: CONNECTION_DEADLINE,
    connection: CONNECTION_DEADLINE,
    stream: CONNECTION_DEADLINE,
    keep_alive: false,
};

/// The admin server could not listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "admin server: cannot listen on {addr}; choose another address or stop what holds the port"
)]
pub struct BindError {
    /// The address asked for.
    pub addr: SocketAddr,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// A running admin server.
#[derive(Debug)]
pub struct AdminServer {
    local_addr: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// The address it listens on, with the port the kernel chose where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until the server has stopped: its token was cancelled and every answer under way is
    /// sent.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "admin server ended unexpectedly");
        }
    }
}

/// Starts the admin server and returns as soon as it listens. It runs until `shutdown` is
/// cancelled: give it a token of its own that outlives the work, so that `/readyz` can tell about
/// draining.
///
/// # Errors
/// [`BindError`] when the address cannot be listened on.
pub async fn serve(
    addr: SocketAddr,
    registry: Registry,
    health: Arc<dyn Health>,
    shutdown: CancellationToken,
) -> Result<AdminServer, BindError> {
    serve_guarded(addr, Guard::default(), registry, health, shutdown).await
}

/// The same, protected.
///
/// # Errors
/// [`BindError`] when the address cannot be listened on.
pub async fn serve_guarded(
    addr: SocketAddr,
    guard: Guard,
    registry: Registry,
    health: Arc<dyn Health>,
    shutdown: CancellationToken,
) -> Result<AdminServer, BindError> {
    let bind_error = |source| BindError { addr, source };
    let listener = listen(addr).map_err(bind_error)?;
    let local_addr = listener.local_addr().map_err(bind_error)?;
    let Guard { tls, access } = guard;
    tracing::info!(address = %local_addr, tls = tls.is_some(), "admin server listening");
    let routes = router(registry, health, access);
    let serving = http::serve_by(listener, tls, routes, LIMITS, shutdown);
    let task = tokio::spawn(serving);
    Ok(AdminServer { local_addr, task })
}

#[derive(Clone)]
struct Admin {
    registry: Registry,
    health: Arc<dyn Health>,
    access: Access,
}

fn router(registry: Registry, health: Arc<dyn Health>, access: Access) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(Admin {
            registry,
            health,
            access,
        })
}

async fn livez(State(admin): State<Admin>) -> Response {
    probe(admin.health.live(), "reason")
}

async fn readyz(State(admin): State<Admin>) -> Response {
    probe(admin.health.ready(), "pending")
}

fn probe(verdict: Verdict, key: &str) -> Response {
    match verdict {
        Verdict::Ok => Json(json!({ "status": "ok" })).into_response(),
        Verdict::Failing(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "status": "failing", key: why })),
        )
            .into_response(),
    }
}

async fn status(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.access.check(&headers, "/status").await {
        return refused;
    }
    Json(admin.health.status()).into_response()
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refused) = admin.access.check(&headers, "/metrics").await {
        return refused;
    }
    let mut text = String::new();
    match TextEncoder::new().encode_utf8(&admin.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
