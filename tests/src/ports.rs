//! Ports for servers that must keep theirs across a restart.

use std::{collections::HashSet, net::TcpListener};

use anyhow::Context as _;
use parking_lot::Mutex;

/// Below the range from which Linux takes the source ports of outgoing connections (32768 and up): a port of a crashed server cannot be
/// taken by somebody's client before the server is back.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback port that was free a moment ago and that this process was not given before.
///
/// Another process can still take it first; whoever starts a server on it tries again with another one.
///
/// # Errors
/// When no port of the range could be bound.
pub fn free_port() -> anyhow::Result<u16> {
    let mut given = GIVEN.lock();
    let given = given.get_or_insert_with(HashSet::new);
    for _ in 0..1000 {
        let port = rand::random_range(RANGE);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    None.with_context(|| {
        format!(
            "no free loopback port found in {}..{}",
            RANGE.start, RANGE.end
        )
    })
}
