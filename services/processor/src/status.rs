//! `/livez`, `/readyz` and `/status`: what a person or an operator can see of this process.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, SecondsFormat, Utc};
use clickstream_pipeline::{event::EventTime, ownership::Standing};
use clickstream_protocol::status::{
    Halted, PartitionReport, ProcessorState, ProcessorStatus, Refused,
};
use clickstream_telemetry::{Health, Verdict};
use serde_json::Value;

use crate::{shared::Shared, sink::Topics};

/// Answers the admin server from the shared state.
pub struct ProcessorHealth {
    owner: String,
    pipeline: String,
    target: String,
    started: OnceLock<(Arc<Shared>, Topics)>,
}

impl ProcessorHealth {
    /// A process that has not started to read yet.
    pub fn new(owner: String, pipeline: String, target: String) -> Self {
        Self {
            owner,
            pipeline,
            target,
            started: OnceLock::new(),
        }
    }

    /// From here on there is something to show.
    pub fn started(&self, shared: Arc<Shared>, topics: Topics) {
        // set once, by the only caller
        let _ = self.started.set((shared, topics));
    }

    fn snapshot(&self) -> ProcessorStatus {
        let mut status = ProcessorStatus {
            owner: self.owner.clone(),
            pipeline: self.pipeline.clone(),
            target: self.target.clone(),
            state: ProcessorState::Starting,
            ..ProcessorStatus::default()
        };
        let Some((shared, topics)) = self.started.get() else {
            return status;
        };
        let name = |tp: &clickstream_pipeline::offset::TopicPartition| {
            topics.get(&tp.topic).cloned().unwrap_or_default()
        };
        let now = EventTime::from_micros(Utc::now().timestamp_micros());
        shared.with(|state| {
            status.state = match (state.stopped, state.sink_healthy) {
                (true, _) => ProcessorState::Stopping,
                (false, true) => ProcessorState::Running,
                (false, false) => ProcessorState::WaitingForPostgres,
            };
            let rules = state.engine.rules();
            status.rules = Some(rules.short_hash());
            status.refused = state.refused.map(|refused| Refused {
                since: rfc3339(refused.since),
                class: refused.class.as_str().to_owned(),
            });
            for (field, reason, count) in state.cleaned.iter() {
                let field = status.cleaned.entry(field.as_str().to_owned());
                field.or_default().insert(reason.as_str().to_owned(), count);
            }
            for (column, reason, count) in state.cleaned.columns() {
                let column = status.cleaned.entry(column.to_owned());
                column
                    .or_default()
                    .insert(reason.as_str().to_owned(), count);
            }
            status.trimmed_properties = state.trimmed;
            status.folded_hits = state.folded;
            for (tp, view) in &state.view {
                status.partitions.push(PartitionReport {
                    topic: name(tp),
                    partition: tp.partition,
                    epoch: view.epoch,
                    next_offset: view.next.map(|next| next.get()),
                    log_end: view.log_end,
                    lag: view.lag(),
                    t: view.t.map(|t| t.to_string()),
                    watermark: view.t.map(|t| {
                        EventTime::from_micros(t.micros() - rules.delay_micros).to_string()
                    }),
                    paused: !state.ownership.is_fetched(*tp),
                    state: state
                        .ownership
                        .standing(*tp)
                        .map_or("unknown", Standing::as_str)
                        .to_owned(),
                    counters: view.counters,
                    last_commit_at: view.last_commit.map(rfc3339),
                    oldest_unprocessed_seconds: view
                        .oldest_unprocessed(now)
                        .filter(|_| view.lag() != Some(0)),
                    heartbeat_at: view.heartbeat.map(|sent| sent.to_string()),
                    open_transaction_seconds: view
                        .held_since
                        .map(|since| since.elapsed().as_secs_f64()),
                    gaps: view.gaps.iter().map(|gap| [gap.start, gap.end]).collect(),
                });
            }
            for (tp, obstacle) in state.ownership.halted() {
                status.halted.push(Halted {
                    topic: name(&tp),
                    partition: tp.partition,
                    reason: obstacle.to_string(),
                });
            }
        });
        status
    }
}

impl Health for ProcessorHealth {
    fn live(&self) -> Verdict {
        let Some((shared, _)) = self.started.get() else {
            return Verdict::Ok;
        };
        // a process that is told to stop has its own time for it
        if shared.with(|state| state.stopped) {
            return Verdict::Ok;
        }
        match shared.progress.stalled() {
            Some((side, silent)) => Verdict::Failing(format!(
                "the {side} has done nothing for {} s",
                silent.as_secs()
            )),
            None => Verdict::Ok,
        }
    }

    fn ready(&self) -> Verdict {
        let Some((shared, _)) = self.started.get() else {
            return Verdict::Failing("starting".to_owned());
        };
        shared.with(|state| {
            let mut pending = Vec::new();
            if !state.joined {
                // a rolling update goes on when this pod can take over, and not at all with
                // credentials that Kafka refuses
                pending.push("not a member of the consumer group yet".to_owned());
            }
            if let Some(refused) = state.refused {
                pending.push(format!(
                    "postgresql refuses what is to be written since {} ({})",
                    rfc3339(refused.since),
                    refused.class.as_str()
                ));
            } else if !state.sink_healthy {
                pending.push("postgresql is away".to_owned());
            }
            let unclaimed = state.ownership.unclaimed();
            if unclaimed > 0 {
                pending.push(format!("{unclaimed} partitions are not claimed yet"));
            }
            let halted = state.ownership.halted().count();
            if halted > 0 {
                pending.push(format!("{halted} partitions are halted, see /status"));
            }
            if state.stopped {
                pending.push("stopping".to_owned());
            }
            Verdict::from_pending(pending)
        })
    }

    fn status(&self) -> Value {
        serde_json::to_value(self.snapshot()).unwrap_or(Value::Null)
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
