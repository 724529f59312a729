//! When a logged event is due, computed from its own time alone.

use std::str::FromStr;
use std::time::Duration;

/// How fast a log is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Every event as soon as there is room for it.
    Max,
    /// This many times the original pace; above 0 and finite.
    Times(f64),
}

/// A speed that is neither a number above 0 nor `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number above 0, as in 1, 60 or 0.5, or `max`")]
pub struct InvalidSpeed;

impl FromStr for Speed {
    type Err = InvalidSpeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times: f64 = text
            .strip_suffix('x')
            .unwrap_or(text)
            .parse()
            .map_err(|_| InvalidSpeed)?;
        if times > 0.0 && times.is_finite() {
            Ok(Self::Times(times))
        } else {
            Err(InvalidSpeed)
        }
    }
}

/// Turns event times into due times. A log's clock never goes back: an event that is older than one
/// before it is due together with that one, so the order of the lines is the order of the records.
#[derive(Clone, Debug)]
pub struct Pace {
    speed: Speed,
    max_pause: Duration,
    clock: Option<i64>,
    due: Duration,
}

impl Pace {
    /// A pace that makes no pause longer than `max_pause`, in time as it passes during the replay.
    #[must_use]
    pub fn new(speed: Speed, max_pause: Duration) -> Self {
        Self {
            speed,
            max_pause,
            clock: None,
            due: Duration::ZERO,
        }
    }

    /// When the next event is due, from the start of the replay; `micros` is its own time since the
    /// Unix epoch, and an event without one is due with the event before it.
    pub fn due(&mut self, micros: Option<i64>) -> Duration {
        let (Speed::Times(times), Some(micros)) = (self.speed, micros) else {
            return self.due;
        };
        let clock = *self.clock.get_or_insert(micros);
        if micros > clock {
            let pause = Duration::try_from_secs_f64(micros.abs_diff(clock) as f64 / 1e6 / times);
            self.due = self
                .due
                .saturating_add(pause.unwrap_or(Duration::MAX).min(self.max_pause));
            self.clock = Some(micros);
        }
        self.due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{InvalidSpeed, Pace, Speed};

    const SECOND: i64 = 1_000_000;

    fn dues(speed: Speed, times: &[i64]) -> Vec<Duration> {
        let mut pace = Pace::new(speed, Duration::MAX);
        times.iter().map(|&time| pace.due(Some(time))).collect()
    }

    #[test]
    fn at_original_pace_events_keep_their_distances() {
        let times = [1_000 * SECOND, 1_001 * SECOND, 1_090 * SECOND + 500_000];
        assert_eq!(
            dues(Speed::Times(1.0), &times),
            [
                Duration::ZERO,
                Duration::from_secs(1),
                Duration::from_millis(90_500)
            ]
        );
    }

    #[test]
    fn at_speed_sixty_an_hour_takes_a_minute() {
        assert_eq!(
            dues(Speed::Times(60.0), &[0, 3_600 * SECOND])[1],
            Duration::from_secs(60)
        );
    }

    #[test]
    fn at_full_speed_everything_is_due_at_once() {
        assert_eq!(
            dues(Speed::Max, &[0, SECOND, i64::MAX]),
            [Duration::ZERO; 3]
        );
    }

    #[test]
    fn an_older_event_is_due_with_the_one_before_it() {
        let times = [0, 10 * SECOND, 4 * SECOND, 12 * SECOND];
        assert_eq!(dues(Speed::Times(1.0), &times).map_secs(), [0, 10, 10, 12]);
    }

    #[test]
    fn an_event_without_a_time_is_due_with_the_one_before_it() {
        let mut pace = Pace::new(Speed::Times(1.0), Duration::MAX);
        pace.due(Some(0));
        pace.due(Some(5 * SECOND));
        assert_eq!(pace.due(None), Duration::from_secs(5));
    }

    #[test]
    fn a_pause_is_no_longer_than_allowed() {
        let mut pace = Pace::new(Speed::Times(1.0), Duration::from_secs(60));
        pace.due(Some(0));
        assert_eq!(pace.due(Some(7_200 * SECOND)), Duration::from_secs(60));
        assert_eq!(pace.due(Some(7_201 * SECOND)), Duration::from_secs(61));
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_do_not_overflow() {
        dues(Speed::Times(1e-300), &[i64::MIN, i64::MAX]);
    }

    #[test]
    fn speeds_are_read_from_text() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!("60".parse(), Ok(Speed::Times(60.0)));
        assert_eq!("0.5x".parse(), Ok(Speed::Times(0.5)));
        for text in ["0", "-1", "inf", "nan", "fast", ""] {
            assert_eq!(text.parse::<Speed>(), Err(InvalidSpeed), "{text}");
        }
    }

    trait MapSecs {
        fn map_secs(self) -> Vec<u64>;
    }

    impl MapSecs for Vec<Duration> {
        fn map_secs(self) -> Vec<u64> {
            self.iter().map(Duration::as_secs).collect()
        }
    }
}
