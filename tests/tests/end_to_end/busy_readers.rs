//! Dashboards that never rest, while days come and go: how long they wait for locks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use clickstream_testbed::{PostgresVersion, shared, unique_name};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, error::SqlState};

use crate::{
    days::DAY,
    records::{Placed, before, clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::end,
};

/// What a reader may wait for a lock, at most.
const LONGEST: Duration = Duration::from_millis(200);

/// As the queries of panels do, it names every day: `now()` is no constant. The second half keeps
/// what it has locked.
const PANEL: &str = "begin;
    select count(*) from clickstream_events where event_ts >= now() - interval '1 hour';
    select pg_sleep(0.04);
    commit";

/// How long each session of a role has waited for the lock that it waits for, in milliseconds.
const WAITS: &str = "
    select coalesce(max(extract(epoch from clock_timestamp() - waitstart) * 1000), 0)::float8
    from pg_locks join pg_stat_activity using (pid)
    where usename = $1::text::name and not granted and waitstart is not null";

/// A role of dashboards, and what its sessions ask without a pause.
struct Dashboards {
    role: String,
    stop: Arc<AtomicBool>,
    panels: Vec<JoinHandle<anyhow::Result<u64>>>,
    longest: JoinHandle<anyhow::Result<Duration>>,
}

impl Dashboards {
    /// Four panels, so that at every instant somebody holds a lock on each day.
    async fn open(stack: &Stack, role: &str) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut panels = Vec::new();
        for panel in 0..4 {
            let session = session(stack, role).await?;
            let stop = Arc::clone(&stop);
            panels.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20 * panel)).await;
                let mut shown = 0;
                while !stop.load(Ordering::Relaxed) {
                    session.batch_execute(PANEL).await?;
                    shown += 1;
                }
                Ok(shown)
            }));
        }
        let watcher = stack.postgres.connect(&stack.database).await?;
        let longest = {
            let (role, stop) = (role.to_owned(), Arc::clone(&stop));
            tokio::spawn(async move {
                let waits = watcher.prepare(WAITS).await?;
                let mut longest = 0.0_f64;
                while !stop.load(Ordering::Relaxed) {
                    let row = watcher.query_one(&waits, &[&role]).await?;
                    longest = longest.max(row.get(0));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(Duration::from_secs_f64(longest / 1_000.0))
            })
        };
        Ok(Self {
            role: role.to_owned(),
            stop,
            panels,
            longest,
        })
    }

    /// Ends them, and sees that none of their sessions waited for a lock for longer than it may.
    async fn close(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for panel in self.panels {
            let shown = panel.await??;
            ensure!(shown > 0, "a panel of {} showed nothing", self.role);
        }
        let longest = self.longest.await??;
        ensure!(longest < LONGEST, "a reader waited {longest:?} for a lock");
        Ok(())
    }
}

async fn session(stack: &Stack, role: &str) -> anyhow::Result<Client> {
    let client = stack.postgres.connect_as(role, &stack.database).await?;
    client
        .batch_execute("set search_path = clickstream")
        .await?;
    Ok(client)
}

/// A pipeline whose tables a role of dashboards may read.
async fn with_reader(version: PostgresVersion, target: &str) -> anyhow::Result<(Stack, String)> {
    let role = unique_name("dashboards");
    let postgres = shared::postgres(version).await?;
    let admin = postgres.connect("postgres").await?;
    admin
        .batch_execute(&format!("create role {role} login"))
        .await?;
    let stack = Stack::new(StackOptions {
        partitions: 1,
        postgres: version,
        target: format!("    rawReaders: [{role}]\n{target}"),
        ..StackOptions::default()
    })
    .await?;
    Ok((stack, role))
}

/// Fifty clicks of each of these days, counted back from today.
fn of_days(days: impl Iterator<Item = u32>) -> Vec<Placed> {
    days.flat_map(|day| {
        let numbers = u64::from(day) * 100..u64::from(day) * 100 + 50;
        let clicks = clicks(numbers, before(now(), DAY * day));
        clicks
            .iter()
            .map(|click| click.on(0))
            .collect::<Vec<Placed>>()
    })
    .collect()
}

/// Waits until this holds `times` times after having not held, which is how often something was
/// tried.
async fn tried(stack: &Stack, query: &str, times: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = false;
    let mut seen = 0;
    while seen < times {
        ensure!(Instant::now() < deadline, "tried {seen} times: {query}");
        let holds = stack.client.query_one(query, &[]).await?.get(0);
        seen += u32::from(holds && !before);
        before = holds;
        tokio::time::sleep(LOOK / 4).await;
    }
    Ok(())
}

async fn days_go(version: PostgresVersion) -> anyhow::Result<()> {
    let (stack, role) = with_reader(version, "    retention:\n      events: 48h\n").await?;
    let processor = stack.start("one")?;
    stack.place(of_days((0..12).rev())).await?;
    stack.drained().await?;
    end(&processor).await?;

    let dashboards = Dashboards::open(&stack, &role).await?;
    // an audit, which reads the oldest day by its own name
    let audit = session(&stack, &role).await?;
    let oldest = before(now(), DAY * 11).day().to_string().replace('-', "");
    audit
        .batch_execute(&format!(
            "begin; select count(*) from clickstream_events_{oldest}"
        ))
        .await?;
    let processor = stack.start_with("again", &[("CLICKSTREAM_TEST_UPKEEP_MS", "100")])?;
    tried(
        &stack,
        &format!(
            "select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock'
                and relation = 'clickstream_events_{oldest}'::regclass
                and database = (select oid from pg_database where datname = current_database()))"
        ),
        3,
    )
    .await?;
    audit.batch_execute("commit").await?;
    let gone = "select not exists (select from clickstream_days()
            where day < (now() at time zone 'UTC')::date - 2)
        and not exists (select from clickstream_leaving_days())";
    stack.eventually("the old days are gone", gone).await?;
    dashboards.close().await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_dashboard_that_never_rests_waits_for_no_day_that_goes() -> anyhow::Result<()> {
    days_go(PostgresVersion::V18).await
}

#[tokio::test]
async fn nor_does_it_on_the_oldest_server_that_is_supported() -> anyhow::Result<()> {
    days_go(PostgresVersion::V15).await
}

#[tokio::test]
async fn a_dashboard_that_never_rests_waits_for_no_day_that_comes() -> anyhow::Result<()> {
    let (stack, role) = with_reader(PostgresVersion::V18, "").await?;
    let processor = stack.start("one")?;
    stack.place(of_days(20..21)).await?;
    stack.drained().await?;
    let dashboards = Dashboards::open(&stack, &role).await?;
    // a report over all days, so that the default partition is not to be had until it ends
    let report = session(&stack, &role).await?;
    report
        .batch_execute("begin; select count(*) from clickstream_events")
        .await?;
    stack.place(of_days((5..15).rev())).await?;
    tried(
        &stack,
        "select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock'
            and relation = 'clickstream_events_default'::regclass
            and database = (select oid from pg_database where datname = current_database()))",
        3,
    )
    .await?;
    report.batch_execute("commit").await?;
    stack.drained().await?;
    stack
        .eventually(
            "each day has a partition, and its rows are in it",
            "select not exists (select from clickstream_events_default)
                and count(distinct tableoid) = 11 from clickstream_events",
        )
        .await?;
    dashboards.close().await?;
    end(&processor).await?;
    stack.audit().await?;
    Ok(())
}

/// Rows that came before their day had a partition.
#[tokio::test]
async fn nor_for_the_rows_that_move_into_it() -> anyhow::Result<()> {
    let (stack, role) = with_reader(PostgresVersion::V18, "").await?;
    stack
        .client
        .batch_execute(
            "insert into clickstream_events
                 (event_id, user_id, event_ts, event_date, url, received_at, source_topic_id, source_partition, source_offset)
             select gen_random_uuid(), 'u', '2016-02-29 12:00Z', '2016-02-29', '/', now(), 1, 0, n
             from generate_series(1, 50000) as n",
        )
        .await?;
    let dashboards = Dashboards::open(&stack, &role).await?;
    let begun = Instant::now();
    loop {
        let made = stack
            .client
            .query_one("select clickstream_add_day('2016-02-29', 50000)", &[])
            .await;
        match made {
            Ok(row) => {
                assert_eq!(row.get::<_, &str>(0), "created");
                break;
            }
            Err(error) => ensure!(
                error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) && begun.elapsed() < PATIENCE,
                "{error:?}"
            ),
        }
    }
    let moved = "select count(*) from clickstream_events_20160229";
    assert_eq!(stack.count(moved).await?, 50_000);
    dashboards.close().await?;
    Ok(())
}
