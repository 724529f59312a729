//! Reading a stretch of one Kafka partition again, in slices of bounded size.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clickstream_pipeline::{
    engine::received_at,
    event::EventTime,
    offset::NextOffset,
    spec::{ClickstreamPipeline, Secrets, TargetSpec},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

/// Records of a slice: one look-up in the database each.
const SLICE_RECORDS: usize = 4_096;
/// Payload bytes after which a slice is full.
const SLICE_BYTES: usize = 4 << 20;
/// How long a broker may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);

/// One record, with its value in the slice's bytes.
#[derive(Clone, Debug)]
pub struct LoggedRecord {
    /// Its offset.
    pub offset: i64,
    /// Kafka's time stamp.
    pub received_at: EventTime,
    /// Where its value is; `None` for a tombstone.
    pub value: Option<Range<usize>>,
}

/// Neighbouring records of one partition. The offsets of neighbouring slices leave no hole.
#[derive(Default, Debug)]
pub struct Slice {
    /// The offsets that the slice stands for, those without a record included.
    pub offsets: Range<i64>,
    /// In log order.
    pub records: Vec<LoggedRecord>,
    bytes: Vec<u8>,
}

impl Slice {
    /// A record's value.
    pub fn value(&self, record: &LoggedRecord) -> Option<&[u8]> {
        record.value.clone().map(|place| &self.bytes[place])
    }

    fn starting_at(offset: i64) -> Self {
        Self {
            offsets: offset..offset,
            ..Self::default()
        }
    }

    fn push(&mut self, offset: i64, received_at: EventTime, value: Option<&[u8]>) {
        let value = value.map(|value| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(value);
            start..self.bytes.len()
        });
        self.records.push(LoggedRecord {
            offset,
            received_at,
            value,
        });
    }

    fn is_full(&self) -> bool {
        self.records.len() >= SLICE_RECORDS || self.bytes.len() >= SLICE_BYTES
    }
}

/// A consumer that belongs to no group's assignment: it is told what to read and commits nothing.
///
/// # Errors
/// A secret that is missing, or settings that librdkafka refuses.
pub fn consumer(
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    secrets: &dyn Secrets,
) -> anyhow::Result<BaseConsumer> {
    let metadata = &pipeline.metadata;
    let group = format!(
        "{}.{}.{}.audit",
        metadata.namespace, metadata.name, target.name
    );
    let mut config = ClientConfig::new();
    for (key, value) in pipeline.spec.kafka.client_properties(secrets)? {
        config.set(key, value);
    }
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "4096");
    config
        .create()
        .context("spec.kafka: librdkafka refuses these settings")
}

/// Reads `offsets` and hands every slice to `deliver`, until that answers `false`. Slices end at
/// each of `stops` (ascending).
///
/// # Errors
/// The brokers are silent, or what is to be read is no longer there.
pub fn read(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    offsets: Range<i64>,
    stops: &[i64],
    mut deliver: impl FnMut(Slice) -> bool,
) -> anyhow::Result<()> {
    let mut stops = stops
        .iter()
        .copied()
        .filter(|&stop| offsets.start < stop && stop < offsets.end)
        .peekable();
    let mut slice = Slice::starting_at(offsets.start);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offsets.start))?;
    consumer.assign(&list)?;
    let mut heard = Instant::now();
    while slice.offsets.end < offsets.end {
        let polled = consumer.poll(POLL);
        let message = match polled {
            Some(Ok(message)) => Some(message),
            // whatever stands between the last record and the end are control records
            Some(Err(KafkaError::PartitionEOF(_))) => None,
            Some(Err(error)) if is_passing(&error) && heard.elapsed() < SILENCE => continue,
            Some(Err(error)) => {
                return Err(error).with_context(|| {
                    format!(
                        "reading {topic}[{partition}] from offset {}: was it cut by retention in between? run the audit again",
                        slice.offsets.end
                    )
                });
            }
            None if heard.elapsed() < SILENCE => continue,
            None => bail!(
                "nothing heard of {topic}[{partition}] for {} s at offset {}",
                SILENCE.as_secs(),
                slice.offsets.end
            ),
        };
        heard = Instant::now();
        // everything below is known to be without a record; not beyond what was asked for
        let reached = message
            .as_ref()
            .map_or(offsets.end, |message| message.offset().min(offsets.end));
        while let Some(stop) = stops.next_if(|&stop| stop <= reached) {
            slice.offsets.end = stop;
            let ended = std::mem::replace(&mut slice, Slice::starting_at(stop));
            if !deliver(ended) {
                return Ok(());
            }
        }
        slice.offsets.end = reached;
        if let Some(message) = message.filter(|message| message.offset() < offsets.end) {
            let offset = message.offset();
            slice.push(
                offset,
                received_at(message.timestamp().to_millis()),
                message.payload(),
            );
            slice.offsets.end = NextOffset::after(offset).get();
        }
        if slice.is_full() {
            let next = Slice::starting_at(slice.offsets.end);
            if !deliver(std::mem::replace(&mut slice, next)) {
                return Ok(());
            }
        }
    }
    if !slice.offsets.is_empty() {
        deliver(slice);
    }
    consumer.unassign()?;
    Ok(())
}

/// Whether librdkafka goes on by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}
