//! How long records took to become visible, over the last few seconds. Pure: times are arguments.

use std::collections::{HashMap, VecDeque};

use hdrhistogram::Histogram;

/// Seconds that the figures cover.
pub const COVERED: usize = 10;

/// Sightings of a partition that are remembered: five seconds at one each 5 ms.
const SIGHTINGS: usize = 1_000;

/// Records of a partition that wait to become visible; beyond it the oldest are forgotten.
const PENDING: usize = 50_000;

/// The longest latency told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Half and nearly all records were visible within these times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// Matches records with the moments at which PostgreSQL was seen to be past them.
pub struct Recent {
    partitions: HashMap<i32, Partition>,
    seconds: VecDeque<Histogram<u64>>,
}

#[derive(Default)]
struct Partition {
    /// (offset, time stamp in microseconds) of records that are not visible yet, in offset order.
    pending: VecDeque<(i64, i64)>,
    /// (next offset, when it was seen first, in microseconds), both rising.
    sightings: VecDeque<(i64, i64)>,
}

impl Recent {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self {
            partitions: HashMap::new(),
            seconds: VecDeque::from([empty()]),
        }
    }

    /// A record of the log, with its time stamp in microseconds.
    pub fn produced(&mut self, partition: i32, offset: i64, stamp: i64) {
        let found = self.partitions.entry(partition).or_default();
        // visible before this side read it from the log: the sighting tells when
        let passed = found.sightings.partition_point(|(next, _)| *next <= offset);
        if let Some((_, seen)) = found.sightings.get(passed) {
            // the oldest sighting that is remembered may be later than the first one that passed
            // the record
            if passed > 0 || found.sightings.len() < SIGHTINGS {
                let waited = seen - stamp;
                self.note(waited);
            }
            return;
        }
        found.pending.push_back((offset, stamp));
        if found.pending.len() > PENDING {
            found.pending.pop_front();
        }
    }

    /// At `now` (microseconds) everything of the partition below `next` was visible.
    pub fn seen(&mut self, partition: i32, next: i64, now: i64) {
        let found = self.partitions.entry(partition).or_default();
        if found
            .sightings
            .back()
            .is_some_and(|(last, _)| *last >= next)
        {
            return;
        }
        let first = found.sightings.is_empty();
        found.sightings.push_back((next, now));
        if found.sightings.len() > SIGHTINGS {
            found.sightings.pop_front();
        }
        let visible = found.pending.partition_point(|(offset, _)| *offset < next);
        let waited: Vec<i64> = found
            .pending
            .drain(..visible)
            .map(|(_, stamp)| now - stamp)
            .collect();
        // what was there before the first look became visible nobody knows when
        if !first {
            waited.into_iter().for_each(|waited| self.note(waited));
        }
    }

    /// The figures of the last seconds, and a new second begins; `None` when nothing became visible
    /// in them.
    pub fn next_second(&mut self) -> Option<Latency> {
        let mut all = empty();
        for second in &self.seconds {
            all.add(second)
                .expect("the histograms have the same bounds");
        }
        self.seconds.push_back(empty());
        if self.seconds.len() > COVERED {
            self.seconds.pop_front();
        }
        (!all.is_empty()).then(|| Latency {
            p50: all.value_at_quantile(0.5),
            p99: all.value_at_quantile(0.99),
        })
    }

    fn note(&mut self, waited: i64) {
        // two clocks of one machine, one of them in whole milliseconds
        let waited = u64::try_from(waited).unwrap_or(0);
        if let Some(second) = self.seconds.back_mut() {
            second.saturating_record(waited);
        }
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at an empty log, then `Recent` measures.
    fn measuring() -> Recent {
        let mut recent = Recent::new();
        recent.seen(0, 0, 0);
        recent
    }

    fn close(actual: u64, expected: u64) -> bool {
        actual.abs_diff(expected) * 50 <= expected
    }

    #[test]
    fn a_record_takes_from_its_stamp_to_the_sighting_that_passes_it() {
        let mut recent = measuring();
        recent.produced(0, 0, 1_000);
        recent.seen(0, 1, 5_000);
        let latency = recent.next_second().expect("one record");
        assert!(close(latency.p50, 4_000), "{latency:?}");
    }

    #[test]
    fn a_record_that_is_read_after_it_was_seen_counts_by_the_first_sighting() {
        let mut recent = measuring();
        recent.seen(0, 1, 5_000);
        recent.seen(0, 2, 90_000);
        recent.produced(0, 0, 1_000);
        let latency = recent.next_second().expect("one record");
        assert!(close(latency.p50, 4_000), "{latency:?}");
    }

    #[test]
    fn partitions_are_matched_apart() {
        let mut recent = measuring();
        recent.seen(1, 0, 0);
        recent.produced(1, 0, 1_000);
        recent.seen(0, 1, 5_000);
        assert_eq!(recent.next_second(), None);
    }

    #[test]
    fn what_was_visible_before_the_first_look_is_not_measured() {
        let mut recent = Recent::new();
        recent.produced(0, 0, 1_000);
        recent.seen(0, 1, 999_000_000);
        assert_eq!(recent.next_second(), None);
    }

    #[test]
    fn figures_are_forgotten_after_the_covered_seconds() {
        let mut recent = measuring();
        recent.produced(0, 0, 1_000);
        recent.seen(0, 1, 5_000);
        let told = (0..COVERED + 5)
            .filter(|_| recent.next_second().is_some())
            .count();
        assert_eq!(told, COVERED);
    }
}
