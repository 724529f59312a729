//! What retention may have taken away, and so cannot be missed.

use std::{collections::BTreeSet, time::Instant};

use clickstream_pipeline::{
    event::{Day, EventTime, MICROS_PER_DAY},
    spec::{Duration, RetentionSpec},
    window::Window,
};

/// How far the clock of a processor, by which rows expire, may be ahead of the server's.
const MARGIN_MICROS: i64 = 3_600_000_000;

/// The bounds of what must be there. They move on while the audit runs, since retention goes on as
/// well.
#[derive(Clone, Debug)]
pub struct Retained {
    taken_at: EventTime,
    taken: Instant,
    days: BTreeSet<Day>,
    /// Whether retention has ever dropped a row of an event.
    dropped: bool,
    spec: RetentionSpec,
}

impl Retained {
    /// As of `now`: `days` have a partition of their own, and `dropped` says whether any row has
    /// expired so far.
    pub fn new(now: EventTime, days: BTreeSet<Day>, dropped: bool, spec: &RetentionSpec) -> Self {
        Self {
            taken_at: now,
            taken: Instant::now(),
            days,
            dropped,
            spec: spec.clone(),
        }
    }

    /// Whether a day's rows may have been dropped.
    pub fn day_is_gone(&self, day: Day) -> bool {
        if self.days.contains(&day) {
            return false;
        }
        // retention drops from the oldest on, whatever it is set to by now
        let before_all = self.dropped && self.days.first().is_none_or(|first| day < *first);
        before_all || self.day_is_past(day)
    }

    /// Whether rows of a day may have been dropped before those came that are there now. Until the
    /// next upkeep a day that is past its time can get rows anew, enough of them even a partition.
    pub fn day_was_dropped(&self, day: Day) -> bool {
        self.day_is_gone(day) || (self.dropped && self.day_is_past(day))
    }

    /// Whether a window's aggregates may have expired, or cannot be recomputed since rows behind
    /// them were dropped.
    pub fn window_is_gone(&self, window: Window) -> bool {
        if self.is_past(self.spec.aggregates, window.end) {
            return true;
        }
        let first = window.start.micros().div_euclid(MICROS_PER_DAY);
        let last = (window.end.micros() - 1).div_euclid(MICROS_PER_DAY);
        (first..=last).any(|day| {
            i32::try_from(day).is_ok_and(|day| self.day_was_dropped(Day::from_days(day)))
        })
    }

    /// Whether the dead letter of a record of this time may have expired.
    pub fn dead_letter_may_be_gone(&self, received_at: EventTime) -> bool {
        self.is_past(self.spec.dead_letters, received_at)
    }

    /// Whether a late event of this time may have expired.
    pub fn late_event_may_be_gone(&self, received_at: EventTime) -> bool {
        self.is_past(self.spec.late_events, received_at)
    }

    /// Whether days were dropped.
    pub fn days_were_dropped(&self) -> bool {
        self.dropped
    }

    /// Whether aggregates, dead letters or late events expire.
    pub fn expires(&self) -> bool {
        self.spec.aggregates.is_some()
            || self.spec.dead_letters.is_some()
            || self.spec.late_events.is_some()
    }

    /// Whether every dead letter is still there.
    pub fn keeps_dead_letters(&self) -> bool {
        self.spec.dead_letters.is_none()
    }

    /// Whether every aggregate is still there.
    pub fn keeps_aggregates(&self) -> bool {
        self.spec.aggregates.is_none()
    }

    fn day_is_past(&self, day: Day) -> bool {
        let last = Day::from_days(day.days() + 1).start().micros() - 1;
        self.is_past(self.spec.events, EventTime::from_micros(last))
    }

    fn is_past(&self, kept: Option<Duration>, time: EventTime) -> bool {
        let Some(kept) = kept else { return false };
        let elapsed = i64::try_from(self.taken.elapsed().as_micros()).unwrap_or(i64::MAX);
        let now = self.taken_at.micros().saturating_add(elapsed);
        time.micros() < now - kept.micros() + MARGIN_MICROS
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn day(of_january: i32) -> Day {
        Day::from_ymd(2026, 1, of_january).unwrap()
    }

    fn retained(dropped: bool, events: Option<Duration>) -> Retained {
        let spec = RetentionSpec {
            events,
            ..RetentionSpec::default()
        };
        Retained::new(
            day(20).start(),
            BTreeSet::from([day(10), day(12)]),
            dropped,
            &spec,
        )
    }

    #[test]
    fn without_retention_every_row_must_be_there() {
        let kept = retained(false, None);
        assert!(!kept.day_is_gone(day(1)));
        assert!(!kept.day_is_gone(day(11)));
    }

    #[test]
    fn a_day_with_a_partition_of_its_own_is_there_whatever_its_age() {
        let kept = retained(true, Some(Duration::from_hours(24)));
        assert!(!kept.day_is_gone(day(10)));
        assert!(kept.day_is_gone(day(9)));
        assert!(
            kept.day_is_gone(day(11)),
            "past its time and without a partition"
        );
        assert!(!kept.day_is_gone(day(19)), "still within its time");
    }

    #[test]
    fn a_day_past_its_time_can_hold_other_rows_than_once() {
        let kept = retained(true, Some(Duration::from_hours(24)));
        assert!(kept.day_was_dropped(day(9)));
        assert!(kept.day_was_dropped(day(10)), "and got a partition anew");
        assert!(!kept.day_was_dropped(day(19)), "still within its time");
        let complete = retained(false, Some(Duration::from_hours(24)));
        assert!(
            !complete.day_was_dropped(day(10)),
            "nothing was ever dropped"
        );
    }

    #[test]
    fn days_that_an_earlier_retention_dropped_lie_before_all_others() {
        let kept = retained(true, None);
        assert!(kept.day_is_gone(day(9)));
        assert!(!kept.day_is_gone(day(11)));
    }

    #[test]
    fn a_window_that_touches_a_dropped_day_is_not_compared() {
        let kept = retained(true, None);
        let hour = 3_600_000_000;
        let across = Window {
            start: EventTime::from_micros(day(10).start().micros() - hour),
            end: EventTime::from_micros(day(10).start().micros() + hour),
        };
        assert!(kept.window_is_gone(across));
        let within = Window {
            start: day(10).start(),
            end: EventTime::from_micros(day(10).start().micros() + hour),
        };
        assert!(!kept.window_is_gone(within));
    }
}
