//! The proxy breaks connections exactly as it is told to.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use clickstream_testbed::{Postgres, PostgresVersion, Proxy, Reply, shared, unique_name};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends back what it gets, and tells what it got.
async fn echo() -> anyhow::Result<(SocketAddr, mpsc::Receiver<Vec<u8>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let (got, gets) = mpsc::channel(1000);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let got = got.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    got.send(buffer[..length].to_vec()).await.ok();
                    if stream.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok((addr, gets))
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = vec![0; request.len()];
    timeout(SOON, stream.read_exact(&mut answer)).await??;
    Ok(answer)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    let read = timeout(SOON, stream.read(&mut buffer)).await;
    matches!(read, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_cut_resets_connections_and_new_ones_work() -> anyhow::Result<()> {
    let (server, _gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    assert_eq!(ask(&mut stream, b"hello").await?, b"hello");
    proxy.cut();
    assert!(is_reset(&mut stream).await);
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    assert_eq!(ask(&mut stream, b"again").await?, b"again");
    Ok(())
}

#[tokio::test]
async fn a_stalled_connection_stays_open_and_loses_nothing() -> anyhow::Result<()> {
    let (server, _gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    assert_eq!(ask(&mut stream, b"hello").await?, b"hello");
    proxy.stall();
    stream.write_all(b"held back").await?;
    let mut answer = [0; 9];
    assert!(
        timeout(SILENCE, stream.read_exact(&mut answer))
            .await
            .is_err()
    );
    proxy.resume();
    timeout(SOON, stream.read_exact(&mut answer)).await??;
    assert_eq!(&answer, b"held back");
    Ok(())
}

#[tokio::test]
async fn a_delay_holds_in_both_directions() -> anyhow::Result<()> {
    let (server, _gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    assert_eq!(ask(&mut stream, b"hello").await?, b"hello");
    proxy.delay(SILENCE);
    let asked = Instant::now();
    assert_eq!(ask(&mut stream, b"slow").await?, b"slow");
    assert!(asked.elapsed() >= 2 * SILENCE, "{:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_cut_after_bytes_lets_exactly_these_through() -> anyhow::Result<()> {
    let (server, mut gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    proxy.cut_after(7);
    assert_eq!(ask(&mut stream, b"four").await?, b"four");
    stream.write_all(b"more than three").await?;
    proxy.sprung(SOON).await?;
    assert_eq!(gets.recv().await.as_deref(), Some(&b"four"[..]));
    assert_eq!(
        timeout(SOON, gets.recv()).await?.as_deref(),
        Some(&b"mor"[..])
    );
    Ok(())
}

#[tokio::test]
async fn a_pattern_in_two_pieces_is_found() -> anyhow::Result<()> {
    let (server, mut gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    proxy.cut_after_match(b"COMMIT", Reply::NeverAsked);
    assert_eq!(ask(&mut stream, b"...COM").await?, b"...COM");
    stream.write_all(b"MIT;").await?;
    proxy.sprung(SOON).await?;
    assert!(is_reset(&mut stream).await);
    assert_eq!(gets.recv().await.as_deref(), Some(&b"...COM"[..]));
    assert!(
        timeout(SILENCE, gets.recv()).await.is_err(),
        "the rest must not arrive"
    );
    Ok(())
}

#[tokio::test]
async fn a_stall_after_a_pattern_holds_the_rest_back() -> anyhow::Result<()> {
    let (server, mut gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    proxy.stall_after_match(b"COPY", 3);
    assert_eq!(ask(&mut stream, b"...CO").await?, b"...CO");
    stream.write_all(b"PY abcdef").await?;
    proxy.sprung(SOON).await?;
    assert_eq!(gets.recv().await.as_deref(), Some(&b"...CO"[..]));
    assert_eq!(
        timeout(SOON, gets.recv()).await?.as_deref(),
        Some(&b"PY ab"[..])
    );
    assert!(timeout(SILENCE, gets.recv()).await.is_err());
    proxy.resume();
    assert_eq!(
        timeout(SOON, gets.recv()).await?.as_deref(),
        Some(&b"cdef"[..])
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_refuses_keeps_what_it_has() -> anyhow::Result<()> {
    let (server, _gets) = echo().await?;
    let proxy = Proxy::start(server).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    assert_eq!(ask(&mut stream, b"hello").await?, b"hello");
    proxy.refuse().await?;
    let refused = TcpStream::connect(proxy.addr())
        .await
        .err()
        .map(|error| error.kind());
    assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    assert_eq!(ask(&mut stream, b"still").await?, b"still");
    proxy.accept().await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    assert_eq!(ask(&mut stream, b"again").await?, b"again");
    Ok(())
}

/// Commits a row through a proxy whose trap waits for the commit; returns whether the client saw
/// the commit succeed and whether the row is there.
async fn commit_into_a_trap(reply: Reply) -> anyhow::Result<(bool, bool)> {
    let postgres: &Postgres = shared::postgres(PostgresVersion::V18).await?;
    let database = unique_name("trap");
    postgres.create_database(&database).await?;
    let direct = postgres.connect(&database).await?;
    direct
        .batch_execute("create table facts (fact text)")
        .await?;

    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], postgres.port()))).await?;
    let url = format!("postgres://postgres@{}/{database}", proxy.addr());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute("begin; insert into facts values ('it happened')")
        .await?;
    proxy.cut_after_match(b"COMMIT", reply);
    let seen = timeout(SOON, client.batch_execute("COMMIT")).await?.is_ok();
    proxy.sprung(SOON).await?;
    assert!(
        client.batch_execute("select 1").await.is_err(),
        "the connection must be cut"
    );
    let rows = direct.query("select 1 from facts", &[]).await?;
    Ok((seen, !rows.is_empty()))
}

#[tokio::test]
async fn a_commit_whose_reply_is_dropped_happened_unseen() -> anyhow::Result<()> {
    assert_eq!(commit_into_a_trap(Reply::Drop).await?, (false, true));
    Ok(())
}

#[tokio::test]
async fn a_commit_whose_reply_is_delivered_is_seen() -> anyhow::Result<()> {
    assert_eq!(commit_into_a_trap(Reply::Deliver).await?, (true, true));
    Ok(())
}

#[tokio::test]
async fn a_commit_that_is_never_asked_for_did_not_happen() -> anyhow::Result<()> {
    assert_eq!(commit_into_a_trap(Reply::NeverAsked).await?, (false, false));
    Ok(())
}
