//! Durable progress of one partition and the change that one flush makes to it.

use std::iter::Sum;
use std::ops::{AddAssign, Sub};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{offset::NextOffset, watermark::EventClock};

/// What became of a partition's records. `consumed = accepted + duplicate + rejected + late`, at
/// every instant. These are also the names in the tables, in `/status` and in reports.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Records with a value.
    pub consumed: i64,
    /// Events stored and counted.
    pub accepted: i64,
    /// Those of them that came behind the end of grace, and were counted in their own window all
    /// the same.
    pub merged: i64,
    /// Events whose id the same UTC day already holds.
    pub duplicate: i64,
    /// Records in the dead letters.
    pub rejected: i64,
    /// Events behind the end of grace that were not counted.
    pub late: i64,
    /// Tombstones, heartbeats and control records: outside `consumed`.
    pub skipped: i64,
    /// Hits that came to a window after it had been reported final.
    pub revised: i64,
}

impl Counters {
    /// Whether every consumed record is accounted for.
    pub fn conserved(&self) -> bool {
        self.consumed == self.accepted + self.duplicate + self.rejected + self.late
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.consumed += other.consumed;
        self.accepted += other.accepted;
        self.merged += other.merged;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.late += other.late;
        self.skipped += other.skipped;
        self.revised += other.revised;
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            consumed: self.consumed - before.consumed,
            accepted: self.accepted - before.accepted,
            merged: self.merged - before.merged,
            duplicate: self.duplicate - before.duplicate,
            rejected: self.rejected - before.rejected,
            late: self.late - before.late,
            skipped: self.skipped - before.skipped,
            revised: self.revised - before.revised,
        }
    }
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, counters| {
            sum += counters;
            sum
        })
    }
}

/// Where a partition stands, as the database stores it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Everything below is done.
    pub next: NextOffset,
    /// Event time as of `next`.
    pub clock: EventClock,
    /// Totals as of `next`.
    pub counters: Counters,
}

/// What one flush changes: it fits exactly one checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointDelta {
    /// The position that the flush started from.
    pub from: NextOffset,
    /// The position that it reaches.
    pub to: NextOffset,
    /// Event time at `to`.
    pub clock: EventClock,
    /// What is added to the totals.
    pub counters: Counters,
}

/// Why a delta does not fit.
#[derive(Copy, Clone, PartialEq, Eq, Error, Debug)]
pub enum IncompatibleDelta {
    /// Some of its records were already counted.
    #[error("delta starts at {from}, but everything below {next} is already done")]
    Overlap {
        /// Where the checkpoint stands.
        next: NextOffset,
        /// Where the delta starts.
        from: NextOffset,
    },
    /// Records between the two would be lost.
    #[error("delta starts at {from}, which leaves a gap after {next}")]
    Gap {
        /// Where the checkpoint stands.
        next: NextOffset,
        /// Where the delta starts.
        from: NextOffset,
    },
    /// Progress never moves back.
    #[error("delta ends at {to}, before its own start {from}")]
    Backwards {
        /// Where the delta starts.
        from: NextOffset,
        /// Where it ends.
        to: NextOffset,
    },
    /// The delta's own counters do not add up.
    #[error("delta from {from} does not account for every record that it consumed")]
    NotConserved {
        /// Where the delta starts.
        from: NextOffset,
    },
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self {
            next: NextOffset::ZERO,
            clock: EventClock::default(),
            counters: Counters::default(),
        }
    }
}

impl Checkpoint {
    /// Takes the delta over, or leaves the checkpoint as it was.
    ///
    /// # Errors
    /// [`IncompatibleDelta`] when the delta overlaps, leaves a gap, runs backwards or does not add
    /// up.
    pub fn apply(&mut self, delta: &CheckpointDelta) -> Result<(), IncompatibleDelta> {
        delta.check()?;
        if delta.from < self.next {
            return Err(IncompatibleDelta::Overlap {
                next: self.next,
                from: delta.from,
            });
        }
        if delta.from > self.next {
            return Err(IncompatibleDelta::Gap {
                next: self.next,
                from: delta.from,
            });
        }
        self.next = delta.to;
        self.clock = delta.clock.clone();
        self.counters += delta.counters;
        Ok(())
    }
}

impl CheckpointDelta {
    /// Checks what the delta can know alone.
    ///
    /// # Errors
    /// [`IncompatibleDelta::Backwards`] or [`IncompatibleDelta::NotConserved`].
    pub fn check(&self) -> Result<(), IncompatibleDelta> {
        if self.to < self.from {
            return Err(IncompatibleDelta::Backwards {
                from: self.from,
                to: self.to,
            });
        }
        if !self.counters.conserved() {
            return Err(IncompatibleDelta::NotConserved { from: self.from });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delta(from: i64, to: i64) -> CheckpointDelta {
        CheckpointDelta {
            from: NextOffset::at(from),
            to: NextOffset::at(to),
            clock: EventClock::default(),
            counters: Counters {
                consumed: to - from,
                accepted: to - from,
                ..Counters::default()
            },
        }
    }

    #[test]
    fn a_delta_whose_counters_do_not_add_up_is_refused() {
        let mut wrong = delta(0, 3);
        wrong.counters.duplicate = 1;
        assert_eq!(
            Checkpoint::default().apply(&wrong),
            Err(IncompatibleDelta::NotConserved {
                from: NextOffset::ZERO
            })
        );
    }

    proptest! {
        #[test]
        fn only_the_delta_that_starts_at_the_checkpoint_is_taken(next in 0i64..100, from in 0i64..100, len in -5i64..100) {
            let mut checkpoint = Checkpoint { next: NextOffset::at(next), ..Checkpoint::default() };
            let before = checkpoint.clone();
            let mut d = delta(from, from + len);
            if len < 0 { d.counters = Counters::default(); }
            let result = checkpoint.apply(&d);
            if len < 0 {
                let refused = matches!(result, Err(IncompatibleDelta::Backwards { .. }));
                prop_assert!(refused, "got {:?}", result);
            } else if from < next {
                let refused = matches!(result, Err(IncompatibleDelta::Overlap { .. }));
                prop_assert!(refused, "got {:?}", result);
            } else if from > next {
                let refused = matches!(result, Err(IncompatibleDelta::Gap { .. }));
                prop_assert!(refused, "got {:?}", result);
            } else {
                prop_assert_eq!(result, Ok(()));
                prop_assert_eq!(checkpoint.next.get(), next + len);
                prop_assert_eq!(checkpoint.counters.consumed, len);
            }
            if result.is_err() {
                prop_assert_eq!(checkpoint, before);
            }
        }
    }
}
