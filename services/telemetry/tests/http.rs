//! Clients that want more than their share.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::routing::get;
use axum::{Extension, Router};
use clickstream_telemetry::http::{self, Lifetime, Limits};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_mins(10);
/// How long a test waits for what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

const LIMITS: Limits = Limits {
    connections: 1,
    header: LONG,
    write: LONG,
    connection: LONG,
    stream: LONG,
    keep_alive: true,
};

/// A server with a small page, a huge one, and one that never ends.
async fn serve(limits: Limits) -> SocketAddr {
    let huge = async || vec![b'x'; 64 << 20];
    let endless = async |Extension(lifetime): Extension<Lifetime>| {
        lifetime.is_for_a_stream();
        let tick = || async {
            tokio::time::sleep(SHORT / 10).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b".")), ()))
        };
        Body::from_stream(stream::unfold((), move |()| tick()))
    };
    let routes = Router::new()
        .route("/", get(async || "small"))
        .route("/huge", get(huge))
        .route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(http::serve(
        listener,
        routes,
        limits,
        CancellationToken::new(),
    ));
    addr
}

async fn ask(addr: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Whether somebody else gets the only place there is.
async fn another_is_answered(addr: SocketAddr) {
    let mut other = ask(addr, "/").await;
    let mut answer = [0; 12];
    let read = tokio::time::timeout(PATIENCE, other.read_exact(&mut answer));
    read.await.expect("the place stays taken").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_client_that_does_not_read_gives_its_place_back() {
    let addr = serve(Limits {
        write: SHORT,
        ..LIMITS
    })
    .await;
    let _silent = ask(addr, "/huge").await;
    another_is_answered(addr).await;
}

#[tokio::test]
async fn a_connection_ends_with_its_time_and_one_with_a_stream_has_longer() {
    let addr = serve(Limits {
        connection: SHORT,
        ..LIMITS
    })
    .await;
    let mut endless = ask(addr, "/endless").await;
    let begun = tokio::time::Instant::now();
    let mut bytes = [0; 64];
    while begun.elapsed() < SHORT * 4 {
        let read = tokio::time::timeout(PATIENCE, endless.read(&mut bytes));
        assert!(read.await.unwrap().unwrap() > 0, "the stream has ended");
    }
    drop(endless);
    // kept alive, and idle
    let _idle = ask(addr, "/").await;
    another_is_answered(addr).await;
}
