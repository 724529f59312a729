//! How far a partition's event time has come.
//!
//! `T` is the running maximum of the median of the last 31 event times of a partition's valid
//! records. It is a function of the partition's log prefix and of nothing else: an outage, a
//! restart or a slow sink makes no event late. A handful of events dated far ahead moves the median
//! by nothing; a night without traffic costs 16 events until `T` follows.

use crate::event::EventTime;

/// How many event times the median looks at. Odd, so that the median is one of them.
pub const MEDIAN_OF: usize = 31;
/// Position of the median among [`MEDIAN_OF`] sorted times.
const MIDDLE: usize = MEDIAN_OF / 2;
/// Stands for "no event yet": earlier than every accepted event time.
const ABSENT: i64 = i64::MIN;

/// The last 31 event times of one partition and the `T` that follows from its whole prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventClock {
    /// Event times in log order, in microseconds, as a ring; `head` is the oldest.
    ring: [i64; MEDIAN_OF],
    head: usize,
    /// The same times in ascending order.
    sorted: [i64; MEDIAN_OF],
    t: Option<EventTime>,
}

impl Default for EventClock {
    fn default() -> Self {
        Self {
            ring: [ABSENT; MEDIAN_OF],
            head: 0,
            sorted: [ABSENT; MEDIAN_OF],
            t: None,
        }
    }
}

impl EventClock {
    /// Takes a stored clock up again. `times` are the last event times in log order (at most 31,
    /// the newest are kept).
    pub fn restore(t: Option<EventTime>, times: &[EventTime]) -> Self {
        let mut clock = Self::default();
        for time in &times[times.len().saturating_sub(MEDIAN_OF)..] {
            clock.push(time.micros());
        }
        clock.t = t;
        clock
    }

    /// Counts the event time of one more valid record, duplicate and late ones included.
    pub fn observe(&mut self, time: EventTime) {
        self.push(time.micros());
        let median = self.sorted[MIDDLE];
        if median != ABSENT {
            let median = EventTime::from_micros(median);
            self.t = Some(self.t.map_or(median, |t| t.max(median)));
        }
    }

    /// `T`, absent until the 16th valid record.
    pub fn t(&self) -> Option<EventTime> {
        self.t
    }

    /// `T - delay`: no event older than this is still expected.
    pub fn watermark(&self, delay_micros: i64) -> Option<EventTime> {
        self.t
            .map(|t| EventTime::from_micros(t.micros() - delay_micros))
    }

    /// The last event times in log order, oldest first, as a checkpoint stores them.
    pub fn times(&self) -> impl Iterator<Item = EventTime> + '_ {
        (0..MEDIAN_OF)
            .map(|i| self.ring[(self.head + i) % MEDIAN_OF])
            .filter(|&micros| micros != ABSENT)
            .map(EventTime::from_micros)
    }

    fn push(&mut self, new: i64) {
        let old = std::mem::replace(&mut self.ring[self.head], new);
        self.head = (self.head + 1) % MEDIAN_OF;
        let at = self.sorted.partition_point(|&x| x < old);
        let to = self.sorted.partition_point(|&x| x < new);
        // shift what lies between the place that becomes free and the place that is needed
        if to > at {
            self.sorted.copy_within(at + 1..to, at);
            self.sorted[to - 1] = new;
        } else {
            self.sorted.copy_within(to..at, to + 1);
            self.sorted[to] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    /// The rule of the design, word for word: sort the last 31, the missing ones first.
    fn t_by_the_book(prefix: &[i64]) -> Option<i64> {
        let mut t: Option<i64> = None;
        for end in 1..=prefix.len() {
            let last = &prefix[end.saturating_sub(31)..end];
            let mut padded = vec![None; 31 - last.len()];
            padded.extend(last.iter().copied().map(Some));
            padded.sort();
            t = t.max(padded[15]);
        }
        t
    }

    #[test]
    fn t_begins_with_the_sixteenth_event() {
        let mut clock = EventClock::default();
        for i in 0..15 {
            clock.observe(time(1_000 + i));
            assert_eq!(clock.t(), None);
        }
        clock.observe(time(2_000));
        assert_eq!(clock.t(), Some(time(1_000)));
    }

    #[test]
    fn fifteen_events_dated_fifty_days_ahead_move_nothing() {
        let mut clock = EventClock::default();
        for i in 0..100 {
            clock.observe(time(i));
        }
        let before = clock.t();
        for _ in 0..15 {
            clock.observe(time(50 * 86_400_000_000));
        }
        assert!(clock.t() <= Some(time(99)));
        assert!(clock.t() >= before);
    }

    proptest! {
        #[test]
        fn t_is_the_function_of_the_prefix_that_the_design_states(times in proptest::collection::vec(-1_000i64..1_000, 0..120)) {
            let mut clock = EventClock::default();
            for &t in &times {
                clock.observe(time(t));
            }
            prop_assert_eq!(clock.t().map(EventTime::micros), t_by_the_book(&times));
        }

        #[test]
        fn the_watermark_never_moves_back(times in proptest::collection::vec(any::<i32>(), 0..200)) {
            let mut clock = EventClock::default();
            for &t in &times {
                let before = clock.watermark(10);
                clock.observe(time(i64::from(t)));
                prop_assert!(clock.watermark(10) >= before);
            }
        }

        #[test]
        fn a_restored_clock_goes_on_exactly_where_it_stopped(
            times in proptest::collection::vec(any::<i32>(), 0..100), cut in 0usize..100
        ) {
            let cut = cut.min(times.len());
            let mut whole = EventClock::default();
            let mut stopped = EventClock::default();
            for &t in &times[..cut] {
                whole.observe(time(i64::from(t)));
                stopped.observe(time(i64::from(t)));
            }
            let saved: Vec<_> = stopped.times().collect();
            let mut resumed = EventClock::restore(stopped.t(), &saved);
            for &t in &times[cut..] {
                whole.observe(time(i64::from(t)));
                resumed.observe(time(i64::from(t)));
            }
            prop_assert_eq!(whole.t(), resumed.t());
            prop_assert!(whole.times().eq(resumed.times()));
        }
    }
}
