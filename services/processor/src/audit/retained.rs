//! What retention may have taken away, and so cannot be missed.

use std::collections::BTreeSet;

use clickstream_pipeline::{
    event::{Day, EventTime, MICROS_PER_DAY},
    spec::{Duration, RetentionSpec},
    window::Window,
};

/// How far the clock of a processor, by which rows expire, may be ahead of the server's, plus the age that the snapshot
/// gains while the audit runs.
const MARGIN_MICROS: i64 = 3_600_000_000;

/// The bounds of what must be there.
#[derive(Clone, Debug)]
pub struct Retained {
    days: BTreeSet<Day>,
    /// Whether retention has ever dropped a row of an event.
    dropped: bool,
    events: Option<EventTime>,
    aggregates: Option<EventTime>,
    dead_letters: Option<EventTime>,
    late_events: Option<EventTime>,
}

impl Retained {
    /// As of `now`: `days` have a partition of their own, and `dropped` says whether any row has expired so far.
    pub fn new(now: EventTime, days: BTreeSet<Day>, dropped: bool, spec: &RetentionSpec) -> Self {
        let before = |kept: Option<Duration>| {
            kept.map(|kept| EventTime::from_micros(now.micros() - kept.micros() + MARGIN_MICROS))
        };
        Self {
            days,
            dropped,
            events: before(spec.events),
            aggregates: before(spec.aggregates),
            dead_letters: before(spec.dead_letters),
            late_events: before(spec.late_events),
        }
    }

    /// Whether a day's rows may have been dropped.
    pub fn day_is_gone(&self, day: Day) -> bool {
        if self.days.contains(&day) {
            return false;
        }
        let next = Day::from_days(day.days() + 1).start();
        let past = self.events.is_some_and(|before| next <= before);
        // retention drops from the oldest on, whatever it is set to by now
        let before_all = self.dropped && self.days.first().is_none_or(|first| day < *first);
        past || before_all
    }

    /// Whether a window's aggregates may have expired, or cannot be recomputed since rows behind them were dropped.
    pub fn window_is_gone(&self, window: Window) -> bool {
        if self.aggregates.is_some_and(|before| window.end < before) {
            return true;
        }
        let first = window.start.micros().div_euclid(MICROS_PER_DAY);
        let last = (window.end.micros() - 1).div_euclid(MICROS_PER_DAY);
        (first..=last)
            .any(|day| i32::try_from(day).is_ok_and(|day| self.day_is_gone(Day::from_days(day))))
    }

    /// Whether the dead letter of a record of this time may have expired.
    pub fn dead_letter_may_be_gone(&self, received_at: EventTime) -> bool {
        self.dead_letters.is_some_and(|before| received_at < before)
    }

    /// Whether a late event of this time may have expired.
    pub fn late_event_may_be_gone(&self, received_at: EventTime) -> bool {
        self.late_events.is_some_and(|before| received_at < before)
    }

    /// Whether days were dropped.
    pub fn days_were_dropped(&self) -> bool {
        self.dropped
    }

    /// Whether aggregates, dead letters or late events expire.
    pub fn expires(&self) -> bool {
        self.aggregates.is_some() || self.dead_letters.is_some() || self.late_events.is_some()
    }

    /// Whether every aggregate is still there.
    pub fn keeps_aggregates(&self) -> bool {
        self.aggregates.is_none()
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
