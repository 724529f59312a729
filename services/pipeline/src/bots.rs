//! What speaks for a program instead of a visitor: a set of signals, none of which is a verdict.

mod list;
mod matcher;

use std::{collections::HashMap, fmt, sync::Mutex};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use matcher::Matcher;

/// The user agent names a program of the list.
pub const LISTED: u8 = 1;
/// There is no user agent, or an empty one.
pub const NO_AGENT: u8 = 2;
/// The user agent names a browser without a screen, or one that a program drives.
pub const HEADLESS: u8 = 4;

/// A version of the list. An anchor keeps it, so an audit finds the bots that were found
/// then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum BotList {
    /// `crawler-user-agents` 1.60.0 without what people's user agents contain, and this project's
    /// own words.
    First = 1,
}

/// A list of a release that this one does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {0} of the list of bots is of a later release: use that release")]
pub struct UnknownList(u8);

impl BotList {
    /// The newest one.
    pub const NEWEST: Self = Self::First;
}

impl TryFrom<u8> for BotList {
    type Error = UnknownList;

    fn try_from(number: u8) -> Result<Self, UnknownList> {
        match number {
            1 => Ok(Self::First),
            other => Err(UnknownList(other)),
        }
    }
}

impl From<BotList> for u8 {
    fn from(list: BotList) -> Self {
        list as u8
    }
}

/// User agents whose signals are remembered; of at most 1 KiB each.
const MOST_KNOWN: usize = 2_048;

/// What was found for user agents, in two halves: the older one is forgotten when the newer one is
/// full, so those that go on coming stay known.
#[derive(Default)]
struct Known {
    newer: HashMap<Box<str>, u8, RandomState>,
    older: HashMap<Box<str>, u8, RandomState>,
}

impl Known {
    fn get_or(&mut self, agent: &str, find: impl FnOnce() -> u8) -> u8 {
        if let Some(&signals) = self.newer.get(agent) {
            return signals;
        }
        let signals = match self.older.get(agent) {
            Some(&signals) => signals,
            None => find(),
        };
        if self.newer.len() >= MOST_KNOWN / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(agent.into(), signals);
        signals
    }
}

/// The signals of a user agent by a list: a set of [`LISTED`], [`NO_AGENT`] and [`HEADLESS`].
#[must_use]
pub fn signals(list: BotList, agent: Option<&str>) -> u8 {
    known(agent).map_or(NO_AGENT, |agent| Matcher::of(list).signals(agent))
}

/// A user agent that says something.
fn known(agent: Option<&str>) -> Option<&str> {
    let agent = agent?.trim();
    (!matches!(agent, "" | "-")).then_some(agent)
}

/// Finds the signals of user agents, each of them once: most events have one that others had
/// before.
pub(crate) struct Bots {
    matcher: &'static Matcher,
    known: Mutex<Known>,
}

impl Bots {
    pub(crate) fn new(list: BotList) -> Self {
        Self {
            matcher: Matcher::of(list),
            known: Mutex::default(),
        }
    }

    /// The signals of a user agent.
    pub(crate) fn signals(&self, agent: Option<&str>) -> u8 {
        let Some(agent) = known(agent) else {
            return NO_AGENT;
        };
        let find = || self.matcher.signals(agent);
        match self.known.try_lock() {
            Ok(mut known) => known.get_or(agent, find),
            // a thread that would have to wait looks for itself instead: the answer is the same
            Err(_) => find(),
        }
    }
}

impl Clone for Bots {
    /// Finds the same, and knows no agent yet.
    fn clone(&self) -> Self {
        Self {
            matcher: self.matcher,
            known: Mutex::default(),
        }
    }
}

impl fmt::Debug for Bots {
    /// Says nothing of the agents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bots").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
