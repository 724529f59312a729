//! Ports for servers that must keep theirs across a restart.

use std::{
    collections::HashMap,
    fs::{self, File},
    net::TcpListener,
};

use anyhow::Context as _;
use parking_lot::Mutex;

use crate::loopback;

/// Below the range from which Linux takes the source ports of outgoing connections (32768 and up):
/// a port of a crashed server cannot be taken by somebody's client before the server is back.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// The ports of this process, each with the lock that tells others.
static GIVEN: Mutex<Option<HashMap<u16, File>>> = Mutex::new(None);

/// A loopback port that was free a moment ago and that no process was given before that asks here
/// and lives.
///
/// A stranger can still take it first; whoever starts a server on it tries again with another one.
///
/// # Errors
/// When no port of the range could be bound, or the folder of the locks cannot be written.
pub fn free_port() -> anyhow::Result<u16> {
    let locks = std::env::temp_dir().join("clickstream-ports");
    fs::create_dir_all(&locks).with_context(|| locks.display().to_string())?;
    let mut given = GIVEN.lock();
    let given = given.get_or_insert_with(HashMap::new);
    for _ in 0..1000 {
        let port = rand::random_range(RANGE);
        if given.contains_key(&port) {
            continue;
        }
        // a server that is restarted leaves its port free for a moment, in which another test would
        // take it; the lock ends with its process
        let path = locks.join(port.to_string());
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        if lock.try_lock().is_ok() && TcpListener::bind(loopback::at(port)).is_ok() {
            given.insert(port, lock);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    #[test]
    fn a_port_is_given_to_one_process_for_as_long_as_that_lives() {
        let port = free_port().unwrap();
        let path = std::env::temp_dir()
            .join("clickstream-ports")
            .join(port.to_string());
        // another process opens the file itself
        let others = File::open(&path).unwrap();
        others.try_lock().unwrap_err();
        GIVEN.lock().as_mut().unwrap().remove(&port);
        others.try_lock().unwrap();
    }
}
