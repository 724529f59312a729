//! What speaks for a program instead of a visitor: a set of signals, none of which is a verdict.

mod list;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde::{Deserialize, Serialize};

/// The user agent holds a word of the list.
pub const LISTED: u8 = 1;
/// There is no user agent, or an empty one.
pub const NO_AGENT: u8 = 2;
/// The user agent names a browser without a screen.
pub const HEADLESS: u8 = 4;

/// A version of the list of words. An anchor keeps it, so an audit finds the bots that were found
/// then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum BotList {
    /// The list of the first release that had one.
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

/// Finds the words of a list, compiled once. No cache of agents: it takes longer to look an agent up in one
/// than to look for the words.
#[derive(Clone, Debug)]
pub(crate) struct Bots {
    words: AhoCorasick,
    signals: &'static [(&'static str, u8)],
}

impl Bots {
    pub(crate) fn new(list: BotList) -> Self {
        let signals = match list {
            BotList::First => list::FIRST,
        };
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .build(signals.iter().map(|(word, _)| word))
            .expect("a few hundred short words stay below any limit");
        Self { words, signals }
    }

    /// The signals of a user agent.
    pub(crate) fn signals(&self, agent: Option<&str>) -> u8 {
        match agent.map(str::trim) {
            None | Some("" | "-") => NO_AGENT,
            Some(agent) => self
                .words
                .find_iter(agent)
                .map(|found| self.signals[found.pattern().as_usize()].1)
                .fold(0, |all, signal| all | signal),
        }
    }
}

#[cfg(test)]
mod tests;
