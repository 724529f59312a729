//! Day partitions: the days around T before a flush, today and tomorrow ahead of time. Only outliers go to the default
//! partition; creating a day moves its rows out of there.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chrono::Utc;
use clickstream_pipeline::{
    engine::Flush,
    event::{Day, EventTime, MICROS_PER_DAY},
};

use super::Writer;
use crate::sink::SinkFault;

/// At most this many days are created before one flush: the rest follows with the next ones.
const AT_ONCE: usize = 32;
/// A day whose partition could not be created because of somebody's lock is tried again after this.
const RETRY: Duration = Duration::from_secs(30);

impl Writer {
    /// Creates the days that the flush needs and that lie between T as it was and T as it becomes, one day more on both
    /// sides.
    pub(super) async fn create_missing_days(&mut self, flush: &Flush) -> Result<(), SinkFault> {
        let mut wanted = BTreeSet::new();
        for (tp, span) in &flush.batch.spans {
            let Some(t) = span.clock.t() else { continue };
            let from = self.last_t.get(tp).map(|t| day_after(*t, -1));
            let to = day_after(t, 1);
            wanted.insert(to);
            for row in flush.batch.rows.iter().filter(|row| row.source == *tp) {
                let day = row.day();
                if day <= to && from.is_none_or(|from| from <= day) {
                    wanted.insert(day);
                }
            }
        }
        self.create(wanted).await
    }

    /// Creates today and tomorrow by the wall clock.
    pub(super) async fn create_days_ahead(&mut self) -> Result<(), SinkFault> {
        let now = EventTime::from_micros(Utc::now().timestamp_micros());
        self.create([now.day(), day_after(now, 1)].into()).await
    }

    async fn create(&mut self, wanted: BTreeSet<Day>) -> Result<(), SinkFault> {
        let missing = wanted.into_iter().filter(|day| !self.days.contains(day));
        let due: Vec<_> = missing
            .filter(|day| self.missed_days.get(day).is_none_or(|retry| *retry <= Instant::now()))
            .take(AT_ONCE)
            .collect();
        let Some(sink) = &self.sink else { return Ok(()) };
        for day in due {
            if sink.create_day(day).await? {
                self.days.insert(day);
                self.missed_days.remove(&day);
            } else {
                self.missed_days.insert(day, Instant::now() + RETRY);
            }
        }
        Ok(())
    }
}

fn day_after(time: EventTime, days: i64) -> Day {
    EventTime::from_micros(time.micros() + days * MICROS_PER_DAY).day()
}
