//! The fingerprint filter: which rows are surely new, in bounded memory.
//!
//! It is an accelerator only. A row that it calls new goes to PostgreSQL by COPY, everything else
//! is a suspect and goes through `insert .. on conflict`; the primary key verifies both, so a wrong
//! answer costs time and never a row.
//!
//! Two generations of 32-bit fingerprints in open addressing, looked at in one cache line each in
//! the usual case. When the young generation is three quarters full the old one is forgotten and
//! they change places, so the filter always remembers between 3/8 and 3/4 of its slots: with the
//! default of 32 MiB, the last 3 to 6 million ids.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use crate::event::Day;

/// Bytes of one slot.
const SLOT_BYTES: usize = size_of::<u32>();
/// An empty slot; fingerprints are never 0.
const EMPTY: u32 = 0;

/// Remembers recently seen (event id, day) keys by fingerprint.
pub struct FingerprintFilter {
    hasher: FixedState,
    young: Generation,
    old: Generation,
    forgotten: u64,
}

struct Generation {
    /// A power of two of slots; zeroed memory that the system hands out page by page as it is
    /// touched.
    slots: Vec<u32>,
    used: usize,
}

impl FingerprintFilter {
    /// A filter that takes at most `bytes` of memory (at least 2 KiB; rounded down to a power of
    /// two a generation). `seed` keeps chosen ids from colliding on purpose: take it from the
    /// system's random source.
    pub fn new(bytes: usize, seed: u64) -> Self {
        let slots = (bytes / 2 / SLOT_BYTES).max(256);
        let slots = 1 << slots.ilog2();
        Self {
            hasher: FixedState::with_seed(seed),
            young: Generation::new(slots),
            old: Generation::new(slots),
            forgotten: 0,
        }
    }

    /// Keys that are remembered.
    pub fn remembered(&self) -> usize {
        self.young.used + self.old.used
    }

    /// Keys that are remembered at most; from then on the older half goes in one piece.
    pub fn capacity(&self) -> usize {
        2 * self.young.most()
    }

    /// How often an older half was forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Remembers the key and tells whether it is surely new: not seen among the ids still
    /// remembered.
    pub fn is_new(&mut self, event_id: u128, day: Day) -> bool {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u128(event_id);
        hasher.write_i32(day.days());
        let hash = hasher.finish();
        if self.young.contains(hash) {
            return false;
        }
        let known = self.old.contains(hash);
        if self.young.is_full() {
            std::mem::swap(&mut self.young, &mut self.old);
            self.forgotten += u64::from(self.young.used > 0);
            self.young.clear();
        }
        self.young.insert(hash);
        !known
    }
}

impl Generation {
    fn new(slots: usize) -> Self {
        Self {
            slots: vec![EMPTY; slots],
            used: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.used >= self.most()
    }

    fn most(&self) -> usize {
        self.slots.len() / 4 * 3
    }

    fn contains(&self, hash: u64) -> bool {
        let (mut at, print) = self.place(hash);
        loop {
            match self.slots[at] {
                EMPTY => return false,
                found if found == print => return true,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    fn insert(&mut self, hash: u64) {
        let (mut at, print) = self.place(hash);
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = print;
        self.used += 1;
    }

    fn clear(&mut self) {
        // fresh zero pages rather than a memset: a quiet processor gives the memory back
        self.slots = vec![EMPTY; self.slots.len()];
        self.used = 0;
    }

    /// Slot from the low bits, fingerprint from the high ones.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each takes its own part of the hash"
    )]
    fn place(&self, hash: u64) -> (usize, u32) {
        let print = (hash >> 32) as u32;
        (
            (hash as usize) & (self.slots.len() - 1),
            if print == EMPTY { 1 } else { print },
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(bytes: usize) -> FingerprintFilter {
        FingerprintFilter::new(bytes, 7)
    }

    #[test]
    fn the_same_id_on_another_day_is_new() {
        let mut f = filter(4096);
        assert!(f.is_new(5, Day::from_days(1)));
        assert!(!f.is_new(5, Day::from_days(1)));
        assert!(f.is_new(5, Day::from_days(2)));
    }

    #[test]
    fn memory_stays_bounded_and_recent_ids_stay_known_however_many_come() {
        let mut f = filter(64 * 1024);
        let slots = f.young.slots.len();
        for id in 0..200_000u128 {
            f.is_new(id, Day::from_days(0));
            if id >= 1_000 {
                assert!(
                    !f.is_new(id - 1_000, Day::from_days(0)),
                    "forgot an id seen 1,000 ids ago"
                );
            }
            assert!(f.remembered() <= f.capacity());
        }
        // half the capacity goes each time; a key that is met again in the older half is kept in
        // both
        let lost = 200_000 - f.remembered();
        assert!(f.forgotten() >= (lost / (f.capacity() / 2)) as u64);
        assert_eq!(f.young.slots.len() + f.old.slots.len(), 2 * slots);
    }

    proptest! {
        #[test]
        fn a_remembered_id_is_never_called_new(ids in proptest::collection::vec(any::<u128>(), 1..300)) {
            let mut f = filter(64 * 1024);
            let mut seen = std::collections::HashSet::new();
            for id in ids {
                let new = f.is_new(id, Day::from_days(3));
                prop_assert!(!new || seen.insert(id), "called new twice");
            }
        }
    }
}
