//! A list, compiled: the words of this project, and the patterns of `crawler-user-agents`.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use super::list::{NARROWED, WORDS};
use super::{BotList, HEADLESS, LISTED};

/// The patterns of `crawler-user-agents`, as `cargo xtask bots` writes them.
pub(super) const PATTERNS: &str = include_str!("crawler-user-agents/patterns.txt");

/// Finds what a list knows.
pub(super) struct Matcher {
    /// Words, in whatever case. Where they overlap, the one that begins first counts, and the
    /// longest of those.
    words: AhoCorasick,
    /// Programs.
    named: Patterns,
    /// Browsers that programs drive.
    driven: Patterns,
}

/// Patterns of one kind, for which one look at a text is enough.
struct Patterns {
    /// Nearly all of them stand for a single text, in its own case.
    texts: AhoCorasick,
    /// Those with classes and anchors.
    others: Option<Regex>,
}

/// Compiled by the first pipeline of the process that marks bots.
static FIRST: LazyLock<Matcher> = LazyLock::new(Matcher::first);

impl Matcher {
    /// That of a version.
    pub(super) fn of(list: BotList) -> &'static Self {
        match list {
            BotList::First => &FIRST,
        }
    }

    fn first() -> Self {
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .build(WORDS.iter().map(|(word, _)| word))
            .expect("a few hundred short words stay below any limit");
        let of = |wanted| {
            let listed = listed().filter(|(signal, _)| *signal == wanted);
            Patterns::new(listed.filter_map(|(_, pattern)| narrowed(pattern)))
        };
        Self {
            words,
            named: of(LISTED),
            driven: of(HEADLESS),
        }
    }

    /// The signals that a user agent is.
    pub(super) fn signals(&self, agent: &str) -> u8 {
        let words = self.words.find_iter(agent);
        let words = words.map(|found| WORDS[found.pattern().as_usize()].1);
        let mut signals = words.fold(0, |all, signal| all | signal);
        if self.named.are_in(agent) {
            signals |= LISTED;
        }
        if self.driven.are_in(agent) {
            signals |= HEADLESS;
        }
        signals
    }

    /// Bytes that the automata for texts take.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let all = [&self.words, &self.named.texts, &self.driven.texts];
        all.into_iter().map(AhoCorasick::memory_usage).sum()
    }
}

impl Patterns {
    fn new<'p>(patterns: impl Iterator<Item = &'p str>) -> Self {
        let (mut texts, mut others) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match plain(pattern) {
                Some(text) => texts.push(text),
                None => others.push(format!("(?:{pattern})")),
            }
        }
        // less than a mebibyte; its DFA would take several
        let texts = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(texts)
            .expect("some thousand short texts stay below any limit");
        // user agents are ASCII but for a few: a class is one of bytes
        let others = (!others.is_empty()).then(|| {
            RegexBuilder::new(&others.join("|"))
                .unicode(false)
                .build()
                .expect("a test compiles the patterns of every version")
        });
        Self { texts, others }
    }

    fn are_in(&self, agent: &str) -> bool {
        let others = self.others.as_ref();
        self.texts.is_match(agent) || others.is_some_and(|others| others.is_match(agent.as_bytes()))
    }
}

/// The patterns of `crawler-user-agents` with their signals.
pub(super) fn listed() -> impl Iterator<Item = (u8, &'static str)> {
    PATTERNS
        .lines()
        .filter_map(|line| match line.split_once(' ')? {
            ("named", pattern) => Some((LISTED, pattern)),
            ("driven", pattern) => Some((HEADLESS, pattern)),
            _ => None,
        })
}

/// The pattern that is looked for in a pattern's place; `None`: none is.
fn narrowed(pattern: &'static str) -> Option<&'static str> {
    NARROWED
        .iter()
        .find(|(of_package, _)| *of_package == pattern)
        .map_or(Some(pattern), |(_, instead)| *instead)
}

/// The text that a pattern stands for, if it stands for a single one.
fn plain(pattern: &str) -> Option<String> {
    let pattern = pattern.replace("\\x20", " ");
    let mut text = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(char::is_ascii_punctuation)?),
            '^' | '$' | '.' | '|' | '?' | '*' | '+' | '(' | ')' | '[' | ']' | '{' | '}' => {
                return None;
            }
            other => text.push(other),
        }
    }
    Some(text)
}
