//! Once a second beside the flushes: finality, anchors, the days ahead, and the windows that are
//! open.

use std::{sync::Arc, time::Instant};

use clickstream_telemetry::memory;

use super::{ANCHOR, BACKLOG_OVER, MAINTENANCE, WINDOWS, Writer};
use crate::{failpoints::tuned, sink::SinkFault};

impl Writer {
    pub(super) async fn keep_house(&mut self) -> Result<(), SinkFault> {
        let counts = self
            .shared
            .with(|state| std::mem::take(&mut state.partition_counts));
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        for (topic, count) in counts {
            sink.note_partitions(&topic, count).await?;
        }
        self.final_until = sink
            .advance_final(&self.shared.rules(), self.settings.idle_timeout_micros)
            .await?;
        if self.last_anchor.elapsed() >= tuned("CLICKSTREAM_TEST_ANCHOR_MS", ANCHOR) {
            self.last_anchor = Instant::now();
            let ours: Vec<_> = self.shared.with(|state| {
                let start = |tp| state.view.get(&tp).and_then(|view| view.log_start);
                let assigned = state.engine.anchored();
                assigned
                    .map(|(tp, claim, rules)| (tp, claim, Arc::clone(rules), start(tp)))
                    .collect()
            });
            sink.anchor(&ours).await?;
        }
        if self
            .last_maintenance
            .is_none_or(|last| last.elapsed() >= MAINTENANCE)
        {
            self.maintain().await?;
        }
        self.look_at_columns().await?;
        self.create_due_days().await?;
        if self.metrics.is_read() && self.last_windows.elapsed() >= WINDOWS {
            self.look_at_windows().await?;
        }
        if self
            .last_large
            .take_if(|last| last.elapsed() >= BACKLOG_OVER)
            .is_some()
        {
            memory::give_back();
        }
        if let Some(until) = self.final_until {
            self.metrics.final_until.set(seconds(until.micros()));
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.days.set(count(self.days.len()));
        self.metrics.days_due.set(count(self.due_days.len()));
        Ok(())
    }

    /// The columns of rules that wait for them.
    async fn look_at_columns(&self) -> Result<(), SinkFault> {
        let look = self.shared.with(|state| state.columns.clone());
        let look = look.filter(|look| look.found != Some(Ok(())));
        let (Some(look), Some(sink)) = (look, &self.sink) else {
            return Ok(());
        };
        let found = sink.find_columns(&look.wanted).await?;
        self.shared.with(|state| {
            let asked = state.columns.as_mut();
            // others may be asked for meanwhile
            if let Some(asked) = asked.filter(|asked| asked.wanted == look.wanted) {
                asked.found = Some(found);
            }
        });
        Ok(())
    }

    /// The days that are there, and those ahead.
    pub(super) async fn maintain(&mut self) -> Result<(), SinkFault> {
        self.last_maintenance = Some(Instant::now());
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        self.days = sink.days().await?.into_iter().collect();
        self.create_days_ahead().await
    }

    /// Windows that are open, and those that became final since the last look.
    async fn look_at_windows(&mut self) -> Result<(), SinkFault> {
        self.last_windows = Instant::now();
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        let until = self.final_until;
        let open = sink.windows(until, None).await?;
        self.metrics.open_windows.set(open);
        if let (Some(before), Some(until)) = (self.windows_until, until)
            && before < until
        {
            let closed = sink.windows(Some(before), Some(until)).await?;
            self.metrics.final_windows.inc_by(closed.unsigned_abs());
        }
        self.windows_until = until;
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century are exact in 53 bits"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
