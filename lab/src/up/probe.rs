//! Measures, from outside, how long records take from the broker's time stamp to a row that another
//! session sees.
//!
//! One thread follows the log, another asks PostgreSQL for the checkpoints every 5 ms, which move
//! in the transaction that writes the rows: the figures are true to about 6 ms (the question's
//! period, and the stamp's whole milliseconds).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::prepare::Pipeline;
use super::recent::{Latency, Recent};
use crate::checkpoints;

/// How often PostgreSQL is asked.
const PERIOD: Duration = Duration::from_millis(5);

/// Records a second that are followed; beyond it the rest of the second is left out, so that
/// measuring stays cheap.
const FOLLOWED: u32 = 5_000;

/// The running measurement; ends when dropped.
pub struct Probe {
    recent: Arc<Mutex<Recent>>,
    ended: Arc<AtomicBool>,
}

impl Probe {
    /// The figures of the last seconds. Asked once a second.
    pub fn latency(&self) -> Option<Latency> {
        lock(&self.recent).next_second()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Starts to measure.
///
/// # Errors
/// A thread cannot be started.
pub fn start(pipeline: &Pipeline) -> anyhow::Result<Probe> {
    let probe = Probe {
        recent: Arc::new(Mutex::new(Recent::new())),
        ended: Arc::new(AtomicBool::new(false)),
    };
    let topic = pipeline.log.topic().to_owned();
    let (recent, ended) = (Arc::clone(&probe.recent), Arc::clone(&probe.ended));
    let (url, schema) = (
        pipeline.postgres_url.clone(),
        pipeline.document.target().schema.clone(),
    );
    let asked = topic.clone();
    std::thread::Builder::new()
        .name("sightings".to_owned())
        .spawn(move || {
            // the screen's thread must not delay the moments taken here
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(look(&url, &schema, &asked, &recent, &ended))
        })?;
    let (recent, ended) = (Arc::clone(&probe.recent), Arc::clone(&probe.ended));
    let config = pipeline.log.config().clone();
    std::thread::Builder::new()
        .name("log tail".to_owned())
        .spawn(move || follow(config, &topic, &recent, &ended))?;
    Ok(probe)
}

/// An error ends the measurement: the screen's own questions meet it too, and tell it.
async fn look(
    url: &str,
    schema: &str,
    topic: &str,
    recent: &Mutex<Recent>,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    let client = checkpoints::connect(url, schema).await?;
    let question = client
        .prepare("select partition, next_offset from clickstream_checkpoints where topic = $1")
        .await?;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        let rows = client.query(&question, &[&topic]).await?;
        let now = micros_now();
        let mut recent = lock(recent);
        for row in rows {
            recent.seen(row.get(0), row.get(1), now);
        }
    }
    Ok(())
}

fn follow(
    mut config: ClientConfig,
    topic: &str,
    recent: &Mutex<Recent>,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    config
        .set("group.id", "cargo-xtask-up")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "50")
        // no more than a second's worth is fetched ahead
        .set("queued.max.messages.kbytes", "1024");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let found = metadata.topics().first().context("no such topic")?;
    let mut newest = TopicPartitionList::new();
    for partition in found.partitions() {
        newest.add_partition_offset(topic, partition.id(), Offset::End)?;
    }
    consumer.assign(&newest)?;
    let (mut second, mut left) = (Instant::now(), FOLLOWED);
    while !ended.load(Ordering::Relaxed) {
        if second.elapsed() >= Duration::from_secs(1) {
            if left == 0 {
                consumer.assign(&newest)?;
            }
            (second, left) = (Instant::now(), FOLLOWED);
        }
        // a failed poll is retried by the client itself
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else {
            continue;
        };
        if left == 0 {
            consumer.unassign()?;
            continue;
        }
        left -= 1;
        if let Some(stamp) = message.timestamp().to_millis() {
            lock(recent).produced(message.partition(), message.offset(), stamp * 1_000);
        }
    }
    Ok(())
}

fn lock(recent: &Mutex<Recent>) -> std::sync::MutexGuard<'_, Recent> {
    // figures of a thread that panicked are figures still
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros_now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
