//! Partitions whose leader is away: what those of the other brokers feel of it.
//!
//! Three brokers, six partitions with one copy each, four of them under load. While it lasts, the
//! broker of the other two is killed, or hangs; whether it coordinates the group is looked up, and
//! it is one that does not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clickstream_testbed::{Broker, KafkaOptions, Process};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::figure::{Aim, Figure, Run};
use super::latency::{self, Latencies, WARM_UP, Watch};
use super::load::Load;
use super::stand::{Stand, Trial};
use crate::log::Log;
use xtask::args::BenchArgs;

/// Partitions of the topic: two for each broker.
const PARTITIONS: u32 = 6;
/// Events a second, on the partitions whose leader is there.
const RATE: u64 = 500;
/// How long after the records that count the broker goes.
const AFTER: Duration = Duration::from_secs(2);
/// Where records took longer, the processor's log says why.
const SAID: Duration = Duration::from_secs(2);
/// How often progress is asked for.
const PERIOD: Duration = Duration::from_millis(10);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// 99th percentile while leaders are away against before.
const AGAINST_ALL: Aim = Aim::at_most(3.0, 1.2);

/// What becomes of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is killed: connections are refused, and after its session's time-out its partitions have
    /// no leader.
    Killed,
    /// It hangs: it answers nothing, and is the leader until its session has timed out.
    Hangs,
}

/// One run: with all leaders, and without two.
struct Pair {
    before: Latencies,
    during: Latencies,
}

/// Both faults.
///
/// # Errors
/// A run fails.
pub async fn run(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for fault in [Fault::Killed, Fault::Hangs] {
        let mut pairs = Vec::new();
        for round in 1..=args.runs {
            let pair = measure(args, fault).await?;
            eprintln!(
                "{fault:?} {round}: p99 {:.1} ms before, {:.1} ms meanwhile (acknowledged {:.1} and {:.1} ms); longest {:.1} and \
                 {:.1} ms; others' CPU {:.0} %",
                pair.before.p99,
                pair.during.p99,
                pair.before.acknowledged_p99,
                pair.during.acknowledged_p99,
                pair.before.max,
                pair.during.max,
                pair.during.foreign_cpu * 100.0
            );
            pairs.push(pair);
        }
        figures.extend(compared(fault, &pairs));
    }
    Ok(figures)
}

fn compared(fault: Fault, pairs: &[Pair]) -> Vec<Figure> {
    let broker = match fault {
        Fault::Killed => "killed",
        Fault::Hangs => "that hangs",
    };
    let of = |what: &str, unit, aim, value: fn(&Pair) -> f64| {
        let name = format!("a broker {broker}: {what}");
        Figure::of(name, unit, pairs, aim, |pair| Run {
            value: value(pair),
            foreign_cpu: pair.before.foreign_cpu.max(pair.during.foreign_cpu),
        })
    };
    vec![
        of("99 % acknowledged within, before", "ms", None, |pair| {
            pair.before.acknowledged_p99
        }),
        of("99 % acknowledged within, meanwhile", "ms", None, |pair| {
            pair.during.acknowledged_p99
        }),
        of("99 % visible within, before", "ms", None, |pair| {
            pair.before.p99
        }),
        of("99 % visible within, meanwhile", "ms", None, |pair| {
            pair.during.p99
        }),
        of("99 %, meanwhile ÷ before", "", Some(AGAINST_ALL), |pair| {
            pair.during.p99 / pair.before.p99
        }),
        of("all visible within, before", "ms", None, |pair| {
            pair.before.max
        }),
        of("all visible within, meanwhile", "ms", None, |pair| {
            pair.during.max
        }),
    ]
}

/// Each run on brokers of its own: one that was killed leaves traces.
async fn measure(args: &BenchArgs, fault: Fault) -> anyhow::Result<Pair> {
    let kafka = KafkaOptions {
        brokers: 3,
        heap_mb: 384,
        ..KafkaOptions::default()
    };
    let stand = Stand::start_with(args.binaries.as_deref(), kafka).await?;
    let topic = clickstream_testbed::unique_name("bench");
    let trial = stand
        .trial_with(&topic, |pipeline| {
            if let Some(topic) = pipeline.spec.topics.first_mut() {
                topic.partitions = Some(PARTITIONS);
                topic.replication_factor = Some(1);
                let setting = ("min.insync.replicas".to_owned(), "1".to_owned());
                topic.config.extend([setting]);
            }
        })
        .await?;
    let log = Log::open(&trial.document)?;
    log.create(&trial.document).await?;
    led(&log, &topic).await?;
    let processor = trial.processor()?;
    let claimed = |progress: super::stand::Progress| progress.claimed == i64::from(PARTITIONS);
    trial.wait(&processor, PERIOD, claimed).await?;
    let coordinator = coordinator(&log, &processor).await?;
    let broker = (0..3)
        .map(|at| stand.kafka().broker(at))
        .find(|broker| i32::try_from(broker.id()).is_ok_and(|id| id != coordinator))
        .context("there are three brokers")?;
    let gone = i32::try_from(broker.id())?;
    let leaders = led(&log, &topic).await?;
    let healthy = leaders.iter().filter(|(_, leader)| **leader != gone);
    let healthy: Vec<i32> = healthy.map(|(partition, _)| *partition).collect();
    ensure!(
        healthy.len() == 4,
        "{healthy:?} of six partitions are led by others than broker {gone}: {leaders:?}"
    );

    let load = Loaded {
        trial: &trial,
        processor: &processor,
        log: &log,
        healthy: &healthy,
        period: args.period,
    };
    let before = load.latencies(None).await?;
    let during = load.latencies(Some((broker, fault))).await?;
    if during.max > SAID.as_millis() as f64 {
        eprintln!("the end of the processor's log:\n{}", processor.log_tail());
    }
    if fault == Fault::Hangs {
        broker.continue_signal()?;
    }
    trial.end(Some(processor)).await?;
    Ok(Pair { before, during })
}

/// What one stretch under load needs.
struct Loaded<'a> {
    trial: &'a Trial,
    processor: &'a Process,
    log: &'a Log,
    healthy: &'a [i32],
    period: Duration,
}

impl Loaded<'_> {
    /// Records to the healthy partitions; soon after those that count have begun, the broker goes.
    async fn latencies(&self, fault: Option<(&Broker, Fault)>) -> anyhow::Result<Latencies> {
        let records = RATE * (WARM_UP + self.period).as_secs();
        let before = self.trial.progress().await?.offsets;
        let watch = Watch::start(self.trial, PARTITIONS, latency::PERIOD)?;
        let load = Load::now()?;
        let (log, healthy) = (self.log.clone(), self.healthy.to_vec());
        let sending =
            tokio::task::spawn_blocking(move || latency::send(&log, RATE, records, &healthy));
        if let Some((broker, fault)) = fault {
            tokio::time::sleep(WARM_UP + AFTER).await;
            match fault {
                Fault::Killed => broker.kill()?,
                Fault::Hangs => broker.stop_signal()?,
            }
        }
        let (begin, delivered) = sending.await??;
        ensure!(
            delivered.len() as u64 == records,
            "{} of {records} delivered",
            delivered.len()
        );
        let end = before + i64::try_from(records)?;
        let visible = |progress: super::stand::Progress| progress.offsets >= end;
        self.trial.wait(self.processor, PERIOD, visible).await?;
        let foreign_cpu = load.foreign_since()?;
        // one more look after the last commit
        tokio::time::sleep(10 * latency::PERIOD).await;
        let sightings = watch.end().await?;
        latency::latencies(RATE, begin, &delivered, &sightings, foreign_cpu)
    }
}

/// Which broker leads each partition of a topic, once each has a leader.
async fn led(log: &Log, topic: &str) -> anyhow::Result<BTreeMap<i32, i32>> {
    let (config, topic) = (log.config().clone(), topic.to_owned());
    let asking = move || {
        let consumer: BaseConsumer = config.create()?;
        let begun = Instant::now();
        loop {
            let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
            let partitions = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions());
            let leaders: BTreeMap<_, _> = partitions
                .map(|partition| (partition.id(), partition.leader()))
                .collect();
            if !leaders.is_empty() && leaders.values().all(|leader| *leader >= 0) {
                return Ok(leaders);
            }
            if begun.elapsed() > PATIENCE {
                bail!("partitions without a leader: {leaders:?}");
            }
        }
    };
    tokio::task::spawn_blocking(asking).await?
}

/// The broker that coordinates the processor's group: by Java's hash of the group's name.
async fn coordinator(log: &Log, processor: &Process) -> anyhow::Result<i32> {
    let said = processor.log();
    let group = said
        .split_once("group=\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .context("the processor's log names no group")?;
    let hash = group.bytes().fold(0_i32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte))
    });
    let groups = led(log, "__consumer_offsets").await?;
    // Kafka takes the absolute value, and zero for the one hash that has none
    let hash = hash.checked_abs().unwrap_or(0);
    let at = hash % i32::try_from(groups.len())?;
    groups.get(&at).copied().context("no such partition")
}
