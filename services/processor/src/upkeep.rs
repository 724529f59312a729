//! Retention and statistics, beside the stream: a task with a session of its own, one per target. A
//! day may take an hour to count or a ledger a thousand batches to shrink, and no flush waits for
//! it.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use chrono::{DateTime, NaiveDate, Utc};
use clickstream_pipeline::{
    event::Day,
    spec::{PostgresSettings, RetentionSpec},
};
use clickstream_postgres::explain_chain;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    failpoints::tuned,
    metrics::{DayChange, WriterMetrics},
    shared::Shared,
    sink::{
        self, SinkFault,
        expiry::{self, Election, HoldsBack, Ledger, Retention},
        statistics::{self, Events},
    },
};

/// How often it looks for what is past its time, or worth statistics.
const EVERY: Duration = Duration::from_secs(60);
/// How often it tries to take out the days that are past their time, of each turn. An attempt makes
/// readers and flushes wait for a tenth of a second, so beside queries that follow each other
/// without a gap it is the many attempts that succeed.
const ATTEMPTS: u32 = 20;
/// How long readers and flushes are left alone between two of them.
const PAUSE: Duration = Duration::from_secs(1);

/// What the task is given.
pub struct Upkeep {
    /// Where.
    pub postgres: PostgresSettings,
    /// Schema of the target.
    pub schema: String,
    /// Name of this process.
    pub owner: String,
    /// What is kept for how long.
    pub retention: RetentionSpec,
    /// Where the rules of the pipeline stand.
    pub shared: Arc<Shared>,
    /// When a silent partition counts as idle, µs.
    pub idle_timeout_micros: i64,
    /// Where it is counted.
    pub metrics: WriterMetrics,
}

/// What one turn leaves to the next.
#[derive(Default)]
struct Memory {
    /// The partition that was last said to hold retention back.
    told: Option<HoldsBack>,
    /// The day that was summarised last.
    summarised: Option<Day>,
    /// What last became of the statistics.
    events: Option<Events>,
}

impl Upkeep {
    /// Works until `stop`. Whatever fails is said and tried again a minute later: nothing of the
    /// stream depends on it.
    pub async fn run(self, stop: CancellationToken) {
        let mut session = None;
        let mut memory = Memory::default();
        while !stop.is_cancelled() {
            let turn = async {
                if session.as_ref().is_none_or(Client::is_closed) {
                    session = self.elected().await?;
                }
                if let Some(client) = &session {
                    self.expire(client, &mut memory.told, &stop).await?;
                    self.describe(client, &mut memory, &stop).await?;
                }
                anyhow::Ok(())
            };
            tokio::select! {
                done = turn => if let Err(error) = done {
                    warn!(error = explain_chain(&*error), "retention has to wait, and statistics with it");
                    session = None;
                },
                // what is under way is rolled back with the session
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(tuned("CLICKSTREAM_TEST_UPKEEP_MS", EVERY)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// A session, if no other processor of the target has it already.
    async fn elected(&self) -> anyhow::Result<Option<Client>> {
        // not the name of a writer's session: a claim ends those of previous owners
        let name = format!("clickstream-upkeep {}", self.owner);
        let connection = sink::connect(&self.postgres, &self.schema, &name).await?;
        match expiry::elect(&connection.client).await? {
            Election::Ours => Ok(Some(connection.client)),
            Election::Theirs => Ok(None),
            Election::Stranger { pid, role } => bail!(
                "session {pid} of role {role}, which may not write here, holds the lock of this work: \
                 end it with: select pg_terminate_backend({pid})"
            ),
        }
    }

    async fn expire(
        &self,
        client: &Client,
        told: &mut Option<HoldsBack>,
        stop: &CancellationToken,
    ) -> Result<(), SinkFault> {
        let retention = Retention::at(Utc::now(), &self.retention);
        let windows = self.shared.rules().window_micros;
        if let Some(before) = retention.events {
            self.expire_events(client, before, told, stop).await?;
        }
        for ledger in Ledger::ALL {
            let Some(before) = retention.before(ledger, windows) else {
                continue;
            };
            while expiry::expire(client, ledger, before).await? && !stop.is_cancelled() {}
        }
        Ok(())
    }

    /// Days go only when they are past their time by the wall clock and by the log.
    async fn expire_events(
        &self,
        client: &Client,
        before: DateTime<Utc>,
        told: &mut Option<HoldsBack>,
        stop: &CancellationToken,
    ) -> Result<(), SinkFault> {
        let (present, leaving) = expiry::days(client).await?;
        for day in leaving {
            self.drop_detached(client, day).await?;
        }
        let rules = self.shared.rules();
        let held = expiry::holds_back(client, &rules, self.idle_timeout_micros).await?;
        let oldest = match &held {
            None => Some(before.date_naive()),
            Some(HoldsBack { watermark, .. }) => {
                watermark.map(|watermark| before.min(watermark).date_naive())
            }
        };
        let overdue = |day: &Day| day.date() < before.date_naive();
        let may_go = |day: &Day| oldest.is_some_and(|oldest| day.date() < oldest);
        let waiting = present.iter().filter(|day| overdue(day) && !may_go(day));
        self.tell(waiting.count(), held, told);
        let Some(oldest) = oldest else { return Ok(()) };
        let mut attempts = ATTEMPTS;
        for day in present.into_iter().filter(may_go) {
            while !self.drop_day(client, day).await? {
                attempts -= 1;
                if attempts == 0 {
                    return self.expire_outliers(client, oldest, stop).await;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.expire_outliers(client, oldest, stop).await
    }

    /// Drops a day. `false`: a lock stood in the way, as it would of the days after it.
    async fn drop_day(&self, client: &Client, day: Day) -> Result<bool, SinkFault> {
        let detached = expiry::detach(client, day).await?;
        if detached {
            self.drop_detached(client, day).await?;
        } else {
            self.metrics.days_changed(DayChange::LockMissed, 1);
            debug!(%day, "a lock stands in the way of dropping a day; it is tried again");
        }
        Ok(detached)
    }

    /// What the planner and the indexes know. A day that is over is summarised once for each life
    /// of this process, which costs nothing where it was done.
    async fn describe(
        &self,
        client: &Client,
        memory: &mut Memory,
        stop: &CancellationToken,
    ) -> Result<(), SinkFault> {
        let over = statistics::last_day(client, Utc::now().date_naive()).await?;
        if let Some(day) = over.filter(|_| over != memory.summarised) {
            let ranges = statistics::summarise(client, day).await?;
            if ranges.is_some() {
                memory.summarised = over;
            }
            debug!(%day, ranges, "summarised a day that is over");
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        let events = statistics::analyse(client).await?;
        match events {
            Events::Analysed => info!("took statistics of the events of all days"),
            Events::Left if memory.events != Some(Events::Left) => warn!(
                "no statistics of the events of all days are taken: that locks each day, and they are too many for \
                 max_locks_per_transaction; queries over many days may be planned badly"
            ),
            Events::Left | Events::Known | Events::Busy => {}
        }
        memory.events = Some(events);
        Ok(())
    }

    async fn drop_detached(&self, client: &Client, day: Day) -> Result<(), SinkFault> {
        let rows = expiry::drop_detached(client, day).await?;
        self.metrics.days_changed(DayChange::Dropped, 1);
        info!(%day, rows, "dropped a day past its retention");
        Ok(())
    }

    async fn expire_outliers(
        &self,
        client: &Client,
        oldest: NaiveDate,
        stop: &CancellationToken,
    ) -> Result<(), SinkFault> {
        let mut rows = 0;
        loop {
            let (gone, more) = expiry::expire_outliers(client, oldest).await?;
            rows += gone;
            if !more || stop.is_cancelled() {
                break;
            }
        }
        if rows > 0 {
            info!(rows, before = %oldest, "deleted events past their retention from the default partition");
        }
        Ok(())
    }

    /// Says which partition retention waits for: once, and again when it is another one.
    fn tell(&self, days: usize, held: Option<HoldsBack>, told: &mut Option<HoldsBack>) {
        let days = i64::try_from(days).unwrap_or(i64::MAX);
        self.metrics.days_held.set(days);
        let held = held.filter(|_| days > 0);
        let place = |held: &HoldsBack| (held.topic.clone(), held.partition);
        if held.as_ref().map(place) != told.as_ref().map(place)
            && let Some(held) = &held
        {
            warn!(
                topic = held.topic,
                partition = held.partition,
                watermark = held.watermark.map(|watermark| watermark.to_rfc3339()),
                days,
                "days past their retention are kept: the log of a partition has not come so far"
            );
        }
        *told = held;
    }
}
