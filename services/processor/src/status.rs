//! `/livez`, `/readyz` and `/status`: what a person or an operator can see of this process.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, SecondsFormat, Utc};
use clickstream_pipeline::{checkpoint::Counters, event::EventTime, ownership::Standing};
use clickstream_telemetry::{Health, Verdict};
use serde::Serialize;
use serde_json::Value;

use crate::{shared::Shared, sink::Topics};

/// Answers the admin server from the shared state.
pub struct ProcessorHealth {
    owner: String,
    pipeline: String,
    target: String,
    delay_micros: i64,
    started: OnceLock<(Arc<Shared>, Topics)>,
}

#[derive(Serialize)]
struct Status<'a> {
    owner: &'a str,
    pipeline: &'a str,
    target: &'a str,
    state: State,
    partitions: Vec<Partition>,
    halted: Vec<Halted>,
    /// PostgreSQL answers, and refuses a flush again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedSince>,
}

#[derive(Serialize)]
struct RefusedSince {
    since: String,
    class: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Starting,
    Running,
    WaitingForPostgres,
    Stopping,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    epoch: i64,
    next_offset: Option<i64>,
    log_end: Option<i64>,
    lag: Option<i64>,
    t: Option<String>,
    watermark: Option<String>,
    paused: bool,
    /// What the partition waits for, or does.
    state: &'static str,
    counters: Totals,
    last_commit_at: Option<String>,
    oldest_unprocessed_seconds: Option<f64>,
    heartbeat_at: Option<String>,
    /// For how long a Kafka transaction that is still open has held it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    open_transaction_seconds: Option<f64>,
    gaps: Vec<[i64; 2]>,
}

#[derive(Serialize)]
struct Totals {
    consumed: i64,
    accepted: i64,
    merged: i64,
    duplicate: i64,
    rejected: i64,
    late: i64,
    skipped: i64,
    revised: i64,
}

#[derive(Serialize)]
struct Halted {
    topic: String,
    partition: i32,
    reason: String,
}

impl ProcessorHealth {
    /// A process that has not started to read yet.
    pub fn new(owner: String, pipeline: String, target: String, delay_micros: i64) -> Self {
        Self {
            owner,
            pipeline,
            target,
            delay_micros,
            started: OnceLock::new(),
        }
    }

    /// From here on there is something to show.
    pub fn started(&self, shared: Arc<Shared>, topics: Topics) {
        // set once, by the only caller
        let _ = self.started.set((shared, topics));
    }

    fn snapshot(&self) -> Status<'_> {
        let mut status = Status {
            owner: &self.owner,
            pipeline: &self.pipeline,
            target: &self.target,
            state: State::Starting,
            partitions: Vec::new(),
            halted: Vec::new(),
            refused: None,
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
                (true, _) => State::Stopping,
                (false, true) => State::Running,
                (false, false) => State::WaitingForPostgres,
            };
            status.refused = state.refused.map(|refused| RefusedSince {
                since: rfc3339(refused.since),
                class: refused.class.as_str(),
            });
            for (tp, view) in &state.view {
                status.partitions.push(Partition {
                    topic: name(tp),
                    partition: tp.partition,
                    epoch: view.epoch,
                    next_offset: view.next.map(|next| next.get()),
                    log_end: view.log_end,
                    lag: view.lag(),
                    t: view.t.map(|t| t.to_string()),
                    watermark: view.t.map(|t| {
                        EventTime::from_micros(t.micros() - self.delay_micros).to_string()
                    }),
                    paused: !state.ownership.is_fetched(*tp),
                    state: state
                        .ownership
                        .standing(*tp)
                        .map_or("unknown", Standing::as_str),
                    counters: Totals::from(view.counters),
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
                // a rolling update goes on when this pod can take over, and not at all with credentials that Kafka refuses
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

impl From<Counters> for Totals {
    fn from(c: Counters) -> Self {
        Self {
            consumed: c.consumed,
            accepted: c.accepted,
            merged: c.merged,
            duplicate: c.duplicate,
            rejected: c.rejected,
            late: c.late,
            skipped: c.skipped,
            revised: c.revised,
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
