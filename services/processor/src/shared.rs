//! What the reading thread and the writing task share: the engine, and the little they have to tell
//! each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use clickstream_pipeline::{
    batch::Span,
    checkpoint::Counters,
    decode::{CleanedCounts, columns::PromotedColumn},
    engine::Engine,
    event::EventTime,
    offset::{NextOffset, TopicPartition},
    ownership::{Action, Event, Grant, Ownership, Timing},
    spec::SemanticSpec,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::{
    failpoints::tuned, headroom::Kept, journeys::Journeys, progress::Progress, retry::ErrorClass,
};

/// Limits of the growing batch: at either of them intake waits.
#[derive(Copy, Clone, Debug)]
pub struct BufferLimits {
    /// Rows.
    pub rows: usize,
    /// Bytes.
    pub bytes: usize,
}

/// The meeting place.
pub struct Shared {
    state: Mutex<State>,
    /// Something ended that the reader waits for: a flush, a claim, a release.
    ended: Condvar,
    /// There is something for the writer to do.
    work: Notify,
    /// The growing batch has reached a limit.
    full: Notify,
    limits: BufferLimits,
    began: Instant,
    /// When the reader and the writer were last seen to work.
    pub progress: Progress,
}

/// Everything behind the lock. Nothing in it waits.
pub struct State {
    /// The partition engine.
    pub engine: Engine,
    /// Partitions of the flush that is being committed.
    pub in_flight: BTreeSet<TopicPartition>,
    /// Who may read which partition, and what each one waits for.
    pub ownership: Ownership,
    began: Instant,
    /// The reader waits for everything buffered to be committed.
    pub draining: bool,
    /// The group has said once which partitions are this process's, be it none.
    pub joined: bool,
    /// Nothing more is read.
    pub stopped: bool,
    /// Partition counts that were seen and not noted yet.
    pub partition_counts: BTreeMap<String, i32>,
    /// What `/status` and the metrics show.
    pub view: BTreeMap<TopicPartition, PartitionView>,
    /// Whether the last thing the writer did with PostgreSQL succeeded.
    pub sink_healthy: bool,
    /// PostgreSQL answers, and refuses a flush again and again.
    pub refused: Option<Refused>,
    /// What the topics keep, as far as it is known.
    pub kept: BTreeMap<String, Kept>,
    /// What was cleaned in the events that this process has committed.
    pub cleaned: CleanedCounts,
    /// How many of their properties were left out or changed.
    pub trimmed: u64,
    /// How many of their hits were counted as those of other pages.
    pub folded: u64,
    /// Sampled events on their way.
    pub journeys: Journeys,
    /// Promoted columns of rules that are to be followed.
    pub columns: Option<ColumnLook>,
}

/// Columns that the writer looks for in the target's tables, once a second until they are there.
#[derive(Clone, Debug)]
pub struct ColumnLook {
    /// What is looked for.
    pub wanted: Vec<PromotedColumn>,
    /// What was found last: nothing that stands in the way, or what does; `None` before the first
    /// look.
    pub found: Option<Result<(), String>>,
}

/// Since when PostgreSQL refuses a flush, and why.
#[derive(Copy, Clone, Debug)]
pub struct Refused {
    /// When it did so first.
    pub since: DateTime<Utc>,
    /// What kind of failure it was the last time.
    pub class: ErrorClass,
}

/// How a partition looks from outside.
#[derive(Clone, Debug, Default)]
pub struct PartitionView {
    /// Claim's number.
    pub epoch: i64,
    /// Committed position.
    pub next: Option<NextOffset>,
    /// End of the log; `None` while it is not known.
    pub log_end: Option<i64>,
    /// Committed totals.
    pub counters: Counters,
    /// Committed T.
    pub t: Option<EventTime>,
    /// Last commit.
    pub last_commit: Option<DateTime<Utc>>,
    /// Kafka's time stamp of the last record that this process has committed.
    pub last_received: Option<EventTime>,
    /// When everything was last seen to be committed.
    pub caught_up: Option<EventTime>,
    /// Start of the log; `None` while it is not known.
    pub log_start: Option<i64>,
    /// The partition's broker does not answer: what was seen of the log is old.
    pub leaderless: bool,
    /// It is fetched from a replica that is not its leader, and may know of fewer records.
    pub from_follower: bool,
    /// When this process claimed it.
    pub claimed_at: Option<EventTime>,
    /// When the newest committed heartbeat was sent.
    pub heartbeat: Option<EventTime>,
    /// Since when a Kafka transaction that is still open has held the partition back.
    pub held_since: Option<Instant>,
    /// Stretches of the log that were lost, whenever that was.
    pub gaps: Vec<Range<i64>>,
}

impl Shared {
    /// Nothing assigned, nothing buffered.
    pub fn new(engine: Engine, limits: BufferLimits) -> Self {
        let began = Instant::now();
        let state = State {
            engine,
            in_flight: BTreeSet::new(),
            ownership: Ownership::new(timing()),
            began,
            draining: false,
            joined: false,
            stopped: false,
            partition_counts: BTreeMap::new(),
            view: BTreeMap::new(),
            sink_healthy: false,
            refused: None,
            kept: BTreeMap::new(),
            cleaned: CleanedCounts::default(),
            trimmed: 0,
            folded: 0,
            journeys: Journeys::default(),
            columns: None,
        };
        Self {
            state: Mutex::new(state),
            ended: Condvar::new(),
            work: Notify::new(),
            full: Notify::new(),
            limits,
            began,
            progress: Progress::new(began),
        }
    }

    /// Looks at or changes the state; `f` must not wait.
    pub fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// The rules by which the next record is judged.
    pub fn rules(&self) -> Arc<SemanticSpec> {
        self.with(|state| Arc::clone(state.engine.rules()))
    }

    /// How long this has been here: the clock of the core's times.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Wakes the writer.
    pub fn wake_writer(&self) {
        self.work.notify_one();
    }

    /// Until the reader has work for the writer.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// The reader waits for room.
    pub fn tell_full(&self) {
        self.full.notify_one();
    }

    /// Until the growing batch has reached a limit; perhaps it has shrunk since.
    pub async fn full(&self) {
        self.full.notified().await;
    }

    /// Tells the reader that something ended.
    pub fn notify_reader(&self) {
        self.ended.notify_all();
    }

    /// Blocks the reader until `done` or the deadline; tells whether it was done.
    pub fn wait_until(&self, deadline: Duration, mut done: impl FnMut(&mut State) -> bool) -> bool {
        let end = Instant::now() + deadline;
        let mut state = self.state.lock();
        while !done(&mut state) {
            if self.ended.wait_until(&mut state, end).timed_out() {
                return done(&mut state);
            }
        }
        true
    }

    /// The limits of the growing batch.
    pub fn limits(&self) -> BufferLimits {
        self.limits
    }
}

impl PartitionView {
    /// Records between the committed position and the end of the log; `None` while that is not
    /// known.
    pub fn lag(&self) -> Option<i64> {
        Some((self.log_end? - self.next?.get()).max(0))
    }

    /// The fetcher sees the log from `start` to `end`.
    pub fn look(&mut self, start: i64, end: i64, now: EventTime) {
        // without a broker the fetcher tells what it saw long ago
        if self.leaderless {
            return;
        }
        self.log_end = Some(self.log_end.unwrap_or(0).max(end));
        if start >= 0 {
            self.log_start = Some(start);
        }
        if self.lag() == Some(0) {
            self.caught_up = Some(now);
        }
    }

    /// The age in seconds of the oldest record that is not committed, at most; 0: there is none. It
    /// came after the last one that is committed, and after the last look that found nothing. A
    /// process that has committed nothing yet tells how long it has known of the record.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of any outage are exact in 53 bits"
    )]
    pub fn oldest_unprocessed(&self, now: EventTime) -> Option<f64> {
        if self.lag()? == 0 {
            return Some(0.0);
        }
        let since = self.last_received.max(self.caught_up).or(self.claimed_at)?;
        Some((now.micros() - since.micros()).max(0) as f64 / 1e6)
    }

    /// What was committed since the last commit that this process has heard of, if nobody else can
    /// have done it: the claim with `epoch` follows on its own one, and found `totals`.
    pub fn unheard(&self, epoch: i64, totals: &Counters) -> Option<Counters> {
        self.next.filter(|_| epoch == self.epoch + 1)?;
        Some(*totals - self.counters)
    }

    /// Takes over what a commit says about the log: Kafka's time of its last record, and its
    /// heartbeats.
    pub fn passed(&mut self, span: &Span) {
        self.last_received = span.received.or(self.last_received);
        self.heartbeat = self.heartbeat.max(span.heartbeats.iter().copied().max());
    }
}

impl State {
    /// Whether the growing batch has reached a limit.
    pub fn is_full(&self, limits: BufferLimits) -> bool {
        self.engine.buffered_rows() >= limits.rows
            || self.engine.buffered_bytes() >= limits.bytes
            || self.engine.is_scattered()
    }

    /// Whether it has shrunk to 0.8 of them: a pause throws prefetched records away, so it ends
    /// only when it is worth it.
    pub fn has_room(&self, limits: BufferLimits) -> bool {
        self.engine.buffered_rows() <= limits.rows / 5 * 4
            && self.engine.buffered_bytes() <= limits.bytes / 5 * 4
            && !self.engine.is_scattered()
    }

    /// Whether nothing of the partition waits for a commit.
    pub fn is_drained(&self, tp: TopicPartition) -> bool {
        !self.in_flight.contains(&tp) && !self.engine.has_pending(tp)
    }

    /// Tells the core what has happened, and does what it says to engine and view; the rest is for
    /// whoever told it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        let revoked = match &event {
            Event::Revoked { partitions, .. } => partitions.clone(),
            _ => Vec::new(),
        };
        let actions = self.ownership.on(event, self.began.elapsed());
        for action in &actions {
            match action {
                Action::Drop(tp) => self.engine.release(*tp),
                Action::Close(tp) => self.engine.close(*tp),
                Action::Begin {
                    partition, grant, ..
                } => self.begin(*partition, grant),
                _ => {}
            }
        }
        for tp in revoked {
            self.view.remove(&tp);
            self.journeys.forget(tp);
        }
        actions
    }

    /// Takes a claimed partition into the engine.
    fn begin(&mut self, tp: TopicPartition, grant: &Grant) {
        let recovered = &grant.recovered;
        let next = recovered.next;
        let view = self.view.entry(tp).or_default();
        // nobody else was at it: what is known of the last commit still holds
        let same = view.next == Some(next);
        *view = PartitionView {
            epoch: recovered.claim.epoch,
            next: Some(next),
            t: recovered.clock.t(),
            counters: grant.totals,
            log_end: view.log_end,
            log_start: view.log_start,
            leaderless: view.leaderless,
            last_received: view.last_received.filter(|_| same),
            caught_up: view.caught_up.filter(|_| same),
            heartbeat: view.heartbeat.filter(|_| same),
            last_commit: view.last_commit.filter(|_| same),
            claimed_at: Some(EventTime::from_micros(Utc::now().timestamp_micros())),
            gaps: grant.gaps.clone(),
            ..PartitionView::default()
        };
        self.engine.assign(tp, (**recovered).clone());
    }
}

/// How long things take, which tests shorten.
fn timing() -> Timing {
    let usual = Timing::default();
    Timing {
        examine: tuned("CLICKSTREAM_TEST_EXAMINE_MS", usual.examine),
        ..usual
    }
}
