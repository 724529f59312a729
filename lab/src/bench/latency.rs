//! From produce() to a row that another session sees.
//!
//! Open loop: record *i* is due at *begin + i ÷ rate* and its time counts from then on, whenever it
//! was really sent, so that a stall is not hidden by sending less. Visible is a record when an
//! independent session sees a checkpoint past its offset: both commit in one transaction.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions};
use hdrhistogram::Histogram;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::beside::Beside;
use super::figure::{Aim, Figure, Run};
use super::load::Load;
use super::stand::{PARTITIONS, Stand, Trial};
use crate::checkpoints;
use crate::log::Log;
use xtask::args::BenchArgs;

/// Events a second, with the aims for median and 99th percentile in milliseconds.
const RATES: [(u64, Option<Aim>, Aim); 3] = [
    (
        83,
        Some(Aim::at_most(40.0, 15.0)),
        Aim::at_most(150.0, 60.0),
    ),
    (1_000, None, Aim::at_most(250.0, 60.0)),
    (10_000, None, Aim::at_most(250.0, 60.0)),
];

/// What does not count: connections open, plans are made, pages are read.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// How often the independent session looks.
pub const PERIOD: Duration = Duration::from_millis(1);

/// How long the last records may take to become visible.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a record ended up in the log.
#[derive(Clone, Copy)]
pub struct Delivered {
    index: u64,
    partition: i32,
    offset: i64,
    /// When the broker's acknowledgement came.
    at: Instant,
}

/// Every moment at which a checkpoint was seen to have moved, by partition.
pub type Sightings = Vec<Vec<(Instant, i64)>>;

/// How long records took, in milliseconds.
pub struct Latencies {
    /// To the broker's acknowledgement: how much of the rest is Kafka's and the client's.
    pub acknowledged_p50: f64,
    /// The same of all but one in a hundred.
    pub acknowledged_p99: f64,
    /// Until half were visible.
    pub p50: f64,
    /// Until all but one in a hundred were.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// Others' part of the CPU.
    pub foreign_cpu: f64,
}

/// A session that looks at the checkpoints until it is told to stop.
pub struct Watch(Beside<Sightings>);

/// Every rate, as often as asked.
///
/// # Errors
/// A run fails.
pub async fn run(stand: &Stand, args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (rate, half, nearly_all) in RATES {
        let mut runs = Vec::new();
        for round in 1..=args.runs {
            let run = measure(stand, rate, args.period).await?;
            eprintln!(
                "{rate}/s {round}: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms (acknowledged p50 {:.1} ms, p99 {:.1} ms), others' CPU {:.0} %",
                run.p50,
                run.p99,
                run.max,
                run.acknowledged_p50,
                run.acknowledged_p99,
                run.foreign_cpu * 100.0
            );
            runs.push(run);
        }
        let of = |name: &str, aim, value: fn(&Latencies) -> f64| {
            Figure::of(format!("{rate}/s: {name}"), "ms", &runs, aim, |run| Run {
                value: value(run),
                foreign_cpu: run.foreign_cpu,
            })
        };
        figures.push(of("half acknowledged by the broker within", None, |run| {
            run.acknowledged_p50
        }));
        figures.push(of("99 % acknowledged by the broker within", None, |run| {
            run.acknowledged_p99
        }));
        figures.push(of("half visible within", half, |run| run.p50));
        figures.push(of("99 % visible within", Some(nearly_all), |run| run.p99));
        figures.push(of("all visible within", None, |run| run.max));
    }
    Ok(figures)
}

async fn measure(stand: &Stand, rate: u64, period: Duration) -> anyhow::Result<Latencies> {
    let log = stand.topic().await?;
    let trial = stand.trial(log.topic()).await?;
    let processor = trial.processor()?;
    let claimed = |progress: super::stand::Progress| progress.claimed == i64::from(PARTITIONS);
    trial
        .wait(&processor, Duration::from_millis(10), claimed)
        .await?;
    let records = rate * (WARM_UP + period).as_secs();
    let watch = Watch::start(&trial, PARTITIONS, PERIOD)?;
    let load = Load::now()?;
    let writer = log.clone();
    let (begin, delivered) =
        tokio::task::spawn_blocking(move || send(&writer, rate, records, &[])).await??;
    let end: i64 = log.ends().await?.values().sum();
    let visible = trial.wait(&processor, Duration::from_millis(10), |progress| {
        progress.offsets >= end
    });
    tokio::time::timeout(PATIENCE, visible)
        .await
        .context("records that never became visible")??;
    let foreign_cpu = load.foreign_since()?;
    // one more look after the last commit
    tokio::time::sleep(10 * PERIOD).await;
    let sightings = watch.end().await?;
    trial.end(Some(processor)).await?;
    anyhow::ensure!(
        delivered.len() as u64 == records,
        "{} of {records} delivered",
        delivered.len()
    );
    latencies(rate, begin, &delivered, &sightings, foreign_cpu)
}

impl Watch {
    /// A session of its own, on a thread of its own, so that nothing else delays the moments it
    /// takes.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(trial: &Trial, partitions: u32, period: Duration) -> anyhow::Result<Self> {
        let (url, schema) = (trial.url.clone(), trial.document.target().schema.clone());
        let watching = move |mut stopped: oneshot::Receiver<()>| async move {
            let client = checkpoints::connect(&url, &schema).await?;
            let question = client
                .prepare("select partition, next_offset from clickstream_checkpoints")
                .await?;
            let mut sightings: Sightings = vec![Vec::new(); partitions as usize];
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                ticks.tick().await;
                let rows = client.query(&question, &[]).await?;
                let now = Instant::now();
                for row in rows {
                    let (partition, next): (i32, i64) = (row.get(0), row.get(1));
                    let seen = &mut sightings[usize::try_from(partition)?];
                    if seen.last().is_none_or(|(_, last)| *last < next) {
                        seen.push((now, next));
                    }
                }
            }
            Ok(sightings)
        };
        Beside::start(watching).map(Self)
    }

    /// Stops it; what it has seen.
    ///
    /// # Errors
    /// Its session broke.
    pub async fn end(self) -> anyhow::Result<Sightings> {
        self.0.end().await
    }
}

struct Deliveries(Arc<Mutex<Vec<Delivered>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Self::DeliveryOpaque) {
        // a record that was not delivered is missing from the list, and noticed there
        if let Ok(message) = result {
            let delivered = Delivered {
                index: *index,
                partition: message.partition(),
                offset: message.offset(),
                at: Instant::now(),
            };
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(delivered);
        }
    }
}

/// Sends on schedule, with the settings of our own producer: up to 5 ms are its batching. To these
/// partitions in turn, or, if none are named, as keys say. When the first record was due, and which
/// were delivered.
///
/// # Errors
/// A record cannot be sent.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own that waits for the next record's due time"
)]
pub fn send(
    log: &Log,
    rate: u64,
    records: u64,
    partitions: &[i32],
) -> anyhow::Result<(Instant, Vec<Delivered>)> {
    let options = GeneratorOptions {
        rate,
        duplicates: 0.0,
        malformed: 0.0,
        late: 0.0,
        disorder: Duration::ZERO,
        ..GeneratorOptions::default()
    };
    let begin = EventTime::from_micros(Utc::now().timestamp_micros());
    let prepared: Vec<_> = Generator::new(options, begin)?
        .take(usize::try_from(records)?)
        .collect();
    let delivered = Arc::new(Mutex::new(Vec::with_capacity(prepared.len())));
    let mut config = log.config().clone();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("partitioner", "murmur2_random");
    let producer: ThreadedProducer<Deliveries> =
        config.create_with_context(Deliveries(Arc::clone(&delivered)))?;
    // connections first
    producer
        .client()
        .fetch_metadata(Some(log.topic()), Duration::from_secs(10))?;
    let begin = Instant::now() + Duration::from_millis(200);
    let mut places = partitions.iter().cycle();
    for (index, record) in (0_u64..).zip(&prepared) {
        let due = begin + record.due;
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        let mut next = BaseRecord::with_opaque_to(log.topic(), Box::new(index))
            .key(&record.key)
            .payload(&record.payload);
        if let Some(place) = places.next() {
            next = next.partition(*place);
        }
        producer
            .send(next)
            .map_err(|(error, _)| error)
            .context("cannot produce")?;
    }
    producer.flush(PATIENCE)?;
    drop(producer);
    let delivered = std::mem::take(&mut *delivered.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((begin, delivered))
}

/// How long these records took, those of the first seconds left out.
///
/// # Errors
/// A record was never seen.
pub fn latencies(
    rate: u64,
    begin: Instant,
    delivered: &[Delivered],
    sightings: &Sightings,
    foreign_cpu: f64,
) -> anyhow::Result<Latencies> {
    let mut histogram: Histogram<u64> = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let mut acknowledged = histogram.clone();
    for record in delivered {
        let due = Duration::from_nanos(record.index * 1_000_000_000 / rate);
        if due < WARM_UP {
            continue;
        }
        let seen = &sightings[usize::try_from(record.partition)?];
        let first = seen.partition_point(|(_, next)| *next <= record.offset);
        let (visible, _) = seen.get(first).context("a record that was never seen")?;
        let waited = visible.saturating_duration_since(begin + due);
        histogram.record(u64::try_from(waited.as_micros())?)?;
        let waited = record.at.saturating_duration_since(begin + due);
        acknowledged.record(u64::try_from(waited.as_micros())?)?;
    }
    let millis = |micros: u64| micros as f64 / 1e3;
    Ok(Latencies {
        acknowledged_p50: millis(acknowledged.value_at_quantile(0.5)),
        acknowledged_p99: millis(acknowledged.value_at_quantile(0.99)),
        p50: millis(histogram.value_at_quantile(0.5)),
        p99: millis(histogram.value_at_quantile(0.99)),
        max: millis(histogram.max()),
        foreign_cpu,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_from_its_due_time_to_the_first_sighting_past_its_offset() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        // one record a second; those before the fourth second warm up
        let delivered = [
            Delivered {
                index: 0,
                partition: 0,
                offset: 0,
                at: begin,
            },
            Delivered {
                index: 4,
                partition: 0,
                offset: 1,
                at: begin,
            },
            Delivered {
                index: 5,
                partition: 1,
                offset: 0,
                at: begin,
            },
        ];
        let sightings = vec![
            vec![(at(2_999), 1), (at(4_010), 2), (at(9_000), 7)],
            vec![(at(5_030), 1)],
        ];
        let found = latencies(1, begin, &delivered, &sightings, 0.0).expect("all were seen");
        assert_eq!((found.p50.round(), found.max.round()), (10.0, 30.0));
    }

    #[test]
    fn a_record_that_never_became_visible_is_an_error() {
        let begin = Instant::now();
        let delivered = [Delivered {
            index: 9,
            partition: 0,
            offset: 3,
            at: begin,
        }];
        let sightings = vec![vec![(begin, 3)]];
        assert!(latencies(1, begin, &delivered, &sightings, 0.0).is_err());
    }
}
