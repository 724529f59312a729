//! A backlog on 1,000 partitions in large compressed batches: the most memory that the processor
//! ever holds, against the limit of its pod; how long it takes until it reads them all; and the
//! audit of what came of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chrono::{TimeDelta, Utc};
use clickstream_pipeline::event::EventTime;
use clickstream_pipeline::spec::{Bytes, PipelineSpec};
use clickstream_producer::generator::{Generator, GeneratorOptions};
use clickstream_testbed::Process;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::figure::{Aim, Figure, Run};
use super::load::{self, Load};
use super::stand::{Stand, Trial};
use crate::log::Log;
use xtask::args::BenchArgs;

/// Partitions of the topic.
const PARTITIONS: u32 = 1_000;
/// Bytes of a batch before it is compressed.
const BATCH: u64 = 1 << 20;
/// What a record is taken to add to its batch beside key and value.
const OVERHEAD: usize = 12;
/// Event time from the first record to the last.
const COVERED: TimeDelta = TimeDelta::hours(1);
/// How often progress is asked for.
const PERIOD: Duration = Duration::from_millis(20);
/// How often the memory of an audit is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longer than the audit of any backlog takes.
const AUDITED: Duration = Duration::from_secs(1_800);
/// Peak memory against the limit.
const AGAINST_LIMIT: Aim = Aim::at_most(1.0, 0.7);

/// What one run has shown.
struct Drained {
    peak_mib: f64,
    limit_mib: f64,
    /// From exec, in seconds.
    assigned: f64,
    first_claim: f64,
    claimed: f64,
    first_commit: f64,
    /// From the last claim to the end of the log, in seconds.
    seconds: f64,
    records: i64,
    foreign_cpu: f64,
    audit_seconds: f64,
    audit_peak_mib: f64,
}

/// Drains of one backlog.
///
/// # Errors
/// A run fails, or a partition is left out.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let begun = Instant::now();
    let log = stand.topic_of(PARTITIONS).await?;
    eprintln!(
        "made {PARTITIONS} partitions in {:.1} s; filling them with {} GiB",
        begun.elapsed().as_secs_f64(),
        args.backlog
    );
    let writer = log.clone();
    let bytes = u64::from(args.backlog) << 30;
    let records = tokio::task::spawn_blocking(move || fill(&writer, bytes)).await??;
    eprintln!(
        "filled with {records} records in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    let mut runs = Vec::new();
    for round in 1..=args.runs {
        let run = drained(stand, &log, records).await?;
        eprintln!(
            "{round}: assigned after {:.2} s, claimed {:.2} to {:.2} s, first commit {:.2} s, {:.0} records/s, peak {:.0} of {:.0} \
             MiB, others' CPU {:.0} %; audited in {:.1} s, peak {:.0} MiB",
            run.assigned,
            run.first_claim,
            run.claimed,
            run.first_commit,
            run.records as f64 / run.seconds,
            run.peak_mib,
            run.limit_mib,
            run.foreign_cpu * 100.0,
            run.audit_seconds,
            run.audit_peak_mib
        );
        runs.push(run);
    }
    let of = |name: &str, unit, aim, value: fn(&Drained) -> f64| {
        Figure::of(name, unit, &runs, aim, |run| Run {
            value: value(run),
            foreign_cpu: run.foreign_cpu,
        })
    };
    Ok(vec![
        of("peak memory of the processor", "MiB", None, |run| {
            run.peak_mib
        }),
        of("its pod's limit", "MiB", None, |run| run.limit_mib),
        of("peak ÷ limit", "", Some(AGAINST_LIMIT), |run| {
            run.peak_mib / run.limit_mib
        }),
        of("exec to 1,000 partitions assigned", "s", None, |run| {
            run.assigned
        }),
        of("exec to the first claim", "s", None, |run| run.first_claim),
        of("exec to 1,000 partitions claimed", "s", None, |run| {
            run.claimed
        }),
        of("exec to the first commit", "s", None, |run| {
            run.first_commit
        }),
        of("drain of the backlog", "records/s", None, |run| {
            run.records as f64 / run.seconds
        }),
        of("its audit", "records/s", None, |run| {
            run.records as f64 / run.audit_seconds
        }),
        of("peak memory of the audit", "MiB", None, |run| {
            run.audit_peak_mib
        }),
    ])
}

async fn drained(stand: &Stand, log: &Log, records: i64) -> anyhow::Result<Drained> {
    let trial = stand
        .trial_with(log.topic(), |pipeline| {
            if let Some(topic) = pipeline.spec.topics.first_mut() {
                topic.partitions = Some(PARTITIONS);
            }
        })
        .await?;
    let limit_mib = limit_mib(&trial.document.pipeline().spec);
    let load = Load::now()?;
    let exec = Instant::now();
    let since = |at: Instant| at.duration_since(exec).as_secs_f64();
    let processor = trial.processor()?;
    let assigned = assigned(&processor).await?;
    let (first_claim, _) = trial
        .wait(&processor, PERIOD, |progress| progress.claimed > 0)
        .await?;
    let all = i64::from(PARTITIONS);
    let (claimed, at) = trial
        .wait(&processor, PERIOD, |progress| progress.claimed == all)
        .await?;
    let (first_commit, _) = trial
        .wait(&processor, PERIOD, |progress| progress.offsets > 0)
        .await?;
    let (end, _) = trial
        .wait(&processor, PERIOD, |progress| progress.offsets >= records)
        .await?;
    let left: i64 = trial
        .client
        .query_one(
            "select count(*) from clickstream_checkpoints where consumed = 0",
            &[],
        )
        .await?
        .get(0);
    ensure!(left == 0, "nothing was read of {left} partitions");
    let peak_mib = load::memory_mib(processor.pid(), "VmHWM")?;
    let foreign_cpu = load.foreign_since()?;
    processor.terminate()?;
    processor.wait(Duration::from_secs(30)).await?;
    let (audit_seconds, audit_peak_mib) = audited(&trial).await?;
    let drained = Drained {
        peak_mib,
        limit_mib,
        assigned: since(assigned),
        first_claim: since(first_claim),
        claimed: since(claimed),
        first_commit: since(first_commit),
        seconds: end.duration_since(claimed).as_secs_f64(),
        records: records - at.offsets,
        foreign_cpu,
        audit_seconds,
        audit_peak_mib,
    };
    trial.end(None).await?;
    Ok(drained)
}

/// Audits the target, which must be clean: how long it takes, and the most memory that it holds.
async fn audited(trial: &Trial) -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    let audit = trial.audit()?;
    let mut peak = 0.0;
    while audit.exited()?.is_none() {
        // it may end between the question and the look
        if let Ok(memory) = load::memory_mib(audit.pid(), "VmHWM") {
            peak = memory.max(peak);
        }
        ensure!(
            begun.elapsed() < AUDITED,
            "the audit still runs after {AUDITED:?}"
        );
        tokio::time::sleep(LOOK).await;
    }
    let status = audit.wait(LOOK).await?;
    ensure!(status.success(), "{status}: {}", audit.log_tail());
    Ok((begun.elapsed().as_secs_f64(), peak))
}

/// When the group has given the processor its partitions.
async fn assigned(processor: &Process) -> anyhow::Result<Instant> {
    let begun = Instant::now();
    while !processor.log().contains("partitions assigned") {
        if begun.elapsed() > Duration::from_secs(60) || processor.exited()?.is_some() {
            bail!(
                "no partitions are assigned; the end of the log:\n{}",
                processor.log_tail()
            );
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(Instant::now())
}

/// The limit that the operator gives a processor's pod whose spec has none: twice a request of 48
/// MiB, the filter, and three flushes with their rows.
fn limit_mib(spec: &PipelineSpec) -> f64 {
    let mib = |bytes: Bytes| bytes.get().div_ceil(1 << 20) as f64;
    2.0 * (48.0 + mib(spec.processor.filter_memory) + 6.0 * mib(spec.processor.flush.max_bytes))
}

/// So many bytes of records, dealt out to the partitions in turn, so that each holds the whole hour
/// and its batches are full. Returns how many records they are.
fn fill(log: &Log, bytes: u64) -> anyhow::Result<i64> {
    let begin = Utc::now() - COVERED;
    let options = GeneratorOptions {
        // about 250 bytes a record
        rate: (bytes / 250 / COVERED.num_seconds().unsigned_abs()).max(1),
        late: 0.0,
        ..GeneratorOptions::default()
    };
    let generator = Generator::new(options, EventTime::from_micros(begin.timestamp_micros()))?;
    let mut config = log.config().clone();
    config
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        // a batch of each partition is filled at the same time
        .set("linger.ms", "60000")
        .set("delivery.timeout.ms", "900000")
        .set("batch.size", BATCH.to_string())
        .set("batch.num.messages", "1000000")
        // what this client holds against a batch before it is compressed; the broker looks at it
        // afterwards
        .set("message.max.bytes", (2 * BATCH).to_string())
        .set("queue.buffering.max.messages", "10000000")
        .set("queue.buffering.max.kbytes", (3 << 20).to_string());
    let producer: BaseProducer = config.create()?;
    let (mut sent, mut records) = (0, 0);
    let places = 0..i32::try_from(PARTITIONS)?;
    for (record, place) in generator.zip(places.cycle()) {
        if sent >= bytes {
            break;
        }
        sent += u64::try_from(record.key.len() + record.payload.len() + OVERHEAD)?;
        records += 1;
        let mut next = BaseRecord::to(log.topic())
            .partition(place)
            .key(&record.key)
            .payload(&record.payload);
        while let Err((error, refused)) = producer.send(next) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error).context("cannot produce");
            }
            producer.poll(Duration::from_millis(10));
            next = refused;
        }
        if records % 1_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(600))?;
    Ok(records)
}
