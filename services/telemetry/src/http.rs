//! A small HTTP/1.1 server, bounded in connections, and each connection bounded in time.
//!
//! It shares a process with work that matters more, so its cost has a ceiling. A client that
//! dribbles its header or never reads its answer gives its place back when its time is up, and
//! before that where somebody else needs one: connections that nobody uses keep no probe out.

mod places;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::places::{Answered, Place, Places};
use crate::tls::Tls;

/// A request line and its headers fit many times over; hyper's own minimum is 8 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// After a failed accept (out of file descriptors, as a rule), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time. A further one takes the place of the client that the server
    /// has been waiting for longest: for a handshake, a request, or for its answer to be read.
    /// While all are being answered it waits.
    pub connections: usize,
    /// From the accept, the handshake or the answer before, until a request's header must be
    /// complete; and until a handshake must.
    pub header: Duration,
    /// How long a client may leave what is sent to it unread.
    pub write: Duration,
    /// From the accept until the connection is closed, whatever the client does.
    pub connection: Duration,
    /// The same for a connection that carries a stream, see [`Lifetime::is_for_a_stream`].
    pub stream: Duration,
    /// Whether a connection may carry more than one request.
    pub keep_alive: bool,
}

/// How long a connection may last; an extension of every request that comes by it.
#[derive(Clone, Debug, Default)]
pub struct Lifetime(Arc<AtomicBool>);

impl Lifetime {
    /// The answer has no end: the connection has the time of a stream.
    pub fn is_for_a_stream(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Serves until `stop` is cancelled, then until the answers under way are sent.
pub async fn serve(listener: TcpListener, routes: Router, limits: Limits, stop: CancellationToken) {
    serve_by(listener, None, routes, limits, stop).await;
}

/// The same by TLS, where there is a certificate.
pub async fn serve_by(
    listener: TcpListener,
    tls: Option<Tls>,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let places = Places::new(limits.connections);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    place = places.take() => place,
                };
                connections.spawn(connection(
                    stream,
                    place,
                    tls.clone(),
                    routes.clone(),
                    limits,
                    stop.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // no new ones from here on, and those under way end within their time
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    place: Place,
    tls: Option<Tls>,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let accepted = Instant::now();
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.write));
    let stream = Box::pin(stream);
    let Some(tls) = tls else {
        return answer(stream, place, accepted, routes, limits, stop).await;
    };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let handshake = tokio::time::timeout(limits.header, handshake);
    let shaken = tokio::select! {
        biased;
        // nothing has been asked yet
        () = stop.cancelled() => return,
        shaken = handshake => shaken,
        () = place.is_wanted() => return,
    };
    match shaken {
        Ok(Ok(stream)) => answer(stream, place, accepted, routes, limits, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "no tls came about"),
        Err(_) => tracing::debug!("a handshake was not finished in its time"),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: Place,
    accepted: Instant,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let lifetime = Lifetime::default();
    let routes = TowerToHyperService::new(routes.layer(Extension(lifetime.clone())));
    let answer = |request: Request<Incoming>| {
        let answering = place.answers();
        let answer = routes.call(request);
        async move {
            let answer: Response<_> = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Answered::new(body, answering)))
        }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .keep_alive(limits.keep_alive)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::pin!(connection);
    let deadline = tokio::time::sleep_until(accepted + limits.connection);
    tokio::pin!(deadline);
    let mut draining = false;
    loop {
        tokio::select! {
            // a request that has come is seen before its place is given away
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                return;
            }
            () = &mut deadline => {
                let of_stream = accepted + limits.stream;
                if lifetime.0.load(Ordering::Relaxed) && deadline.deadline() < of_stream {
                    deadline.as_mut().reset(of_stream);
                    continue;
                }
                tracing::debug!("connection closed at the end of its time");
                return;
            }
            () = place.is_wanted() => {
                tracing::debug!("connection closed to make room for another");
                return;
            }
            () = stop.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
