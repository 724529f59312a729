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

/// Waits for the end of a connection; what it brought before.
async fn ended(stream: &mut TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    // one that is given up may end with a reset
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut told))
        .await
        .expect("the connection stays open");
    told
}

/// Whether nothing comes for a while.
async fn is_quiet(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(SHORT, stream.read_u8());
    read.await.is_err()
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let addr = serve(Limits {
        write: SHORT,
        ..LIMITS
    })
    .await;
    let mut silent = ask(addr, "/huge").await;
    tokio::time::sleep(SHORT * 3).await;
    assert!(ended(&mut silent).await.len() < 64 << 20);
}

#[tokio::test]
async fn a_connection_ends_with_its_time_and_one_with_a_stream_has_longer() {
    let addr = serve(Limits {
        connections: 2,
        connection: SHORT,
        ..LIMITS
    })
    .await;
    let mut endless = ask(addr, "/endless").await;
    // kept alive, and idle
    let mut idle = ask(addr, "/").await;
    let begun = tokio::time::Instant::now();
    let mut bytes = [0; 64];
    while begun.elapsed() < SHORT * 4 {
        let read = tokio::time::timeout(PATIENCE, endless.read(&mut bytes));
        assert!(read.await.unwrap().unwrap() > 0, "the stream has ended");
    }
    assert!(ended(&mut idle).await.ends_with(b"small"));
}

#[tokio::test]
async fn who_keeps_the_server_waiting_longest_makes_room_for_who_comes() {
    let addr = serve(Limits {
        connections: 3,
        ..LIMITS
    })
    .await;
    let mut silent = TcpStream::connect(addr).await.unwrap();
    assert!(is_quiet(&mut silent).await);
    let mut idle = ask(addr, "/").await;
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    let mut endless = ask(addr, "/endless").await;
    endless.read_exact(&mut answer).await.unwrap();
    // all places are taken: whoever has said nothing goes first, then who has asked before
    another_is_answered(addr).await;
    assert_eq!(ended(&mut silent).await, b"");
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = ask(addr, "/endless").await;
        stream.read_exact(&mut answer).await.unwrap();
        streams.push(stream);
    }
    assert!(ended(&mut idle).await.ends_with(b"small"));
    // who is being answered makes room for nobody, and the next one waits
    let mut waiting = ask(addr, "/").await;
    assert!(is_quiet(&mut waiting).await);
    for stream in streams.iter_mut().chain([&mut endless]) {
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer));
        read.await.unwrap().unwrap();
    }
    drop(endless);
    let read = tokio::time::timeout(PATIENCE, waiting.read_exact(&mut answer));
    read.await.expect("a place is free").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
