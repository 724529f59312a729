//! The admin server: probes, status and metrics over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 or 503, `{"status":"ok"}` or `{"status":"failing","reason":"…"}` |
//! | `/readyz` | the same with `"pending":"…"` |
//! | `/status` | the service's own JSON |
//! | `/metrics` | Prometheus text format 0.0.4 |
//!
//! It shares a process with the data path, so its cost has a ceiling: at most [`MAX_CONNECTIONS`] at once (further
//! ones wait in the kernel's backlog), one request each, and [`CONNECTION_DEADLINE`] from accept to close. A
//! client that dribbles its header or never reads its answer gives its place back by then. Nothing here changes
//! state, and nothing here needs a credential.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TextEncoder};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::{Health, Verdict};

/// Connections served at the same time; a scraper, a kubelet and a console need three.
pub const MAX_CONNECTIONS: usize = 64;

/// From the accept until the request's header must be complete.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(5);

/// From the accept until the connection is closed, whatever the client does; Prometheus gives a scrape 10 s too.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// A request line and its headers fit many times over; hyper's own minimum is 8 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// After a failed accept (out of file descriptors, as a rule), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

    /// Waits until the server has stopped: its token was cancelled and every answer under way is sent.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "admin server ended unexpectedly");
        }
    }
}

/// Starts the admin server and returns as soon as it listens. It runs until `shutdown` is cancelled: give it a
/// token of its own that outlives the work, so that `/readyz` can tell about draining.
///
/// # Errors
/// [`BindError`] when the address cannot be listened on.
pub async fn serve(
    addr: SocketAddr,
    registry: Registry,
    health: Arc<dyn Health>,
    shutdown: CancellationToken,
) -> Result<AdminServer, BindError> {
    let bind_error = |source| BindError { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bind_error)?;
    let local_addr = listener.local_addr().map_err(bind_error)?;
    tracing::info!(address = %local_addr, "admin server listening");
    let routes = router(registry, health);
    let task = tokio::spawn(accept_loop(listener, routes, shutdown));
    Ok(AdminServer { local_addr, task })
}

async fn accept_loop(listener: TcpListener, routes: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = answer(stream, routes.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin server could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // no new ones from here on, and those under way end within the connection deadline
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn answer(stream: TcpStream, routes: Router, shutdown: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let deadline = tokio::time::sleep(CONNECTION_DEADLINE);
    tokio::pin!(deadline);
    let mut draining = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "admin connection ended early");
                }
                return;
            }
            () = &mut deadline => {
                tracing::debug!("admin connection passed its deadline");
                return;
            }
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[derive(Clone)]
struct Admin {
    registry: Registry,
    health: Arc<dyn Health>,
}

fn router(registry: Registry, health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(Admin { registry, health })
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

async fn status(State(admin): State<Admin>) -> Response {
    Json(admin.health.status()).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match TextEncoder::new().encode_utf8(&admin.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
