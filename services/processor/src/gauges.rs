//! Once a second the gauges show the present state: also while the writer waits for a PostgreSQL
//! that is away.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use clickstream_pipeline::{event::EventTime, offset::TopicPartition};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    headroom::Pace,
    metrics::{Gauges, PartitionGauges, ProcessGauges},
    shared::{PartitionView, Shared, State},
    sink::Topics,
};

/// How often.
const TICK: Duration = Duration::from_secs(1);

/// What the gauges are made of.
pub struct Present {
    /// The state.
    pub shared: Arc<Shared>,
    /// Topics by number.
    pub topics: Topics,
    /// Consumer group.
    pub group: String,
    /// Whether heartbeats are sent.
    pub beats: bool,
}

impl Present {
    /// Shows the state every second until `stop`.
    pub async fn keep(self, gauges: Gauges, stop: CancellationToken) {
        let began = Instant::now();
        let mut paces = HashMap::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = EventTime::from_micros(Utc::now().timestamp_micros());
            let (process, partitions) = self
                .shared
                .with(|state| self.look(state, now, began.elapsed(), &mut paces));
            gauges.show(&self.group, &process, &partitions);
        }
    }

    fn look(
        &self,
        state: &State,
        now: EventTime,
        uptime: Duration,
        paces: &mut HashMap<TopicPartition, Pace>,
    ) -> (ProcessGauges, Vec<PartitionGauges>) {
        paces.retain(|tp, _| state.view.contains_key(tp));
        let partitions = state.view.iter().map(|(tp, view)| {
            let pace = paces.entry(*tp).or_default();
            if let Some(end) = view.log_end {
                pace.saw(uptime, end);
            }
            self.partition(state, *tp, view, now, *pace)
        });
        let partitions = partitions.collect();
        let filter = state.engine.filter();
        let process = ProcessGauges {
            assigned: state.ownership.assigned().count(),
            buffered_bytes: state.engine.buffered_bytes(),
            buffered_rows: state.engine.buffered_rows(),
            filter_entries: filter.remembered(),
            filter_capacity: filter.capacity(),
            filter_generations: filter.forgotten(),
            cold: state.engine.cold_partitions(),
        };
        (process, partitions)
    }

    fn partition(
        &self,
        state: &State,
        tp: TopicPartition,
        view: &PartitionView,
        now: EventTime,
        pace: Pace,
    ) -> PartitionGauges {
        let topic = self.topics.get(&tp.topic).cloned().unwrap_or_default();
        let delay = state.engine.rules().delay_micros;
        let watermark = view.t.map(|t| t.micros() - delay);
        let age = |since: EventTime| seconds((now.micros() - since.micros()).max(0));
        let lag_seconds = view.oldest_unprocessed(now);
        let kept = state.kept.get(&topic);
        PartitionGauges {
            partition: tp.partition,
            next: view.next.map(|next| next.get()),
            lag: view.lag(),
            lag_seconds,
            watermark_seconds: watermark.map(seconds),
            watermark_delay_seconds: watermark.map(|watermark| seconds(now.micros() - watermark)),
            counters: view.counters,
            halted: state.ownership.obstacle(tp).is_some(),
            paused: !state.ownership.is_fetched(tp),
            headroom_seconds: view.next.and_then(|next| {
                kept?.headroom(lag_seconds, next.get(), view.log_start, pace.get())
            }),
            heartbeat_age_seconds: view
                .heartbeat
                .or(view.claimed_at)
                .filter(|_| self.beats)
                .map(age),
            open_transaction_seconds: view.next.map(|_| {
                view.held_since
                    .map_or(0.0, |since| since.elapsed().as_secs_f64())
            }),
            topic,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century are exact in 53 bits"
)]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
