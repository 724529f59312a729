//! The writing task: connection, claims, flushes and housekeeping, one after the other on one
//! session.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use clickstream_pipeline::{
    admission::AdmittedPages,
    commit::{Failure as _, Remedy, Settlement, settle},
    engine::Flush,
    event::{Day, EventTime},
    offset::TopicPartition,
    ownership::{Action, Claimed, Event, Grant},
    spec::{Durability, PostgresSettings},
};
use rand::RngExt;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, error, info, warn};

use self::ahead::while_ahead;
use crate::{
    metrics::{FlushOutcome, HeartbeatMetrics, WriterMetrics},
    retry::ErrorClass,
    shared::{Refused, Shared},
    sink::{ConnectError, PostgresSink, SinkFault, Topics},
};

mod ahead;
mod days;
mod housekeeping;
pub(crate) mod outcome;
mod session;
mod traced;

/// Housekeeping: end-of-log positions, finality, gauges.
const TICK: Duration = Duration::from_secs(1);
/// The days that are there, and those ahead.
const MAINTENANCE: Duration = Duration::from_secs(60);
/// Anchors beside those of every claim.
const ANCHOR: Duration = Duration::from_secs(3_600);
/// How often the windows are counted.
const WINDOWS: Duration = Duration::from_secs(10);
/// A flush that leaves memory worth giving back, rows.
const LARGE_FLUSH: usize = 10_000;
/// A backlog is over when no large flush came for this long.
const BACKLOG_OVER: Duration = Duration::from_secs(5);
/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A fenced partition that the group still counts as ours is claimed again after this: by then a
/// member that was thought dead has heard that it is out.
const FENCED_PAUSE: Duration = Duration::from_secs(2);

/// After a lost session partitions are claimed again only when the reader has polled once more: a
/// process that was frozen hears then that the group has moved on, and does not take its partitions
/// back from their new owner.
const LOST_PAUSE: Duration = Duration::from_millis(150);

/// How long a flush may take once the process is to end. Kubernetes kills after 30 s, and the
/// reader has waited for the flush before.
const LAST_FLUSH: Duration = Duration::from_secs(4);

/// Why the process has to end.
#[derive(Debug, Error)]
pub enum WriterFault {
    /// Nothing that trying again would mend.
    #[error("{0}")]
    Sink(#[from] SinkFault),
    /// Not even a session can be had, and waiting would not help.
    #[error("{0}")]
    Connect(#[from] ConnectError),
}

/// What the writer is given.
pub struct WriterSettings {
    /// Where to write.
    pub postgres: PostgresSettings,
    /// Schema of the target.
    pub schema: String,
    /// Durability of commits.
    pub durability: Durability,
    /// When a silent partition counts as idle, µs.
    pub idle_timeout_micros: i64,
    /// Name of this process in claims.
    pub owner: String,
    /// Topics by number.
    pub topics: Topics,
    /// Where the latency of heartbeats is counted, if they are sent.
    pub beats: Option<HeartbeatMetrics>,
}

/// The writing task.
pub struct Writer {
    settings: WriterSettings,
    shared: Arc<Shared>,
    metrics: WriterMetrics,
    sink: Option<PostgresSink>,
    final_until: Option<EventTime>,
    /// Which pages of the windows of late have rows of their own.
    pages: AdmittedPages,
    days: HashSet<Day>,
    /// Days that are to get a partition.
    due_days: BTreeSet<Day>,
    /// Somebody's lock stood in the way: until then none is created.
    days_locked_until: Option<Instant>,
    /// Taken ahead of its time.
    next: Option<Flush>,
    attempts: u32,
    /// Steps that PostgreSQL refused one after the other.
    refusals: u32,
    last_tick: Instant,
    last_maintenance: Option<Instant>,
    last_anchor: Instant,
    last_windows: Instant,
    /// Windows that end by then are counted as final.
    windows_until: Option<EventTime>,
    /// When the last large flush was committed, until its memory has been given back.
    last_large: Option<Instant>,
}

impl Writer {
    /// A writer that begins with an open sink.
    pub fn new(
        settings: WriterSettings,
        shared: Arc<Shared>,
        metrics: WriterMetrics,
        sink: PostgresSink,
    ) -> Self {
        let now = Instant::now();
        let mut writer = Self {
            settings,
            shared,
            metrics,
            sink: None,
            final_until: None,
            pages: AdmittedPages::default(),
            days: HashSet::new(),
            due_days: BTreeSet::new(),
            days_locked_until: None,
            next: None,
            attempts: 0,
            refusals: 0,
            last_tick: now,
            last_maintenance: None,
            last_anchor: now,
            last_windows: now,
            windows_until: None,
            last_large: None,
        };
        writer.connected(sink);
        writer
    }

    /// Works until `stop`; the reader has drained and given back everything before it is given.
    ///
    /// # Errors
    /// [`WriterFault`]: the process should end and be started again.
    pub async fn run(mut self, stop: &CancellationToken) -> Result<(), WriterFault> {
        while !stop.is_cancelled() {
            self.shared.progress.writer();
            let stepped = tokio::select! {
                stepped = self.step(stop) => stepped,
                () = long_after(stop) => {
                    // what was under way is rolled back with the session, and read again by the
                    // next owner
                    warn!("postgresql did not take the last flush in time");
                    self.shared.with(|state| state.sink_healthy = false);
                    break;
                }
            };
            if let Err(fault) = stepped {
                let class = outcome::class(&fault);
                let remedy = fault.remedy();
                self.metrics.postgres_error(class, outcome::word(&remedy));
                self.recover(fault)?;
                if matches!(remedy, Remedy::Repeat { .. }) {
                    // a claim or housekeeping is refused, and would be as often as a session can be
                    // opened
                    self.refused(class);
                    self.refusals += 1;
                    tokio::select! {
                        () = tokio::time::sleep(backoff(self.refusals)) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// One piece of work, or a wait for it.
    async fn step(&mut self, stop: &CancellationToken) -> Result<(), SinkFault> {
        if self.sink.as_ref().is_none_or(PostgresSink::is_closed) {
            self.reconnect(stop).await?;
            return Ok(());
        }
        if self.last_maintenance.is_none() {
            // before the first flush of a session: the partition of a day is made while nobody's
            // flush holds the default one
            self.maintain().await?;
        }
        self.claim().await?;
        self.release().await?;
        let quiet_too = self.last_tick.elapsed() >= TICK;
        let ahead = self.next.take();
        let flush = self.shared.with(|state| {
            let flush = ahead.or_else(|| state.engine.take_flush(quiet_too || state.draining));
            state.in_flight = flush
                .iter()
                .flat_map(|flush| flush.claims.keys().copied())
                .collect();
            flush
        });
        self.shared.notify_reader();
        if let Some(flush) = flush {
            self.flush(flush).await?;
        } else if !quiet_too {
            let tick = TICK.saturating_sub(self.last_tick.elapsed());
            tokio::select! {
                () = self.shared.work() => {}
                () = tokio::time::sleep(tick) => {}
                () = stop.cancelled() => {}
            }
        }
        // by the same reading of the clock as above, so that every tick has looked for quiet
        // partitions
        if quiet_too {
            self.last_tick = Instant::now();
            self.keep_house().await?;
            self.progressing();
        }
        Ok(())
    }

    /// Commits one flush, repeating it while that is what its failures ask for.
    async fn commit(&mut self, flush: &mut Flush) -> Result<(), SinkFault> {
        self.create_missing_days(flush).await?;
        let started = Instant::now();
        let mut repeats = 0;
        loop {
            self.shared.progress.writer();
            let Some(sink) = self.sink.as_mut() else {
                return Ok(());
            };
            let settled = settle(sink, flush, self.final_until, &mut self.pages);
            let (settled, ahead) = while_ahead(settled, &self.shared, self.next.is_none()).await;
            if let Some(ahead) = ahead {
                let (next, prepared) = ahead
                    .await
                    .expect("encoding does not panic and is not cancelled");
                self.next = Some(next);
                sink.offer(prepared);
            }
            match settled {
                Ok(settlement) => {
                    self.committed(flush, &settlement, started);
                    // given back outside of the lock, where it is not used again
                    if let Some(empty) = std::mem::take(&mut flush.batch).recycled() {
                        self.shared.with(|state| state.engine.reuse(empty));
                    }
                    return Ok(());
                }
                Err(unsettled) => {
                    self.leave_fenced(flush);
                    let Remedy::Repeat { later } = unsettled.remedy else {
                        self.metrics.flush(match unsettled.remedy {
                            Remedy::Reclaim => FlushOutcome::Unknown,
                            _ => FlushOutcome::Failed,
                        });
                        return Err(unsettled.error);
                    };
                    self.metrics.postgres_error(
                        outcome::class(&unsettled.error),
                        outcome::word(&unsettled.remedy),
                    );
                    repeats += 1;
                    self.metrics.flush(FlushOutcome::Repeated);
                    let pause = if later {
                        backoff(repeats)
                    } else {
                        jittered(Duration::from_millis(20))
                    };
                    warn!(error = %unsettled.error, repeats, pause_ms = pause.as_millis(), "flush is repeated");
                    if later {
                        self.refused(outcome::class(&unsettled.error));
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Nothing is progressing, although PostgreSQL answers: said at once, wherever it is asked for.
    fn refused(&self, class: ErrorClass) {
        self.metrics.sink_up.set(0);
        self.shared.with(|state| {
            state.sink_healthy = false;
            let since = state.refused.map_or_else(Utc::now, |refused| refused.since);
            state.refused = Some(Refused { since, class });
        });
        self.shared.notify_reader();
    }

    /// PostgreSQL has just taken something.
    fn progressing(&mut self) {
        self.refusals = 0;
        let refused = self.shared.with(|state| {
            state.sink_healthy = true;
            state.refused.take()
        });
        if let Some(refused) = refused {
            self.metrics.sink_up.set(1);
            info!(since = %refused.since, class = refused.class.as_str(), "postgresql takes flushes again");
        }
    }

    fn committed(&mut self, flush: &Flush, settlement: &Settlement, started: Instant) {
        let now = Utc::now();
        self.progressing();
        if flush.batch.rows.len() >= LARGE_FLUSH {
            self.last_large = Some(Instant::now());
        }
        let ahead: BTreeSet<TopicPartition> = self
            .next
            .iter()
            .flat_map(|flush| flush.claims.keys().copied())
            .collect();
        let cleaned = outcome::cleaned(flush);
        let trimmed = outcome::trimmed(flush);
        if let Some(sink) = &mut self.sink {
            self.metrics.keys_left_out.inc_by(sink.take_left_out_keys());
        }
        self.shared.with(|state| {
            state.in_flight = ahead;
            state.cleaned.add(&cleaned);
            state.trimmed += trimmed;
            state.folded += settlement.folded.values().sum::<u64>();
            state.engine.distrust(settlement.distrusted.iter().copied());
            for (tp, delta) in &settlement.deltas {
                if let Some(view) = state.view.get_mut(tp) {
                    view.next = Some(delta.to);
                    view.counters += delta.counters;
                    view.t = delta.clock.t();
                    view.last_commit = Some(now);
                    if let Some(span) = flush.batch.spans.get(tp) {
                        view.passed(span);
                    }
                }
            }
        });
        for (tp, delta) in &settlement.deltas {
            let topic = self
                .settings
                .topics
                .get(&tp.topic)
                .map_or("", String::as_str);
            self.metrics.committed(topic, *tp, &delta.counters);
            let folded = settlement.folded.get(tp).copied().unwrap_or(0);
            self.metrics.folded(topic, *tp, folded);
        }
        self.metrics.trimmed.inc_by(trimmed);
        outcome::count(
            &self.metrics,
            flush,
            settlement,
            &cleaned,
            started.elapsed(),
            now,
        );
        if let Some(beats) = &self.settings.beats {
            outcome::beats(beats, flush, now);
        }
        if !settlement.distrusted.is_empty() {
            info!(
                rows = flush.batch.rows.len(),
                "a row taken for new was stored already; the filter is not trusted for a while"
            );
        }
        if settlement.refused > 0 {
            warn!(
                rows = settlement.refused,
                "the database refused rows; they are in the dead letters"
            );
        }
        self.leave_fenced(flush);
        self.shared.notify_reader();
    }

    /// Partitions that are another owner's now. If the group still gives them to this process, they
    /// are claimed again.
    fn leave_fenced(&mut self, flush: &Flush) {
        if flush.fenced.is_empty() {
            return;
        }
        self.metrics.fenced.inc_by(flush.fenced.len() as u64);
        let pause = jittered(FENCED_PAUSE);
        for &partition in &flush.fenced {
            warn!(
                partition = partition.partition,
                "fenced: another owner has claimed the partition"
            );
            self.shared
                .with(|state| state.on(Event::Fenced { partition, pause }));
        }
    }

    /// Makes the claims that the reader asks for.
    async fn claim(&mut self) -> Result<(), SinkFault> {
        let turn = self.shared.with(|state| state.on(Event::ClaimTurn));
        let requests: Vec<_> = turn
            .into_iter()
            .filter_map(|action| match action {
                Action::Claim(request) => Some(request),
                _ => None,
            })
            .collect();
        if requests.is_empty() {
            return Ok(());
        }
        let Some(sink) = self.sink.as_mut() else {
            return Ok(());
        };
        let span = debug_span!("claim", partitions = requests.len());
        let rules = self.shared.rules();
        let claimed = sink.claim(&requests, &rules);
        let claimed = match claimed.instrument(span).await {
            Ok(claimed) => claimed,
            Err(fault) => {
                self.metrics
                    .claims
                    .with_label_values(&["failed"])
                    .inc_by(requests.len() as u64);
                self.shared.with(|state| state.on(Event::ClaimsFailed));
                return Err(fault);
            }
        };
        for (tp, claimed) in claimed {
            let topic = self
                .settings
                .topics
                .get(&tp.topic)
                .map_or("", String::as_str);
            match &claimed {
                Claimed::Ours(Grant {
                    recovered,
                    totals,
                    gap,
                    ..
                }) => {
                    self.metrics.claims.with_label_values(&["claimed"]).inc();
                    // a commit whose answer was lost has happened after all
                    let unheard = self.shared.with(|state| {
                        state
                            .view
                            .get(&tp)
                            .and_then(|view| view.unheard(recovered.claim.epoch, totals))
                    });
                    self.metrics
                        .claimed(topic, tp, &unheard.unwrap_or_default());
                    debug!(topic, partition = tp.partition, epoch = recovered.claim.epoch, next = %recovered.next, "claimed");
                    if let Some(gap) = gap {
                        self.metrics
                            .gap_records
                            .inc_by((gap.end - gap.start).unsigned_abs());
                        error!(
                            topic,
                            partition = tp.partition,
                            first = gap.start,
                            next = gap.end,
                            "data loss: kafka dropped records before they were read; see clickstream_gaps"
                        );
                    }
                }
                Claimed::Halted(obstacle) => {
                    self.metrics.claims.with_label_values(&["halted"]).inc();
                    // said once it is certain
                    debug!(topic, partition = tp.partition, error = %obstacle, "not claimed");
                }
            }
            let told = Event::Claimed {
                partition: tp,
                outcome: claimed,
            };
            for action in self.shared.with(|state| state.on(told)) {
                if let Action::Say(tp, obstacle) = action {
                    error!(topic, partition = tp.partition, error = %obstacle, "partition halted");
                }
            }
        }
        self.shared.notify_reader();
        Ok(())
    }

    /// Tells the database which partitions nobody holds any more.
    async fn release(&mut self) -> Result<(), SinkFault> {
        let turn = self.shared.with(|state| state.on(Event::ReleaseTurn));
        let releases: Vec<_> = turn
            .into_iter()
            .filter_map(|action| match action {
                Action::Release(tp, claim) => Some((tp, claim)),
                _ => None,
            })
            .collect();
        if releases.is_empty() {
            return Ok(());
        }
        let done = match &self.sink {
            Some(sink) => sink.release(&releases).await,
            None => Ok(()),
        };
        self.shared.with(|state| state.on(Event::Released));
        self.shared.notify_reader();
        done
    }
}

/// When what is under way has had its time after `stop`.
async fn long_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_FLUSH).await;
}

/// 100 ms, doubled with every attempt up to [`BACKOFF_MAX`], and jittered so that many processors
/// do not come at once.
fn backoff(attempts: u32) -> Duration {
    let doubled =
        Duration::from_millis(100).saturating_mul(1 << attempts.saturating_sub(1).min(10));
    jittered(doubled.min(BACKOFF_MAX))
}

/// Between half and all of `pause`.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
