//! After an upgrade of the operator all pipelines want new pods. They get them a few at a time, so that a bad release stops at
//! the first pipelines that it breaks.

use std::collections::BTreeSet;

use parking_lot::Mutex;

/// The pipelines that roll because of the operator, not because of a person.
pub struct Upgrades {
    at_once: usize,
    rolling: Mutex<BTreeSet<String>>,
}

impl Upgrades {
    /// So many may roll at once; 0 counts as 1.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once: at_once.max(1),
            rolling: Mutex::default(),
        }
    }

    /// Asks for a place; one that was given stays until [`Upgrades::done`].
    pub fn may_roll(&self, uid: &str) -> bool {
        let mut rolling = self.rolling.lock();
        if rolling.contains(uid) {
            return true;
        }
        if rolling.len() >= self.at_once {
            return false;
        }
        rolling.insert(uid.to_owned())
    }

    /// Gives the place back: the pipeline is Ready with its new pods, or gone.
    pub fn done(&self, uid: &str) {
        self.rolling.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::Upgrades;

    #[test]
    fn the_next_rolls_only_when_the_one_before_is_ready() {
        let upgrades = Upgrades::new(1);
        assert!(upgrades.may_roll("a"));
        assert!(upgrades.may_roll("a"));
        assert!(!upgrades.may_roll("b"));
        upgrades.done("a");
        assert!(upgrades.may_roll("b"));
    }
}
