//! Once a second beside the flushes: finality, anchors, retention, the days ahead, and what the metrics show.

use std::time::Instant;

use chrono::Utc;

use clickstream_telemetry::memory;

use super::{ANCHOR, BACKLOG_OVER, MAINTENANCE, Writer};
use crate::{
    metrics::PartitionGauges,
    sink::{Retention, SinkFault},
};

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
            .advance_final(&self.settings.semantic, self.settings.idle_timeout_micros)
            .await?;
        if self.last_anchor.elapsed() >= ANCHOR {
            self.last_anchor = Instant::now();
            let ours: Vec<_> = self
                .shared
                .with(|state| state.engine.assigned().map(|(tp, _)| tp).collect());
            sink.anchor(&ours, &self.settings.semantic).await?;
        }
        if self
            .last_maintenance
            .is_none_or(|last| last.elapsed() >= MAINTENANCE)
        {
            self.maintain().await?;
        }
        self.create_due_days().await?;
        if self
            .last_large
            .take_if(|last| last.elapsed() >= BACKLOG_OVER)
            .is_some()
        {
            memory::give_back();
        }
        self.show();
        Ok(())
    }

    /// Retention, and the days ahead.
    pub(super) async fn maintain(&mut self) -> Result<(), SinkFault> {
        self.last_maintenance = Some(Instant::now());
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        sink.expire(
            Retention::at(Utc::now(), &self.settings.retention),
            &self.settings.semantic,
        )
        .await?;
        self.days = sink.days().await?.into_iter().collect();
        self.create_days_ahead().await
    }

    pub(super) fn show(&self) {
        let delay = self.settings.semantic.delay_micros;
        self.shared.with(|state| {
            let partitions: Vec<_> = state
                .view
                .iter()
                .map(|(tp, view)| PartitionGauges {
                    topic: self
                        .settings
                        .topics
                        .get(&tp.topic)
                        .map_or("", String::as_str),
                    partition: tp.partition,
                    next: view.next.map(|next| next.get()),
                    lag: view.lag(),
                    watermark_seconds: view.t.map(|t| seconds(t.micros() - delay)),
                    counters: view.counters,
                    halted: state.halted.contains_key(tp),
                })
                .collect();
            let final_until = self.final_until.map(|until| seconds(until.micros()));
            self.metrics.show(
                &self.settings.group,
                state.engine.buffered_bytes(),
                final_until,
                &partitions,
            );
        });
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century are exact in 53 bits"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
