//! Retention drops a day of millions of rows while events come in.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clickstream_pipeline::spec::Duration as Keep;
use clickstream_testbed::Process;

use super::day;
use crate::bench::figure::{Aim, Figure, Run};
use crate::bench::latency::{Sightings, Watch};
use crate::bench::load::Load;
use crate::bench::stand::{PARTITIONS, Stand, Trial};
use xtask::args::BenchArgs;

/// Rows of the day.
const ROWS: u32 = 5_000_000;
/// Those that one statement makes.
const AT_ONCE: u32 = 250_000;
/// How many days ago it was.
const AGO: u64 = 5;
/// What is kept, in hours.
const KEPT: u32 = 48;
/// How often commits are looked for.
const PERIOD: Duration = Duration::from_millis(10);
/// What does not count after the events begin to come.
const WARM_UP: Duration = Duration::from_secs(3);
/// Until commits have gone on after the day was put there.
const SETTLED: Duration = Duration::from_millis(500);
/// How long it may take until the day is gone: retention looks once a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// What may still follow when it is.
const AFTER: Duration = Duration::from_secs(3);
/// The longest time without a commit, in seconds.
const STANDSTILL: Aim = Aim::at_most(2.0, 0.2);

/// What one run has shown, in seconds.
struct Dropped {
    /// Without a commit, while nothing is dropped.
    before: f64,
    /// Without a commit, from the moment when the day is there until it is gone.
    meanwhile: f64,
    /// From the moment when it has left the table of all days until its own table is gone.
    counted: f64,
    foreign_cpu: f64,
}

/// Days that are dropped, one after the other.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let mut runs = Vec::new();
    for round in 1..=args.runs {
        let run = dropped(stand, args).await?;
        eprintln!(
            "retention {round}: longest time without a commit {:.3} s before, {:.3} s meanwhile; counted and dropped in {:.1} s, \
             others' CPU {:.0} %",
            run.before,
            run.meanwhile,
            run.counted,
            run.foreign_cpu * 100.0
        );
        runs.push(run);
    }
    let of = |name: &str, aim, value: fn(&Dropped) -> f64| {
        Figure::of(name, "s", &runs, aim, |run| Run {
            value: value(run),
            foreign_cpu: run.foreign_cpu,
        })
    };
    Ok(vec![
        of(
            "no day dropped: longest time without a commit",
            None,
            |run| run.before,
        ),
        of(
            "a day of 5 M rows dropped: longest time without a commit",
            Some(STANDSTILL),
            |run| run.meanwhile,
        ),
        of("a day of 5 M rows counted and dropped in", None, |run| {
            run.counted
        }),
    ])
}

async fn dropped(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Dropped> {
    let log = stand.topic().await?;
    let trial = stand
        .trial_with(log.topic(), |pipeline| {
            if let Some(target) = pipeline.spec.targets.first_mut() {
                target.retention.events = Some(Keep::from_hours(KEPT));
            }
        })
        .await?;
    let processor = trial.processor()?;
    let claimed =
        |progress: crate::bench::stand::Progress| progress.claimed == i64::from(PARTITIONS);
    trial.wait(&processor, PERIOD, claimed).await?;
    let table = fill(&trial).await?;
    let mut command = trial
        .document
        .command(&stand.binaries().producer, "generate");
    command.args(["--rate", &args.rate.to_string()]);
    let producer = Process::spawn(command.as_std(), "producer")?;
    tokio::time::sleep(WARM_UP).await;

    let load = Load::now()?;
    let watch = Watch::start(&trial, PARTITIONS, PERIOD)?;
    tokio::time::sleep(args.period).await;
    let due = Instant::now();
    attach(&trial, &table).await?;
    // what this took is not retention's
    tokio::time::sleep(SETTLED).await;
    let attached = Instant::now();
    let left = gone(&trial, &processor, &table).await?;
    let leaving = table.replace("events", "leaving");
    let end = gone(&trial, &processor, &leaving).await?;
    tokio::time::sleep(AFTER).await;
    let foreign_cpu = load.foreign_since()?;
    let seen = watch.end().await?;
    producer.terminate()?;
    producer.wait(Duration::from_secs(30)).await?;
    let expired = "select sum(expired)::bigint from clickstream_checkpoints";
    let expired: i64 = trial.client.query_one(expired, &[]).await?.get(0);
    ensure!(
        expired == i64::from(ROWS),
        "{expired} events have expired instead of {ROWS}"
    );
    trial.end(Some(processor)).await?;
    Ok(Dropped {
        before: longest(&seen, due - args.period, due),
        meanwhile: longest(&seen, attached, end + AFTER),
        counted: (end - left).as_secs_f64(),
        foreign_cpu,
    })
}

/// A day with its rows, outside the table of all days, where retention does not see it yet.
async fn fill(trial: &Trial) -> anyhow::Result<String> {
    let day = day(AGO)?;
    let table = format!("clickstream_events_{}", day.format("%Y%m%d"));
    let begun = Instant::now();
    trial
        .client
        .batch_execute(&format!(
            "begin; select clickstream_create_day('{day}'); alter table clickstream_events detach partition {table}; commit"
        ))
        .await?;
    let insert = format!(
        "insert into {table} (event_id, user_id, event_ts, event_date, url, referrer, ip, received_at, session_id, user_agent,
             source_topic_id, source_partition, source_offset)
         select uuidv7(interval '-{AGO} days'), 'user-' || n % 10000, at, '{day}', 'https://shop.example/item/' || n % 5000,
             'https://www.example.com/search?q=' || n % 100, '192.0.2.1', at, 'session-' || n % 100000,
             'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36', topic_id, n % {PARTITIONS}, -n
         from clickstream_topics, generate_series($1::int, $2) as n,
             lateral (select '{day} 00:00Z'::timestamptz + n * interval '17 milliseconds' as at)"
    );
    let insert = trial.client.prepare(&insert).await?;
    for first in (0..ROWS).step_by(AT_ONCE as usize) {
        let last = (first + AT_ONCE).min(ROWS) - 1;
        let bounds = (i32::try_from(first)?, i32::try_from(last)?);
        trial
            .client
            .execute(&insert, &[&bounds.0, &bounds.1])
            .await?;
    }
    // what autovacuum did with a day that old long ago
    trial
        .client
        .batch_execute(&format!("vacuum (freeze, analyze) {table}"))
        .await?;
    trial.client.batch_execute("checkpoint").await?;
    eprintln!(
        "filled a day with {ROWS} rows in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(table)
}

/// Makes it one of all days, and its rows some that the pipeline has accepted.
async fn attach(trial: &Trial, table: &str) -> anyhow::Result<()> {
    let day = day(AGO)?;
    let each = ROWS / PARTITIONS;
    trial
        .client
        .batch_execute(&format!(
            "begin;
             alter table clickstream_events attach partition {table} for values from ('{day}') to ('{day}'::date + 1);
             update clickstream_checkpoints set consumed = consumed + {each}, accepted = accepted + {each};
             commit"
        ))
        .await?;
    Ok(())
}

/// When a table was seen to be gone.
async fn gone(trial: &Trial, processor: &Process, table: &str) -> anyhow::Result<Instant> {
    let begun = Instant::now();
    let query = "select not exists (select from pg_class
         where relname = $1 and relnamespace = current_schema()::regnamespace)";
    loop {
        if trial.client.query_one(query, &[&table]).await?.get(0) {
            return Ok(Instant::now());
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "{table} is still there; the end of the processor's log:\n{}",
                processor.log_tail()
            );
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// The longest time between two commits of anybody, where that touches the time from `from` to
/// `to`; in seconds.
fn longest(seen: &Sightings, from: Instant, to: Instant) -> f64 {
    let mut moments: Vec<Instant> = seen.iter().flatten().map(|(at, _)| *at).collect();
    moments.sort_unstable();
    let first = moments.partition_point(|at| *at <= from).saturating_sub(1);
    let last = moments.partition_point(|at| *at < to) + 1;
    let touching = moments.get(first..last.min(moments.len()));
    let gaps = touching.unwrap_or_default().windows(2);
    let longest = gaps.map(|pair| pair[1] - pair[0]).max();
    // nothing at all was committed
    longest.unwrap_or(to - from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_whole_where_it_touches_the_time_that_is_asked_for() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let seen = vec![
            vec![(at(0), 1), (at(700), 2)],
            vec![(at(100), 1), (at(3_000), 2)],
        ];
        let gap = |from, to| (longest(&seen, at(from), at(to)) * 1e3).round() as u64;
        assert_eq!(gap(0, 90), 100);
        assert_eq!(gap(200, 600), 600);
        assert_eq!(gap(50, 710), 2_300);
        assert_eq!(gap(10, 699), 600);
    }
}
