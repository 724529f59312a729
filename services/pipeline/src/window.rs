//! Tumbling windows and lateness. Everything is half-open, in microseconds since the Unix epoch,
//! UTC.

use crate::{event::EventTime, watermark::EventClock};

/// One window, `[start, end)`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Window {
    /// First instant in the window.
    pub start: EventTime,
    /// First instant after it.
    pub end: EventTime,
}

/// Windows of one size that tile all time, aligned to the Unix epoch in UTC.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TumblingWindow {
    size_micros: i64,
}

impl TumblingWindow {
    /// Windows of `size_micros`; sizes below one microsecond are taken as one.
    pub fn new(size_micros: i64) -> Self {
        Self {
            size_micros: size_micros.max(1),
        }
    }

    /// The window that holds `time`.
    pub fn containing(&self, time: EventTime) -> Window {
        let start = time.micros() - time.micros().rem_euclid(self.size_micros);
        self.starting_at(EventTime::from_micros(start))
    }

    /// The window that starts at `start`.
    pub fn starting_at(&self, start: EventTime) -> Window {
        Window {
            start,
            end: EventTime::from_micros(start.micros() + self.size_micros),
        }
    }
}

/// When an event counts as late, decided at the record's own offset with `T` as it was before it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Lateness {
    /// `watermark.delay`, microseconds.
    pub delay_micros: i64,
    /// `lateEvents.allowedLateness`, microseconds.
    pub allowed_micros: i64,
}

impl Lateness {
    /// On time while `window.end + allowedLateness > T - delay`, and always before there is a `T`.
    pub fn is_late(&self, window: Window, clock: &EventClock) -> bool {
        clock.watermark(self.delay_micros).is_some_and(|watermark| {
            window.end.micros() + self.allowed_micros <= watermark.micros()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    fn clock_at(t: i64) -> EventClock {
        EventClock::restore(Some(time(t)), &[])
    }

    #[test]
    fn an_event_is_late_from_the_instant_at_which_the_watermark_meets_the_end_of_grace() {
        let window = Window {
            start: time(0),
            end: time(60),
        };
        let lateness = Lateness {
            delay_micros: 10,
            allowed_micros: 600,
        };
        assert!(
            !lateness.is_late(window, &EventClock::default()),
            "no T, nothing is late"
        );
        assert!(!lateness.is_late(window, &clock_at(669)));
        assert!(
            lateness.is_late(window, &clock_at(670)),
            "60 + 600 <= 670 - 10"
        );
    }

    proptest! {
        #[test]
        fn windows_tile_all_time_without_gap_or_overlap(micros in -4_000_000_000_000_000i64..4_000_000_000_000_000, size in 1i64..86_400_000_000) {
            let windows = TumblingWindow::new(size);
            let w = windows.containing(time(micros));
            prop_assert!(w.start.micros() <= micros && micros < w.end.micros());
            prop_assert_eq!(w.end.micros() - w.start.micros(), size);
            prop_assert_eq!(w.start.micros().rem_euclid(size), 0);
            prop_assert_eq!(windows.containing(w.end).start, w.end);
            prop_assert_eq!(windows.containing(time(w.start.micros() - 1)).end, w.start);
        }
    }
}
