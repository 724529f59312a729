//! A streaming replica as docs/reader-role.md sets one up, whose readers never rest while the
//! primary is written and days go.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use clickstream_producer::generator::GeneratorOptions;
use clickstream_testbed::{Postgres, PostgresOptions, server_dir, shared};
use tokio_postgres::{Client, error::SqlState};

use crate::{
    days::{DAY, on_both},
    records::{before, clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::end,
};

/// Hits and counters of one snapshot, and all days; then it keeps its snapshot for a second.
const REPORT: &str = "
    select
        (select coalesce(sum(accepted), 0) from clickstream.clickstream_progress)
            = (select coalesce(sum(hits), 0) from clickstream.clickstream_agg_minute),
        (select extract(epoch from clock_timestamp() - max(updated_at))::float8 from clickstream.clickstream_progress),
        (select count(*) from clickstream.clickstream_events),
        pg_sleep(1)::text";

/// What became of the reports.
#[derive(Default, Debug)]
struct Shown {
    reports: u32,
    cancelled: u32,
    /// How late the data was, at most, in seconds.
    behind: f64,
}

/// A primary, and a copy of it that follows.
struct Pair {
    primary: Postgres,
    replica: Postgres,
}

impl Pair {
    async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (first, second) = (server_dir("primary")?, server_dir("replica")?);
        let options = |dir: &Path, settings: Vec<(String, String)>| PostgresOptions {
            data_dir: Some(dir.to_owned()),
            settings,
            ..PostgresOptions::default()
        };
        let primary = Postgres::start(options(&first, Vec::new())).await?;
        primary.stop().await?;
        let copied = Command::new("cp")
            .args(["--archive", "--"])
            .args([first.join("data"), second.join("data")])
            .status()?;
        ensure!(copied.success(), "{copied}");
        fs::write(second.join("data/standby.signal"), "")?;
        primary.start_again().await?;
        let follow = format!(
            "host={} port={} user=postgres",
            primary.host(),
            primary.port()
        );
        let mut settings: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        settings.push(("primary_conninfo".to_owned(), follow));
        let replica = Postgres::start(options(&second, settings)).await?;
        Ok(Self { primary, replica })
    }
}

/// Asks for one report after the other.
async fn report(client: Client, stop: Arc<AtomicBool>) -> anyhow::Result<Shown> {
    let mut shown = Shown::default();
    while !stop.load(Ordering::Relaxed) {
        match client.query_one(REPORT, &[]).await {
            Ok(row) => {
                ensure!(row.get::<_, bool>(0), "hits are not the counters");
                shown.reports += 1;
                shown.behind = shown.behind.max(row.get(1));
            }
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
                shown.cancelled += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(shown)
}

/// Two reports at a time on a replica with these settings, while a pipeline writes for some seconds
/// and drops nine days.
async fn followed(settings: &[(&str, &str)]) -> anyhow::Result<Shown> {
    let Pair { primary, replica } = Pair::start(settings).await?;
    let stack = Stack::on(
        shared::kafka().await?,
        primary,
        StackOptions {
            partitions: 2,
            target: "    retention:\n      events: 48h\n".to_owned(),
            ..StackOptions::default()
        },
    )
    .await?;
    let today = now();
    let processor = stack.start("one")?;
    for day in (0..12_u32).rev() {
        let numbers = u64::from(day) * 100..u64::from(day) * 100 + 50;
        stack
            .place(on_both(clicks(numbers, before(today, DAY * day))))
            .await?;
    }
    stack.drained().await?;
    end(&processor).await?;
    let there = "select count(*) from clickstream.clickstream_events_default";
    let begun = Instant::now();
    while replica
        .connect(&stack.database)
        .await?
        .query(there, &[])
        .await
        .is_err()
    {
        ensure!(begun.elapsed() < PATIENCE, "the replica does not follow");
        tokio::time::sleep(LOOK).await;
    }

    let stop = Arc::new(AtomicBool::new(false));
    let mut reports = Vec::new();
    for _ in 0..2 {
        let client = replica.connect(&stack.database).await?;
        reports.push(tokio::spawn(report(client, Arc::clone(&stop))));
        // half a report later, so that there is always one
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let processor = stack.start_with("again", &[("CLICKSTREAM_TEST_UPKEEP_MS", "100")])?;
    let begun = Instant::now();
    for seed in 0.. {
        let options = GeneratorOptions {
            seed,
            ..GeneratorOptions::default()
        };
        stack.produce(options, 50).await?;
        if begun.elapsed() > Duration::from_secs(15) {
            break;
        }
    }
    stack.drained().await?;
    let gone = "select not exists (select from clickstream_days()
            where day < (now() at time zone 'UTC')::date - 2)
        and not exists (select from clickstream_leaving_days())";
    stack.eventually("the old days are gone", gone).await?;
    end(&processor).await?;
    stop.store(true, Ordering::Relaxed);
    let mut all = Shown::default();
    for report in reports {
        let shown = report.await??;
        all.reports += shown.reports;
        all.cancelled += shown.cancelled;
        all.behind = all.behind.max(shown.behind);
    }
    // with nobody in its way it comes to where the primary is
    let ended = Instant::now();
    let written: String = stack
        .client
        .query_one("select pg_current_wal_lsn()::text", &[])
        .await?
        .get(0);
    let reader = replica.connect(&stack.database).await?;
    let caught_up = "select pg_last_wal_replay_lsn() >= ($1::text)::pg_lsn";
    while !reader
        .query_one(caught_up, &[&written])
        .await?
        .get::<_, bool>(0)
    {
        ensure!(ended.elapsed() < PATIENCE, "the replica stays behind");
        tokio::time::sleep(LOOK).await;
    }
    Ok(all)
}

#[tokio::test]
async fn a_replica_that_tells_the_primary_of_its_queries_cancels_none_and_keeps_up()
-> anyhow::Result<()> {
    let shown = followed(&[
        ("max_standby_streaming_delay", "15s"),
        ("hot_standby_feedback", "on"),
    ])
    .await?;
    ensure!(
        shown.cancelled == 0 && shown.behind < 15.0 && shown.reports > 10,
        "{shown:?}"
    );
    Ok(())
}

/// Each report alone would be over long before the delay: together they use it up.
#[tokio::test]
async fn one_that_does_not_cancels_reports_that_follow_each_other() -> anyhow::Result<()> {
    let shown = followed(&[
        ("max_standby_streaming_delay", "6s"),
        ("hot_standby_feedback", "off"),
    ])
    .await?;
    ensure!(shown.cancelled > 0, "{shown:?}");
    Ok(())
}
