//! One connection through the proxy.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Conditions, Reply, Shared, Verdict};

/// Pieces under way in one direction; a delay times this many bytes of [`PIECE`] bounds the rate.
const IN_FLIGHT: usize = 256;
const PIECE: usize = 64 << 10;
/// How long a server may take to answer, and to close, once a trap has sprung.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// How a connection came to its end.
enum End {
    /// Both sides have closed; so does the proxy.
    Closed,
    /// Both sides are reset.
    Cut,
    /// As `Cut`, by a trap.
    Sprung,
}

/// What the two directions of a connection tell each other.
struct Link {
    /// Whether the server's answers are thrown away.
    muted: AtomicBool,
    /// Pieces that the server has sent; `None` when it has closed.
    answers: watch::Sender<Option<u64>>,
}

type Pieces = mpsc::Receiver<(Instant, Vec<u8>)>;

pub(super) async fn run(mut client: TcpStream, shared: Arc<Shared>) {
    let conditions = shared.conditions.subscribe();
    let epoch = conditions.borrow().epoch;
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        client.set_zero_linger().ok();
        return;
    };
    // what is forwarded in pieces must not wait for the other side's acknowledgement
    client
        .set_nodelay(true)
        .and_then(|()| server.set_nodelay(true))
        .ok();
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let link = Link {
            muted: AtomicBool::new(false),
            answers: watch::Sender::new(Some(0)),
        };
        let (asked, requests) = mpsc::channel(IN_FLIGHT);
        let (answered, replies) = mpsc::channel(IN_FLIGHT);
        let mut cut = conditions.clone();
        tokio::select! {
            _ = cut.wait_for(|now| now.epoch != epoch) => End::Cut,
            end = both(
                both(
                    receive(from_client, asked, conditions.clone()),
                    send_requests(requests, to_server, &shared, &link),
                ),
                both(
                    receive(from_server, answered, conditions.clone()),
                    send_replies(replies, to_client, conditions.clone(), &link),
                ),
            ) => end,
        }
    };
    if !matches!(end, End::Closed) {
        client
            .set_zero_linger()
            .and_then(|()| server.set_zero_linger())
            .ok();
    }
    drop((client, server));
    if matches!(end, End::Sprung) {
        shared.sprung.send_modify(|count| *count += 1);
    }
}

/// Runs both to their end, or until one of them wants the connection cut.
async fn both(one: impl Future<Output = End>, other: impl Future<Output = End>) -> End {
    tokio::pin!(one, other);
    tokio::select! {
        end = &mut one => match end {
            End::Closed => other.await,
            cut => cut,
        },
        end = &mut other => match end {
            End::Closed => one.await,
            cut => cut,
        },
    }
}

/// Reads pieces and stamps them with the time at which they are due.
async fn receive(
    mut from: ReadHalf<'_>,
    to: mpsc::Sender<(Instant, Vec<u8>)>,
    mut conditions: watch::Receiver<Conditions>,
) -> End {
    let mut buffer = vec![0; PIECE];
    loop {
        flowing(&mut conditions).await;
        match from.read(&mut buffer).await {
            Ok(0) => return End::Closed,
            Ok(length) => {
                let due = Instant::now() + conditions.borrow().delay;
                if to.send((due, buffer[..length].to_vec())).await.is_err() {
                    return End::Closed;
                }
            }
            Err(_) => return End::Cut,
        }
    }
}

async fn send_requests(
    mut pieces: Pieces,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    link: &Link,
) -> End {
    let mut conditions = shared.conditions.subscribe();
    let mut seen = Vec::new();
    while let Some(piece) = next(&mut pieces, &mut conditions).await {
        let sent = match shared.inspect(&piece, &mut seen) {
            Verdict::Pass => to.write_all(&piece).await,
            Verdict::CutAfter(length) => {
                // whether this connection's last bytes can be sent changes nothing for it
                to.write_all(&piece[..length]).await.ok();
                shared.cut();
                return End::Sprung;
            }
            Verdict::StallAfter(length) => {
                let first = to.write_all(&piece[..length]).await;
                shared.stall();
                flowing(&mut conditions).await;
                match first {
                    Ok(()) => to.write_all(&piece[length..]).await,
                    failed => failed,
                }
            }
            Verdict::Matched(Reply::NeverAsked) => return End::Sprung,
            Verdict::Matched(reply) => {
                link.muted.store(reply == Reply::Drop, Ordering::Relaxed);
                last_request(&piece, to, link).await.ok();
                return End::Sprung;
            }
        };
        if sent.is_err() {
            return End::Cut;
        }
    }
    closed(to).await
}

/// Sends the last request of a connection and returns when the server is done with it: when it has
/// closed its side, which servers do after they have worked through everything before the end of
/// their input. The end is announced only after a first answer, since some servers drop requests
/// that they have not begun with.
async fn last_request(piece: &[u8], mut to: WriteHalf<'_>, link: &Link) -> io::Result<()> {
    let mut answers = link.answers.subscribe();
    let before = *answers.borrow();
    to.write_all(piece).await?;
    tokio::time::timeout(LAST_ANSWER, answers.wait_for(|now| *now != before))
        .await
        .ok();
    to.shutdown().await?;
    tokio::time::timeout(LAST_ANSWER, answers.wait_for(Option::is_none))
        .await
        .ok();
    Ok(())
}

async fn send_replies(
    mut pieces: Pieces,
    mut to: WriteHalf<'_>,
    mut conditions: watch::Receiver<Conditions>,
    link: &Link,
) -> End {
    while let Some(piece) = next(&mut pieces, &mut conditions).await {
        if !link.muted.load(Ordering::Relaxed) && to.write_all(&piece).await.is_err() {
            return End::Cut;
        }
        link.answers
            .send_modify(|count| *count = count.map(|count| count + 1));
    }
    link.answers.send_replace(None);
    if link.muted.load(Ordering::Relaxed) {
        // an orderly end would be an answer too; the cut follows
        return End::Closed;
    }
    closed(to).await
}

/// The next piece, when it is due and the network flows.
async fn next(
    pieces: &mut Pieces,
    conditions: &mut watch::Receiver<Conditions>,
) -> Option<Vec<u8>> {
    let (due, piece) = pieces.recv().await?;
    if due > Instant::now() {
        tokio::time::sleep_until(due).await;
    }
    flowing(conditions).await;
    Some(piece)
}

async fn flowing(conditions: &mut watch::Receiver<Conditions>) {
    // the sender lives as long as the connection, in `Shared`
    conditions.wait_for(|now| !now.stalled).await.ok();
}

async fn closed(mut to: WriteHalf<'_>) -> End {
    match to.shutdown().await {
        Ok(()) => End::Closed,
        Err(_) => End::Cut,
    }
}
