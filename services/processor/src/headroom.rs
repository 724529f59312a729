//! How long until Kafka drops what is not stored yet. Pure.
//!
//! Two limits may drop records. By time, a record may go once it is older than `retention.ms`: what
//! is left is that less the age of the oldest record that is not stored. Kafka drops whole
//! segments, when their newest record is that old, so the truth is never less. By size, a full log
//! drops its oldest records as fast as new ones come: what is left is the number of records before
//! ours, divided by the pace at which the log grows. It counts once the log's start has moved,
//! since before that nobody knows how full the log is.

use std::time::Duration;

/// The pace of a log is taken over this long: shorter ones would follow every burst.
const PACE_OVER: Duration = Duration::from_secs(60);

/// What a topic keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For how long, in milliseconds; `None`: for ever.
    pub millis: Option<i64>,
    /// Whether size may drop records as well.
    pub by_size: bool,
}

impl Kept {
    /// From a topic's settings; `None` where they do not say.
    pub fn of(setting: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| setting(name)?.parse::<i64>().ok();
        if !setting("cleanup.policy")?.contains("delete") {
            return Some(Self {
                millis: None,
                by_size: false,
            });
        }
        let (millis, bytes) = (number("retention.ms")?, number("retention.bytes")?);
        Some(Self {
            millis: (millis >= 0).then_some(millis),
            by_size: bytes >= 0,
        })
    }

    /// Seconds that are left: infinite where nothing is ever dropped, `None` while it is not known.
    /// `oldest` is the age in seconds of the oldest record that is not stored, 0 when all are.
    pub fn headroom(
        self,
        oldest: Option<f64>,
        next: i64,
        log_start: Option<i64>,
        pace: Option<f64>,
    ) -> Option<f64> {
        let by_time = match self.millis {
            Some(millis) => (seconds(millis) - oldest?).max(0.0),
            None => f64::INFINITY,
        };
        if !self.by_size {
            return Some(by_time);
        }
        let start = log_start?;
        if start == 0 {
            return Some(by_time);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of records in a log are exact in 53 bits"
        )]
        let before = (next - start).max(0) as f64;
        let pace = pace?;
        let by_size = if pace > 0.0 {
            before / pace
        } else {
            f64::INFINITY
        };
        Some(by_time.min(by_size))
    }
}

/// How fast a log grows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    since: Option<(Duration, i64)>,
    records_per_second: Option<f64>,
}

impl Pace {
    /// The log ended at `end` at `now`, counted from any fixed instant.
    pub fn saw(&mut self, now: Duration, end: i64) {
        let Some((then, before)) = self.since else {
            self.since = Some((now, end));
            return;
        };
        let passed = now.saturating_sub(then);
        if passed < PACE_OVER {
            return;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "numbers of records in a log are exact in 53 bits"
        )]
        let latest = (end - before).max(0) as f64 / passed.as_secs_f64();
        // half of what was known, so that one quiet minute does not count for peace
        self.records_per_second = Some(match self.records_per_second {
            Some(known) => (known + latest) / 2.0,
            None => latest,
        });
        self.since = Some((now, end));
    }

    /// Records a second; `None` in the first minute.
    pub fn get(self) -> Option<f64> {
        self.records_per_second
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of any retention are exact in 53 bits"
)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn kept(policy: &str, millis: &str, bytes: &str) -> Option<Kept> {
        Kept::of(|name| {
            let value = match name {
                "cleanup.policy" => policy,
                "retention.ms" => millis,
                "retention.bytes" => bytes,
                _ => return None,
            };
            Some(value.to_owned())
        })
    }

    #[test]
    fn by_time_it_is_the_retention_less_the_age_of_what_waits() {
        let week = kept("delete", "604800000", "-1").unwrap();
        assert_eq!(week.headroom(Some(0.0), 10, Some(0), None), Some(604_800.0));
        assert_eq!(
            week.headroom(Some(3_600.0), 10, None, None),
            Some(601_200.0)
        );
        assert_eq!(week.headroom(Some(1e9), 10, None, None), Some(0.0));
        assert_eq!(week.headroom(None, 10, None, None), None);
    }

    #[test]
    fn by_size_it_is_the_records_before_ours_over_the_pace_of_the_log() {
        let sized = kept("compact,delete", "-1", "1000000").unwrap();
        assert_eq!(
            sized.headroom(None, 1_500, Some(500), Some(10.0)),
            Some(100.0)
        );
        assert_eq!(sized.headroom(None, 1_500, Some(500), None), None);
        // nothing comes, so nothing goes
        assert_eq!(
            sized.headroom(None, 1_500, Some(500), Some(0.0)),
            Some(f64::INFINITY)
        );
        // nothing was ever dropped: the size has not been reached
        assert_eq!(
            sized.headroom(None, 0, Some(0), Some(10.0)),
            Some(f64::INFINITY)
        );
    }

    #[test]
    fn what_keeps_everything_has_room_without_end_and_silence_is_unknown() {
        let compacted = kept("compact", "1000", "1000").unwrap();
        assert_eq!(compacted.headroom(None, 0, None, None), Some(f64::INFINITY));
        assert_eq!(Kept::of(|_| None), None);
    }

    #[test]
    fn the_pace_is_known_after_a_minute_and_follows_slowly() {
        let mut pace = Pace::default();
        let at = Duration::from_secs;
        pace.saw(at(0), 100);
        pace.saw(at(30), 400);
        assert_eq!(pace.get(), None);
        pace.saw(at(60), 700);
        assert_eq!(pace.get(), Some(10.0));
        pace.saw(at(120), 700);
        assert_eq!(pace.get(), Some(5.0));
    }
}
