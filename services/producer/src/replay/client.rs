//! Who a logged request comes from, and which visit it belongs to, when the log does not say.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};

use super::hit::{Hit, Value};

/// A visit ends when its user has not been seen for this long: 30 minutes, in microseconds.
pub const SESSION_GAP_MICROS: i64 = 30 * 60 * 1_000_000;

/// Longer user ids are hashed in session ids, which may have 128 characters at most.
const LONGEST_USER_IN_SESSION: usize = 64;

/// Clients whose user is remembered.
const REMEMBERED: usize = 32_768;

/// Below this many users the session table is never swept.
const SWEEP_FROM: usize = 1_024;

/// A user id made from what identifies the client: 16 hexadecimal digits of the SHA-256 over the
/// parts.
#[must_use]
pub fn user_id<'a>(parts: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // lengths keep ("ab", "c") and ("a", "bc") apart; an absent part differs from an empty one
        match part {
            None => hash.update([0]),
            Some(part) => {
                hash.update([1]);
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
    }
    let mut id = String::with_capacity(16);
    for byte in &hash.finalize()[..8] {
        write!(id, "{byte:02x}").expect("writing to a string cannot fail");
    }
    id
}

/// Names users by what tells clients apart: address, user agent, then what `--map client=` names.
#[derive(Debug, Default)]
pub struct Clients {
    /// Clients of late, and those before them: what is forgotten is found again by hashing.
    young: Known,
    old: Known,
    key: Vec<u8>,
}

type Known = HashMap<Box<[u8]>, Box<str>, RandomState>;

impl Clients {
    /// The user of a hit that names none; `address` is the client's, if it has one.
    pub fn user(&mut self, hit: &Hit<'_>, address: Option<IpAddr>) -> String {
        // hashing costs more than all else, and most lines are of clients that were here before
        self.key.clear();
        match (address, hit.client.as_deref()) {
            (Some(IpAddr::V4(address)), _) => {
                self.key.push(4);
                self.key.extend(address.octets());
            }
            (Some(IpAddr::V6(address)), _) => {
                self.key.push(6);
                self.key.extend(address.octets());
            }
            (None, client) => push(&mut self.key, client),
        }
        let user_agent = hit.user_agent.as_ref().map(Value::text);
        push(&mut self.key, user_agent.as_deref());
        for part in &hit.apart {
            push(&mut self.key, part.as_deref());
        }
        if let Some(user) = self.young.get(self.key.as_slice()) {
            return user.to_string();
        }
        let user = self.old.remove(self.key.as_slice()).unwrap_or_else(|| {
            let address = address.map(|address| address.to_string());
            let client = address.as_deref().or(hit.client.as_deref());
            let parts = [client, user_agent.as_deref()];
            let apart = hit.apart.iter().map(Option::as_deref);
            user_id(parts.into_iter().chain(apart)).into()
        });
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(self.key.as_slice().into(), user.clone());
        user.into()
    }
}

/// Lengths keep parts apart; a part that is not there differs from an empty one.
fn push(key: &mut Vec<u8>, part: Option<&str>) {
    match part {
        None => key.push(0),
        Some(part) => {
            key.push(1);
            key.extend((part.len() as u64).to_le_bytes());
            key.extend(part.as_bytes());
        }
    }
}

/// Gives every request the session it belongs to. Requests may be out of order by less than the
/// gap.
#[derive(Debug, Default)]
pub struct Sessions {
    open: HashMap<Box<str>, Visit, RandomState>,
    newest: i64,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    first: i64,
    last: i64,
}

impl Sessions {
    /// The session of a request of `user` at `micros` since the Unix epoch: the user and the second
    /// in which the visit began, so that the same log always gives the same ids.
    pub fn session_id(&mut self, user: &str, micros: i64) -> String {
        self.newest = self.newest.max(micros);
        self.sweep();
        let first = match self.open.get_mut(user) {
            Some(visit) if micros.saturating_sub(visit.last) >= SESSION_GAP_MICROS => {
                *visit = Visit {
                    first: micros,
                    last: micros,
                };
                micros
            }
            Some(visit) if visit.first.saturating_sub(micros) < SESSION_GAP_MICROS => {
                visit.last = visit.last.max(micros);
                visit.first
            }
            // far older than the visit at hand: a visit that is over and forgotten
            Some(_) => micros,
            None => {
                self.open.insert(
                    user.into(),
                    Visit {
                        first: micros,
                        last: micros,
                    },
                );
                micros
            }
        };
        let second = first.div_euclid(1_000_000);
        if user.len() <= LONGEST_USER_IN_SESSION {
            format!("{user}-{second:x}")
        } else {
            format!("{}-{second:x}", user_id([Some(user)]))
        }
    }

    /// Forgets visits that are over once the table has doubled, so that memory follows the open
    /// visits.
    fn sweep(&mut self) {
        if self.open.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        let newest = self.newest;
        self.open
            .retain(|_, visit| newest.saturating_sub(visit.last) < 2 * SESSION_GAP_MICROS);
        self.sweep_at = self.open.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::{SESSION_GAP_MICROS, Sessions, user_id};

    const MINUTE: i64 = 60_000_000;

    #[test]
    fn a_user_is_the_same_client_every_time_and_no_other() {
        let id = user_id([Some("192.0.2.1"), Some("curl")]);
        assert_eq!(id, user_id([Some("192.0.2.1"), Some("curl")]));
        assert_eq!(id.len(), 16);
        for other in [
            [Some("192.0.2.1"), None],
            [Some("192.0.2.1"), Some("")],
            [Some("192.0.2.1c"), Some("url")],
        ] {
            assert_ne!(id, user_id(other));
        }
    }

    #[test]
    fn a_visit_lasts_until_thirty_minutes_of_silence() {
        let mut sessions = Sessions::default();
        let first = sessions.session_id("a", 0);
        assert_eq!(sessions.session_id("a", SESSION_GAP_MICROS - 1), first);
        assert_eq!(sessions.session_id("a", 55 * MINUTE), first);
        let second = sessions.session_id("a", 85 * MINUTE);
        assert_ne!(second, first);
        assert_eq!(sessions.session_id("a", 86 * MINUTE), second);
    }

    #[test]
    fn the_longest_user_id_still_gives_a_session_id_that_an_event_may_have() {
        let mut sessions = Sessions::default();
        let visit = sessions.session_id(&"x".repeat(128), 0);
        assert!(visit.len() <= 128);
        assert_ne!(visit, sessions.session_id(&"y".repeat(128), 0));
    }

    #[test]
    fn users_do_not_share_a_visit() {
        let mut sessions = Sessions::default();
        assert_ne!(sessions.session_id("a", 0), sessions.session_id("b", 0));
    }

    #[test]
    fn a_request_out_of_order_stays_in_the_visit() {
        let mut sessions = Sessions::default();
        let visit = sessions.session_id("a", 40 * MINUTE);
        assert_eq!(sessions.session_id("a", 39 * MINUTE), visit);
        assert_ne!(sessions.session_id("a", 2 * MINUTE), visit);
        assert_eq!(sessions.session_id("a", 69 * MINUTE), visit);
    }

    #[test]
    fn memory_follows_the_open_visits() {
        let mut sessions = Sessions::default();
        for user in 0..200_000 {
            sessions.session_id(&user.to_string(), user * 1_000_000);
        }
        // 3600 users were seen within two gaps
        assert!(
            sessions.open.len() < 3 * 3_600 + 1_024,
            "{} visits kept",
            sessions.open.len()
        );
    }
}
