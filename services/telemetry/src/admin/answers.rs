//! What is known of tokens that somebody else judges, and when that one is asked. Pure: the time is
//! an argument.
//!
//! Whoever is let in is asked about once a minute, whoever is not once in ten seconds. Tokens that
//! nobody knows cost an allowance, so that a flood of them is no flood for the judge; a token that
//! was let in before costs none, and goes on through such a flood, itself asked about once a second
//! at most. While the judge does not answer, whoever was let in by its last word stays so for five
//! minutes: that is when numbers are looked at.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What the judge says of a token and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// May read it.
    Allowed,
    /// Nobody that is known.
    Unknown,
    /// Somebody, who may not.
    Forbidden {
        /// Who.
        who: String,
    },
}

/// How long a word holds for who is let in.
pub(super) const ALLOWED_FOR: Duration = Duration::from_secs(60);
/// How long for who is not.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long for who was let in, while the judge does not answer.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(300);
/// Questions about tokens that are not known, at once.
pub(super) const BURST: u32 = 20;
/// One more after this time; and so soon the judge is asked again about who was let in.
const EACH: Duration = Duration::from_secs(1);
/// Tokens that are remembered.
pub(super) const MOST: usize = 256;

/// A digest of token and path.
pub(super) type Key = [u8; 32];

#[derive(Debug)]
struct Word {
    decision: Decision,
    since: Instant,
    /// When it was last asked again.
    asked: Option<Instant>,
}

impl Word {
    fn holds(&self, now: Instant) -> bool {
        let long = match self.decision {
            Decision::Allowed => ALLOWED_FOR,
            _ => REFUSED_FOR,
        };
        now.saturating_duration_since(self.since) < long
    }

    fn is_of_use(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        self.holds(now) || (self.decision == Decision::Allowed && age < SILENT_FOR)
    }
}

/// What to do about a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its word still holds.
    Known(Decision),
    /// The judge is to be asked.
    Ask,
    /// Too many tokens that nobody knows: not now.
    Later,
}

/// What is known.
#[derive(Debug)]
pub(super) struct Answers {
    words: HashMap<Key, Word>,
    /// Questions about unknown tokens that may be asked now.
    allowance: u32,
    /// Since when the allowance has grown by none.
    counted: Instant,
}

impl Answers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            words: HashMap::new(),
            allowance: BURST,
            counted: now,
        }
    }

    /// What to do about this token now.
    pub(super) fn step(&mut self, key: &Key, now: Instant) -> Step {
        match self.words.get_mut(key) {
            Some(word) if word.holds(now) => return Step::Known(word.decision.clone()),
            Some(word) if word.is_of_use(now) => {
                let ago = word.asked.map(|at| now.saturating_duration_since(at));
                if ago.is_some_and(|ago| ago < EACH) {
                    // the judge is being asked, or has just not answered
                    return Step::Known(word.decision.clone());
                }
                word.asked = Some(now);
                return Step::Ask;
            }
            _ => {}
        }
        self.grow(now);
        match self.allowance.checked_sub(1) {
            Some(left) => {
                self.allowance = left;
                Step::Ask
            }
            None => Step::Later,
        }
    }

    /// The judge has spoken.
    pub(super) fn learn(&mut self, key: Key, decision: Decision, now: Instant) {
        if decision == Decision::Allowed && !self.words.contains_key(&key) {
            // it was none of the flood
            self.allowance = (self.allowance + 1).min(BURST);
        }
        if self.words.len() >= MOST && !self.words.contains_key(&key) {
            self.words.retain(|_, word| word.is_of_use(now));
            if !self.has_room_for(&decision) {
                return;
            }
        }
        let word = Word {
            decision,
            since: now,
            asked: None,
        };
        self.words.insert(key, word);
    }

    /// The judge does not answer: who was let in before, and not long ago, still is.
    pub(super) fn without_judge(&self, key: &Key, now: Instant) -> Option<Decision> {
        let word = self.words.get(key)?;
        word.is_of_use(now).then(|| word.decision.clone())
    }

    fn grow(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted);
        let more = u32::try_from(passed.as_nanos() / EACH.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            self.allowance = self.allowance.saturating_add(more).min(BURST);
            self.counted = now;
        }
    }

    /// Makes room: the oldest of the refused ones goes, or of all where none is. No refused one
    /// takes the place of one that was let in; asking about it again costs an allowance.
    fn has_room_for(&mut self, decision: &Decision) -> bool {
        if self.words.len() < MOST {
            return true;
        }
        let oldest = self
            .words
            .iter()
            .map(|(key, word)| (word.decision == Decision::Allowed, word.since, *key))
            .min();
        match oldest {
            Some((true, ..)) if *decision != Decision::Allowed => false,
            Some((.., key)) => self.words.remove(&key).is_some(),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&of.to_be_bytes());
        key
    }

    fn forbidden() -> Decision {
        Decision::Forbidden {
            who: "somebody".to_owned(),
        }
    }

    #[test]
    fn a_word_holds_for_its_time_and_then_the_judge_is_asked_again() {
        let start = Instant::now();
        let cases = [
            (Decision::Allowed, ALLOWED_FOR),
            (Decision::Unknown, REFUSED_FOR),
            (forbidden(), REFUSED_FOR),
        ];
        for (decision, long) in cases {
            let mut answers = Answers::new(start);
            assert_eq!(answers.step(&key(1), start), Step::Ask);
            answers.learn(key(1), decision.clone(), start);
            let last = start + long - Duration::from_millis(1);
            assert_eq!(answers.step(&key(1), last), Step::Known(decision));
            assert_eq!(answers.step(&key(1), start + long), Step::Ask);
            // of another token, or another path, nothing is known
            assert_eq!(answers.step(&key(2), start), Step::Ask);
        }
    }

    #[test]
    fn a_flood_of_unknown_tokens_is_none_for_the_judge_and_who_was_let_in_goes_on() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        assert_eq!(answers.step(&key(0), start), Step::Ask);
        answers.learn(key(0), Decision::Allowed, start);
        let mut asked = 0;
        for second in 0..100u32 {
            let now = start + Duration::from_secs(second.into());
            for of in 0..1_000usize {
                let of = key(1 + second as usize * 1_000 + of);
                if answers.step(&of, now) == Step::Ask {
                    asked += 1;
                    answers.learn(of, Decision::Unknown, now);
                }
            }
            match answers.step(&key(0), now) {
                Step::Known(decision) => assert_eq!(decision, Decision::Allowed),
                Step::Ask => answers.learn(key(0), Decision::Allowed, now),
                Step::Later => panic!("kept out after {second} s"),
            }
        }
        assert_eq!(asked, BURST + 99);
        assert!(answers.words.len() <= MOST, "{}", answers.words.len());
    }

    #[test]
    fn the_number_of_words_is_bounded_and_refused_ones_make_room_first() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        answers.learn(key(0), Decision::Allowed, start);
        for of in 1..10 * MOST {
            answers.learn(key(of), Decision::Unknown, start);
        }
        assert_eq!(answers.words.len(), MOST);
        assert_eq!(answers.step(&key(0), start), Step::Known(Decision::Allowed));
        for of in 0..10 * MOST {
            answers.learn(key(of), Decision::Allowed, start);
        }
        assert_eq!(answers.words.len(), MOST);
        // where all who are remembered were let in, a flood of others takes none of their places
        let later = start + ALLOWED_FOR;
        for of in 0..10 * MOST {
            answers.learn(key(20 * MOST + of), Decision::Unknown, later);
        }
        let mut words = answers.words.values();
        assert!(words.all(|word| word.decision == Decision::Allowed));
    }

    #[test]
    fn a_token_that_was_let_in_is_asked_about_once_a_second_however_often_it_comes() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        answers.learn(key(0), Decision::Allowed, start);
        let mut asked = 0;
        // its word has ended, and the judge does not answer
        for tenth in 0..100 {
            let now = start + ALLOWED_FOR + Duration::from_millis(100 * tenth);
            match answers.step(&key(0), now) {
                Step::Ask => asked += 1,
                step => assert_eq!(step, Step::Known(Decision::Allowed)),
            }
            assert_eq!(answers.without_judge(&key(0), now), Some(Decision::Allowed));
        }
        assert_eq!(asked, 10);
        // what comes between is no answer
        let end = start + SILENT_FOR;
        assert_eq!(answers.step(&key(0), end), Step::Ask);
        assert_eq!(answers.without_judge(&key(0), end), None);
    }

    #[test]
    fn without_a_judge_who_was_let_in_stays_so_for_a_while_and_nobody_else() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        answers.learn(key(1), Decision::Allowed, start);
        answers.learn(key(2), Decision::Unknown, start);
        let later = start + ALLOWED_FOR;
        assert_eq!(answers.step(&key(1), later), Step::Ask);
        assert_eq!(
            answers.without_judge(&key(1), later),
            Some(Decision::Allowed)
        );
        for of in [2, 3] {
            assert_eq!(answers.without_judge(&key(of), later), None);
        }
        assert_eq!(answers.without_judge(&key(1), start + SILENT_FOR), None);
        // the judge has taken it back
        answers.learn(key(1), Decision::Unknown, later);
        assert_eq!(answers.step(&key(1), later), Step::Known(Decision::Unknown));
    }

    #[test]
    fn an_allowance_comes_back_with_time_and_to_who_was_let_in() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        for of in 0..BURST as usize {
            assert_eq!(answers.step(&key(of), start), Step::Ask);
        }
        assert_eq!(answers.step(&key(99), start), Step::Later);
        answers.learn(key(0), Decision::Allowed, start);
        assert_eq!(answers.step(&key(99), start), Step::Ask);
        assert_eq!(answers.step(&key(98), start), Step::Later);
        assert_eq!(answers.step(&key(98), start + EACH), Step::Ask);
        let long_after = start + EACH * 1_000;
        for of in 0..BURST as usize {
            assert_eq!(answers.step(&key(100 + of), long_after), Step::Ask);
        }
        assert_eq!(answers.step(&key(200), long_after), Step::Later);
    }
}
