//! Years of day partitions: what a flush with one late event costs among thousands of days, against
//! the same among ten; and how long the stream stands still when retention drops a day of millions
//! of rows.
//!
//! Two pipelines run at the same time on one server and are given a record in turn, so that what
//! else happens on the machine meets both alike. A flush takes as long as the processor itself
//! says, from begin to commit.

mod retention;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{Days, NaiveDate, TimeDelta, Utc};
use clickstream_pipeline::spec::LatePolicy;
use clickstream_testbed::{Process, free_port};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use uuid::Uuid;

use super::figure::{Aim, Figure, Run, median};
use super::load::Load;
use super::metrics;
use super::stand::{PARTITIONS, Stand, Trial};
use crate::log::Log;
use xtask::args::BenchArgs;

/// Partitions of days.
const MANY: u32 = 4_000;
/// What they are compared with.
const FEW: u32 = 10;
/// Days made by one statement: each takes some locks.
const AT_ONCE: u32 = 50;
/// Flushes of each kind and round.
const FLUSHES: u32 = 200;
/// Those that do not count: plans are made, catalogs are read.
const FIRST: u32 = 20;
/// Pause between two records: the processor is at rest before each.
const PAUSE: Duration = Duration::from_millis(5);
/// Events that tell the pipeline what time it is: more than the median of its clock looks at.
const CLOCK: u32 = 40;
/// How often progress is asked for.
const PERIOD: Duration = Duration::from_millis(1);
/// A flush with many days against one with few.
const AGAINST_FEW: Aim = Aim::at_most(3.0, 1.2);

/// Which day an event is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// The present.
    OnTime,
    /// One of the last ten days.
    Recent,
    /// Any of the days that have a partition: with thousands, one that this session has never seen.
    Any,
}

/// A pipeline with so many days, and a way to send to it.
struct Pipeline {
    trial: Trial,
    processor: Process,
    producer: BaseProducer,
    log: Log,
    port: u16,
    days: u32,
    /// Records so far.
    sent: i64,
}

/// Median milliseconds of one round.
struct Round {
    few: f64,
    many: f64,
    foreign_cpu: f64,
}

/// Flushes with late events by both policies that store them, then retention.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let mut few = Pipeline::start(stand, FEW).await?;
    let mut many = Pipeline::start(stand, MANY).await?;
    let mut figures = Vec::new();
    for policy in [LatePolicy::Merge, LatePolicy::Divert] {
        few.restart(stand, policy).await?;
        many.restart(stand, policy).await?;
        for age in [Age::OnTime, Age::Recent, Age::Any] {
            let mut rounds = Vec::new();
            for round in 1..=args.runs {
                let measured = in_turn(&mut few, &mut many, age).await?;
                eprintln!(
                    "{policy:?}, {age:?}, {round}: {:.2} ms with {FEW} days, {:.2} ms with {MANY}, others' CPU {:.0} %",
                    measured.few,
                    measured.many,
                    measured.foreign_cpu * 100.0
                );
                rounds.push(measured);
            }
            figures.extend(compared(policy, age, &rounds));
        }
    }
    for pipeline in [few, many] {
        pipeline.end().await?;
    }
    figures.extend(retention::run(stand, args).await?);
    Ok(figures)
}

fn compared(policy: LatePolicy, age: Age, rounds: &[Round]) -> Vec<Figure> {
    let event = match age {
        Age::OnTime => "an event on time",
        Age::Recent => "a late event of the last ten days",
        Age::Any => "a late event of any day",
    };
    let of = |what: &str, unit, aim, value: fn(&Round) -> f64| {
        let name = format!("{policy:?}: flush with {event}, {what}");
        Figure::of(name, unit, rounds, aim, |round| Run {
            value: value(round),
            foreign_cpu: round.foreign_cpu,
        })
    };
    // events on time are for comparison
    let aim = (age != Age::OnTime).then_some(AGAINST_FEW);
    vec![
        of("10 days", "ms", None, |round| round.few),
        of("4,000 days", "ms", None, |round| round.many),
        of("4,000 ÷ 10 days", "", aim, |round| round.many / round.few),
    ]
}

/// One record to each of both, again and again.
async fn in_turn(few: &mut Pipeline, many: &mut Pipeline, age: Age) -> anyhow::Result<Round> {
    let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
    let load = Load::now()?;
    for number in 0..FIRST + FLUSHES {
        for (pipeline, times) in [(&mut *few, &mut of_few), (&mut *many, &mut of_many)] {
            let took = pipeline.flush(age, number).await?;
            times.extend(took.filter(|_| number >= FIRST));
        }
    }
    let enough = FLUSHES as usize * 9 / 10;
    ensure!(
        of_few.len() >= enough && of_many.len() >= enough,
        "only {} and {} records had a flush of their own",
        of_few.len(),
        of_many.len()
    );
    Ok(Round {
        few: median(&mut of_few) * 1e3,
        many: median(&mut of_many) * 1e3,
        foreign_cpu: load.foreign_since()?,
    })
}

impl Pipeline {
    async fn start(stand: &Stand, days: u32) -> anyhow::Result<Self> {
        let log = stand.topic().await?;
        let trial = stand.trial(log.topic()).await?;
        let begun = Instant::now();
        make_days(&trial, days).await?;
        eprintln!("made {days} days in {:.1} s", begun.elapsed().as_secs_f64());
        let mut config = log.config().clone();
        config.set("enable.idempotence", "true");
        config.set("linger.ms", "0");
        let producer = config.create()?;
        let (processor, port) = processor(&trial).await?;
        Ok(Self {
            trial,
            processor,
            producer,
            log,
            port,
            days,
            sent: 0,
        })
    }

    /// The same tables under another policy, and the same clock.
    async fn restart(&mut self, stand: &Stand, policy: LatePolicy) -> anyhow::Result<()> {
        self.processor.terminate()?;
        self.processor.wait(Duration::from_secs(30)).await?;
        let before = self.trial.document.pipeline().clone();
        self.trial.document = stand.document(self.log.topic(), |pipeline| {
            *pipeline = before;
            pipeline.spec.late_events.policy = policy;
        })?;
        (self.processor, self.port) = processor(&self.trial).await?;
        for number in 0..CLOCK {
            self.flush(Age::OnTime, number).await?;
        }
        Ok(())
    }

    /// Sends one record and waits until it is visible. How long its flush took, in seconds; nothing
    /// if others committed meanwhile.
    async fn flush(&mut self, age: Age, number: u32) -> anyhow::Result<Option<f64>> {
        tokio::time::sleep(PAUSE).await;
        let before = self.committed().await?;
        self.send(age, number)?;
        self.sent += 1;
        let sent = self.sent;
        let visible = |progress: super::stand::Progress| progress.offsets >= sent;
        self.trial.wait(&self.processor, PERIOD, visible).await?;
        // the row is visible a moment before the processor has counted it
        let begun = Instant::now();
        loop {
            let after = self.committed().await?;
            if after.0 > before.0 {
                let alone = after.0 - before.0 < 1.5;
                return Ok(alone.then_some(after.1 - before.1));
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(5),
                "a commit that the metrics do not show"
            );
        }
    }

    fn send(&self, age: Age, number: u32) -> anyhow::Result<()> {
        let now = Utc::now();
        let back = match age {
            Age::OnTime => 0,
            Age::Recent => 2 + number % FEW,
            // a prime number of days apart: each one is another's neighbour in no index
            Age::Any => 2 + (number * 1_009) % self.days,
        };
        let at = now - TimeDelta::days(i64::from(back));
        let payload = json!({
            "event_id": Uuid::new_v4(),
            "user_id": format!("user-{}", number % 97),
            "event_ts": at.timestamp_millis(),
            "url": format!("https://shop.example/item/{}", number % 31),
        })
        .to_string();
        // one partition: its clock has seen what time it is
        let record = BaseRecord::<(), _>::to(self.log.topic())
            .partition(0)
            .payload(&payload);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.producer.flush(Duration::from_secs(30))?;
        Ok(())
    }

    /// Number of committed flushes, and the seconds that they took.
    async fn committed(&self) -> anyhow::Result<(f64, f64)> {
        let page = metrics::read(self.port).await?;
        let of = |name: &str| -> anyhow::Result<f64> {
            let name = format!("clickstream_commit_duration_seconds_{name} ");
            let line = page.lines().find_map(|line| line.strip_prefix(&name));
            Ok(line.context("no such metric")?.trim().parse()?)
        };
        Ok((of("count")?, of("sum")?))
    }

    /// Sees that late events were what was measured, and takes everything away.
    async fn end(self) -> anyhow::Result<()> {
        let query =
            "select sum(merged + late)::bigint, sum(consumed)::bigint from clickstream_checkpoints";
        let row = self.trial.client.query_one(query, &[]).await?;
        let (late, consumed): (i64, i64) = (row.get(0), row.get(1));
        ensure!(
            consumed == self.sent && late * 2 > consumed,
            "{consumed} of {} records, {late} of them late",
            self.sent
        );
        self.trial.discard(self.processor).await
    }
}

/// A processor that has claimed its partitions, and the port of its metrics.
async fn processor(trial: &Trial) -> anyhow::Result<(Process, u16)> {
    let epochs = trial.progress().await?.epochs;
    let port = free_port()?;
    let processor = trial.processor_with_admin(&format!("127.0.0.1:{port}"))?;
    let all = i64::from(PARTITIONS);
    let claimed = |progress: super::stand::Progress| progress.epochs >= epochs + all;
    trial.wait(&processor, PERIOD, claimed).await?;
    Ok((processor, port))
}

/// Gives the days before yesterday a partition each, as a processor makes them.
async fn make_days(trial: &Trial, days: u32) -> anyhow::Result<()> {
    let newest = day(2)?;
    let question = "select count(clickstream_create_day($1::date - day)) from generate_series($2::int, $3) as day";
    for first in (0..days).step_by(AT_ONCE as usize) {
        let last = (first + AT_ONCE).min(days) - 1;
        let bounds = (i32::try_from(first)?, i32::try_from(last)?);
        trial
            .client
            .query_one(question, &[&newest, &bounds.0, &bounds.1])
            .await?;
    }
    Ok(())
}

/// The day so many days ago.
fn day(ago: u64) -> anyhow::Result<NaiveDate> {
    let today = Utc::now().date_naive();
    today.checked_sub_days(Days::new(ago)).context("a day")
}
