//! A loopback hop between a client and a server that breaks connections on purpose.

mod connection;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::ports::free_port;

/// What becomes of the server's answer to the request that [`Proxy::cut_after_match`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The client gets the answer, then the connection is cut: it knows.
    Deliver,
    /// The server gets the request and finishes with it, then the connection is cut without a
    /// byte of its answer: the work is done and the client does not know.
    Drop,
    /// The connection is cut before the server gets the request: the work is not done and the
    /// client does not know.
    NeverAsked,
}

/// A proxy on a loopback port. It runs on a thread of its own, so that a test which blocks does
/// not hold it up. All its connections are cut on drop.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// What every connection looks at.
struct Shared {
    target: SocketAddr,
    conditions: watch::Sender<Conditions>,
    trap: Mutex<Option<Trap>>,
    sprung: watch::Sender<u64>,
}

/// The state of the simulated network.
#[derive(Debug, Clone, Copy, Default)]
struct Conditions {
    /// Raised by every cut; a connection lives as long as it stays what it was at its start.
    epoch: u64,
    stalled: bool,
    delay: Duration,
}

/// What will cut all connections, once.
#[derive(Debug)]
enum Trap {
    Bytes(usize),
    Match {
        pattern: Vec<u8>,
        reply: Reply,
    },
    /// Does not cut but stall, this many bytes after the pattern.
    Stall {
        pattern: Vec<u8>,
        bytes: usize,
        found: bool,
    },
}

enum Order {
    Refuse(oneshot::Sender<()>),
    Accept(oneshot::Sender<anyhow::Result<()>>),
}

impl Proxy {
    /// Starts a proxy for `target` on a port of its own.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let (orders, inbox) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            target,
            conditions: watch::Sender::new(Conditions::default()),
            trap: Mutex::new(None),
            sprung: watch::Sender::new(0),
        });
        let (started, start) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || runtime.block_on(serve(addr, serving, inbox, started)))?;
        start.await.context("the proxy's thread ended")??;
        Ok(Self {
            addr,
            shared,
            orders,
        })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Resets (RST) every connection, on both sides. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Lets nothing through any more, in both directions, with connections open: a cable pulled.
    pub fn stall(&self) {
        self.shared
            .conditions
            .send_modify(|conditions| conditions.stalled = true);
    }

    /// Ends [`Proxy::stall`]; what was held back is delivered.
    pub fn resume(&self) {
        self.shared
            .conditions
            .send_modify(|conditions| conditions.stalled = false);
    }

    /// Delivers everything that arrives from now on this much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.shared
            .conditions
            .send_modify(|conditions| conditions.delay = delay);
    }

    /// Cuts every connection when this many more bytes went from clients to the server; the last
    /// of them still arrives. Replaces another trap.
    pub fn cut_after(&self, bytes: usize) {
        *self.shared.trap.lock() = Some(Trap::Bytes(bytes));
    }

    /// Cuts a connection at the next request from a client that holds `pattern` (also when it
    /// arrives in pieces). What becomes of that request and its answer is said by `reply`.
    /// Springs once; replaces another trap. See [`Proxy::sprung`].
    pub fn cut_after_match(&self, pattern: &[u8], reply: Reply) {
        *self.shared.trap.lock() = Some(Trap::Match {
            pattern: pattern.to_vec(),
            reply,
        });
    }

    /// As [`Proxy::stall`], once a client has sent `pattern` and `bytes` more: in the middle of
    /// what it is sending. Springs once; replaces another trap.
    pub fn stall_after_match(&self, pattern: &[u8], bytes: usize) {
        *self.shared.trap.lock() = Some(Trap::Stall {
            pattern: pattern.to_vec(),
            bytes,
            found: false,
        });
    }

    /// Waits until a trap, set by [`Proxy::cut_after`], [`Proxy::cut_after_match`] or
    /// [`Proxy::stall_after_match`], has sprung. A trap that was waited for does not count again.
    ///
    /// # Errors
    /// When none has sprung within `timeout`.
    pub async fn sprung(&self, timeout: Duration) -> anyhow::Result<()> {
        let mut sprung = self.shared.sprung.subscribe();
        if tokio::time::timeout(timeout, sprung.wait_for(|count| *count > 0))
            .await
            .is_err()
        {
            bail!("nothing sprang the proxy's trap within {timeout:?}");
        }
        self.shared
            .sprung
            .send_modify(|count| *count = count.saturating_sub(1));
        Ok(())
    }

    /// Closes the port: new connections are refused. Those that exist go on.
    ///
    /// # Errors
    /// When the proxy's thread has ended.
    pub async fn refuse(&self) -> anyhow::Result<()> {
        let (done, refused) = oneshot::channel();
        self.orders
            .send(Order::Refuse(done))
            .await
            .ok()
            .context("the proxy's thread ended")?;
        refused.await.context("the proxy's thread ended")
    }

    /// Opens the port again after [`Proxy::refuse`].
    ///
    /// # Errors
    /// When another process has taken the port.
    pub async fn accept(&self) -> anyhow::Result<()> {
        let (done, accepted) = oneshot::channel();
        self.orders
            .send(Order::Accept(done))
            .await
            .ok()
            .context("the proxy's thread ended")?;
        accepted.await.context("the proxy's thread ended")?
    }
}

impl Shared {
    fn cut(&self) {
        self.conditions
            .send_modify(|conditions| conditions.epoch += 1);
    }

    /// Stalls because a trap has sprung.
    fn stall(&self) {
        self.conditions
            .send_modify(|conditions| conditions.stalled = true);
        self.sprung.send_modify(|count| *count += 1);
    }

    /// What the trap says about the next piece of a client's data; `seen` is the end of what the
    /// same client sent before.
    fn inspect(&self, piece: &[u8], seen: &mut Vec<u8>) -> Verdict {
        let mut trap = self.trap.lock();
        let verdict = match trap.as_mut() {
            None => {
                seen.clear();
                Verdict::Pass
            }
            Some(Trap::Bytes(left)) if piece.len() < *left => {
                *left -= piece.len();
                Verdict::Pass
            }
            Some(Trap::Bytes(left)) => Verdict::CutAfter(*left),
            Some(Trap::Match { pattern, reply }) => {
                seen.extend_from_slice(piece);
                if memchr::memmem::find(seen, pattern).is_some() {
                    Verdict::Matched(*reply)
                } else {
                    // what could still be the beginning of the pattern
                    let keep = pattern.len().saturating_sub(1).min(seen.len());
                    seen.drain(..seen.len() - keep);
                    Verdict::Pass
                }
            }
            Some(Trap::Stall {
                pattern,
                bytes,
                found,
            }) => {
                let mut from = 0;
                if !*found {
                    let known = seen.len();
                    seen.extend_from_slice(piece);
                    if let Some(at) = memchr::memmem::find(seen, pattern) {
                        *found = true;
                        // the end of the pattern lies in this piece: otherwise it would have been
                        // found before
                        from = at + pattern.len() - known;
                    } else {
                        let keep = pattern.len().saturating_sub(1).min(seen.len());
                        seen.drain(..seen.len() - keep);
                    }
                }
                if !*found {
                    Verdict::Pass
                } else if piece.len() - from < *bytes {
                    *bytes -= piece.len() - from;
                    Verdict::Pass
                } else {
                    Verdict::StallAfter(from + *bytes)
                }
            }
        };
        if verdict != Verdict::Pass {
            *trap = None;
            // the next trap looks only at what comes after this one
            seen.clear();
        }
        verdict
    }
}

/// What to do with a piece of a client's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pass,
    /// Send this many bytes of it, then cut every connection.
    CutAfter(usize),
    Matched(Reply),
    /// Send this many bytes of it, then let nothing through.
    StallAfter(usize),
}

/// Accepts connections until the [`Proxy`] is dropped.
async fn serve(
    addr: SocketAddr,
    shared: Arc<Shared>,
    mut orders: mpsc::Receiver<Order>,
    started: oneshot::Sender<anyhow::Result<()>>,
) {
    let bind = async || {
        TcpListener::bind(addr)
            .await
            .with_context(|| format!("cannot bind {addr}"))
    };
    let (mut listener, result) = match bind().await {
        Ok(listener) => (Some(listener), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // whoever does not listen any more has dropped the proxy, which the orders say too
    started.send(result).ok();
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                None => break,
                Some(Order::Refuse(done)) => {
                    listener = None;
                    done.send(()).ok();
                }
                Some(Order::Accept(done)) => {
                    let result = if listener.is_some() { Ok(()) } else {
                        bind().await.map(|bound| listener = Some(bound))
                    };
                    done.send(result).ok();
                }
            },
            Ok((client, _)) = accept => {
                connections.spawn(connection::run(client, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    shared.cut();
    connections.join_all().await;
}
