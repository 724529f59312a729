//! Day partitions: the days around T before a flush, and those from today on ahead of time. Only
//! outliers go to the default partition; creating a day moves its rows out of there.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::Utc;
use clickstream_pipeline::{
    batch::Row,
    engine::Flush,
    event::{Day, EventTime, MICROS_PER_DAY},
};

use super::Writer;
use crate::{
    metrics::DayChange,
    sink::{DayMade, SinkFault},
};

/// At most this many days are created in one go (a few milliseconds each), so that a flush waits a
/// fraction of a second; the rest follows with the next flush or tick. Until then their rows are in
/// the default partition.
const AT_ONCE: usize = 32;
/// At most this many days wait to be created: eleven years of a log. What lies beyond stays in the
/// default partition.
const MOST_DUE: usize = 4_000;
/// So many late events of one day in one flush are a log that is read out of order.
const A_LOG: usize = 1_000;
/// Days that are made before they begin. A query that runs for hours can keep a day from being
/// made, and has to be over before that day is there.
const AHEAD: i64 = 3;
/// After somebody's lock stood in the way, nothing is created for so long: the flush and the
/// readers that ran into it lost a tenth of a second.
const RETRY: Duration = Duration::from_secs(2);

impl Writer {
    /// Creates the days that lie on the way of the log's time: those of events that were on time
    /// when they were read, and the day after T. An event's time comes from a visitor's clock: a
    /// late one makes no partition, unless so many of its day come at once that they are a log
    /// rather than a clock gone wrong. Nor does one dated far ahead.
    pub(super) async fn create_missing_days(&mut self, flush: &Flush) -> Result<(), SinkFault> {
        let mut bounds = HashMap::new();
        for (tp, span) in &flush.batch.spans {
            let Some(t) = span.clock.t() else { continue };
            let to = day_after(t, 1);
            self.want(to);
            bounds.insert(*tp, to);
        }
        let stores_late = flush.rules.late_policy.stores();
        let mut late: HashMap<Day, usize> = HashMap::new();
        // once over the rows, however many partitions the flush holds; rows of one partition and
        // day mostly follow each other
        let alike = |row: &Row| (row.source, row.late, row.day());
        for run in flush.batch.rows.chunk_by(|a, b| alike(a) == alike(b)) {
            let (source, is_late, day) = alike(&run[0]);
            if is_late {
                if stores_late {
                    *late.entry(day).or_default() += run.len();
                }
            } else if bounds.get(&source).is_some_and(|to| day <= *to) {
                self.want(day);
            }
        }
        for (day, _) in late.into_iter().filter(|(_, rows)| *rows >= A_LOG) {
            self.want(day);
        }
        self.create_due_days().await
    }

    /// Creates today and the days after it by the wall clock.
    pub(super) async fn create_days_ahead(&mut self) -> Result<(), SinkFault> {
        let now = EventTime::from_micros(Utc::now().timestamp_micros());
        for days in 0..=AHEAD {
            self.want(day_after(now, days));
        }
        self.create_due_days().await
    }

    /// Creates days that were wanted and could not be created yet.
    pub(super) async fn create_due_days(&mut self) -> Result<(), SinkFault> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        if self
            .days_locked_until
            .is_some_and(|retry| Instant::now() < retry)
        {
            return Ok(());
        }
        self.days_locked_until = None;
        for _ in 0..AT_ONCE {
            let Some(&day) = self.due_days.first() else {
                break;
            };
            match sink.create_day(day).await? {
                DayMade::NotYet => {
                    self.metrics.days_changed(DayChange::LockMissed, 1);
                    self.days_locked_until = Some(Instant::now() + RETRY);
                    break;
                }
                DayMade::Yes => self.metrics.days_changed(DayChange::Created, 1),
                DayMade::Left => {}
            }
            self.due_days.remove(&day);
            self.days.insert(day);
        }
        Ok(())
    }

    fn want(&mut self, day: Day) {
        if !self.days.contains(&day) && self.due_days.len() < MOST_DUE {
            self.due_days.insert(day);
        }
    }
}

fn day_after(time: EventTime, days: i64) -> Day {
    EventTime::from_micros(time.micros() + days * MICROS_PER_DAY).day()
}
