//! What stands in the way of one partition, and of it alone: no leader, an end of the log that was
//! told too early, a batch that cannot be read, a fetcher that stops. And a process that hangs.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Kafka, KafkaOptions, PostgresVersion, Process, server_dir, shared};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    records::{clicks, now},
    stack::{LOOK, PATIENCE, Stack, StackOptions},
    watch::{Watched, end, logged},
};

/// Clicks with these numbers for one partition.
async fn place(
    stack: &Stack,
    partition: i32,
    numbers: std::ops::Range<u64>,
) -> anyhow::Result<usize> {
    let clicks = clicks(numbers, now());
    stack
        .place(clicks.iter().map(|click| click.on(partition)).collect())
        .await
}

async fn stored(stack: &Stack, records: i64) -> anyhow::Result<()> {
    let query =
        format!("select coalesce(sum(consumed), 0) >= {records} from clickstream_checkpoints");
    stack.eventually("the records are stored", &query).await?;
    assert_eq!(stack.total("consumed").await?, records);
    Ok(())
}

/// Which broker leads each partition.
fn leaders(stack: &Stack) -> anyhow::Result<Vec<(i32, i32)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.bootstrap_servers())
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&stack.topic), PATIENCE)?;
    let topic = metadata.topics().first().context("no such topic")?;
    let led = topic.partitions().iter();
    Ok(led.map(|found| (found.id(), found.leader())).collect())
}

/// The broker that coordinates the consumer group of this processor: by Java's hash of the group's
/// name.
fn coordinator(stack: &Stack, processor: &Process) -> anyhow::Result<i32> {
    let log = processor.log();
    let group = log
        .split_once(" group=\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .context("no group in the log")?;
    let hash = group.bytes().fold(0_i32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte))
    });
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.bootstrap_servers())
        .create()?;
    let metadata = consumer.fetch_metadata(Some("__consumer_offsets"), PATIENCE)?;
    let partitions = metadata.topics().first().context("no groups")?.partitions();
    // Kafka takes the absolute value, and zero for the one hash that has none
    let at = hash.checked_abs().unwrap_or(0) % i32::try_from(partitions.len())?;
    let found = partitions.iter().find(|partition| partition.id() == at);
    Ok(found.context("no such partition")?.leader())
}

/// The longest time that a single record takes from the log to the tables, of all that are sent one
/// after the other for so long; and how many those are.
async fn longest_way(
    stack: &Stack,
    partition: i32,
    first: u64,
    time: Duration,
) -> anyhow::Result<(Duration, u64)> {
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    let mut records = stack.total("consumed").await?;
    let mut number = first;
    while began.elapsed() < time {
        let sent = Instant::now();
        place(stack, partition, number..number + 1).await?;
        number += 1;
        records += 1;
        stored(stack, records).await?;
        longest = longest.max(sent.elapsed());
    }
    Ok((longest, number - first))
}

#[tokio::test]
async fn partitions_whose_leader_does_not_answer_hold_up_no_other() -> anyhow::Result<()> {
    let kafka = Kafka::start(KafkaOptions {
        brokers: 3,
        heap_mb: 256,
        // a broker that hangs goes on leading its partitions, and every question to it waits for
        // its time-out
        settings: vec![("broker.session.timeout.ms".to_owned(), "600000".to_owned())],
        ..KafkaOptions::default()
    })
    .await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let stack = Stack::on(kafka, postgres, StackOptions::default()).await?;
    // the same topic with one copy of each partition
    stack.kafka.delete_topic(&stack.topic).await?;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka.bootstrap_servers())
        .create()?;
    let topic = NewTopic::new(&stack.topic, 9, TopicReplication::Fixed(1))
        .set("message.timestamp.type", "LogAppendTime")
        .set("min.insync.replicas", "1");
    for created in admin.create_topics([&topic], &AdminOptions::new()).await? {
        created.map_err(|(_, code)| code)?;
    }
    let deadline = Instant::now() + PATIENCE;
    let led = loop {
        let led = leaders(&stack)?;
        if led.len() == 9 && led.iter().all(|(_, leader)| *leader >= 0) {
            break led;
        }
        ensure!(Instant::now() < deadline, "no leaders: {led:?}");
        tokio::time::sleep(LOOK).await;
    };

    let processor = stack.start("first")?;
    for partition in 0..9_u64 {
        place(
            &stack,
            i32::try_from(partition)?,
            partition * 10..partition * 10 + 10,
        )
        .await?;
    }
    stored(&stack, 90).await?;
    let coordinator = coordinator(&stack, &processor)?;
    let broker = (0..3)
        .map(|at| stack.kafka.broker(at))
        .find(|broker| i32::try_from(broker.id()).is_ok_and(|id| id != coordinator))
        .context("three brokers")?;
    let gone = i32::try_from(broker.id())?;
    let (without, with): (Vec<_>, Vec<_>) =
        led.into_iter().partition(|(_, leader)| *leader == gone);
    let healthy = with.first().context("nine partitions on three brokers")?.0;
    let (usual, before) = longest_way(&stack, healthy, 1_000, Duration::from_secs(3)).await?;
    end(&processor).await?;

    broker.stop_signal()?;
    let again = stack.start_watched("again")?;
    again
        .shows("/status", "\"state\":\"waiting_for_leader\"")
        .await?;
    // questions to a leader that is not there are asked meanwhile; each takes 5 s to be given up
    let (meanwhile, during) = longest_way(&stack, healthy, 10_000, Duration::from_secs(12)).await?;
    assert!(
        meanwhile < usual + Duration::from_secs(3),
        "{meanwhile:?} instead of {usual:?} while {} leaders do not answer\n{}",
        without.len(),
        again.process.log_tail()
    );
    let (code, why) = again.get("/readyz").await?;
    assert_eq!(code, 503, "{why}");
    assert!(
        why.contains(&format!("{} partitions are not claimed yet", without.len())),
        "{why}"
    );

    broker.continue_signal()?;
    for (partition, _) in &without {
        let first = 90_000 + u64::try_from(*partition)? * 10;
        place(&stack, *partition, first..first + 10).await?;
    }
    let sent = 90 + before + during + 10 * without.len() as u64;
    stored(&stack, i64::try_from(sent)?).await?;
    end(&again.process).await?;
    stack.audit().await?;
    stack.kafka.shutdown().await
}

async fn one_partition() -> anyhow::Result<Stack> {
    Stack::new(StackOptions {
        partitions: 1,
        ..StackOptions::default()
    })
    .await
}

#[tokio::test]
async fn an_end_of_the_log_that_is_told_too_early_halts_nothing() -> anyhow::Result<()> {
    let stack = one_partition().await?;
    let processor = stack.start("one")?;
    place(&stack, 0, 0..10).await?;
    stored(&stack, 10).await?;
    end(&processor).await?;

    // the first answer is old, the one after the claim is not
    let env = [
        ("FAILPOINTS", "old_log_end=1*return"),
        ("CLICKSTREAM_TEST_EXAMINE_MS", "600000"),
    ];
    let again = stack.start_with("again", &env)?;
    place(&stack, 0, 10..20).await?;
    stored(&stack, 20).await?;
    assert!(!again.log().contains("partition halted"), "{}", again.log());
    end(&again).await?;

    // both are: the partition halts, and goes on by itself when the log has its old end again
    let env = [
        ("FAILPOINTS", "old_log_end=2*return"),
        ("CLICKSTREAM_TEST_EXAMINE_MS", "2000"),
    ];
    let halted = stack.start_watched_with("halted", &env)?;
    logged(&halted.process, "partition halted").await?;
    assert_eq!(
        halted.shows("/readyz", "1 partitions are halted").await?,
        503
    );
    halted.shows("/readyz", "ok").await?;
    place(&stack, 0, 20..30).await?;
    stored(&stack, 30).await?;
    end(&halted.process).await?;
    stack.audit().await?;
    Ok(())
}

/// The file that holds a partition's only segment.
fn segment(dir: &Path, topic: &str) -> anyhow::Result<PathBuf> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with(format!("{topic}-0")) {
                return Ok(path.join("00000000000000000000.log"));
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    anyhow::bail!("no folder of {topic} in {}", dir.display())
}

/// Where the batch begins that holds this offset, and its length.
fn batch(file: &Path, offset: i64) -> anyhow::Result<(usize, usize)> {
    let bytes = fs::read(file)?;
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + 61) {
        let number = |range: std::ops::Range<usize>| -> anyhow::Result<i64> {
            Ok(i64::from(i32::from_be_bytes(head[range].try_into()?)))
        };
        let first = i64::from_be_bytes(head[..8].try_into()?);
        let length = 12 + usize::try_from(number(8..12)?)?;
        if first <= offset && offset <= first + number(23..27)? {
            return Ok((at, length));
        }
        at += length;
    }
    anyhow::bail!("offset {offset} is not in {}", file.display())
}

/// CRC-32C, as Kafka's batches have it.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Writes to the file that the broker sends from.
fn overwrite(file: &Path, at: usize, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.seek(SeekFrom::Start(at as u64))?;
    file.write_all(bytes)?;
    Ok(())
}

fn read(file: &Path, at: usize, length: usize) -> anyhow::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(at as u64))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A batch in the middle of a log is damaged on the broker's disk; `mend_crc`: so that its checksum
/// fits all the same.
async fn damaged(mend_crc: bool, why: &str) -> anyhow::Result<()> {
    let dir = server_dir("damaged")?;
    let kafka = Kafka::start(KafkaOptions {
        data_dir: Some(dir.clone()),
        ..KafkaOptions::default()
    })
    .await?;
    let postgres = shared::postgres(PostgresVersion::V18).await?;
    let stack = Stack::on(
        kafka,
        postgres,
        StackOptions {
            partitions: 2,
            ..StackOptions::default()
        },
    )
    .await?;
    for part in 0..3 {
        let batch = clicks(part * 10..part * 10 + 10, now());
        let batch = batch.iter().map(|click| click.on(0)).collect();
        stack.place_compressed(batch, "lz4").await?;
    }
    let file = segment(&dir, &stack.topic)?;
    let (at, length) = batch(&file, 12)?;
    let whole = read(&file, at, length)?;
    let mut broken = whole.clone();
    for byte in &mut broken[61 + 20..] {
        *byte ^= 0x5a;
    }
    if mend_crc {
        let crc = crc32c(&broken[21..]);
        broken[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    overwrite(&file, at, &broken)?;

    let env = [("CLICKSTREAM_TEST_EXAMINE_MS", "1500")];
    let processor = stack.start_watched_with("one", &env)?;
    place(&stack, 1, 1_000..1_010).await?;
    // what comes before it is stored, and so is the other partition; nothing behind it is
    stored(&stack, 20).await?;
    let shown = format!("the batch at offset 10 cannot be read: {why}");
    processor.shows("/status", &shown).await?;
    assert_eq!(
        processor
            .shows("/readyz", "1 partitions are halted")
            .await?,
        503
    );
    halted_all_the_time(&processor, &shown, Duration::from_secs(4)).await?;
    place(&stack, 1, 1_010..1_020).await?;
    stored(&stack, 30).await?;
    assert_eq!(said(&processor.process), 1, "{}", processor.process.log());

    overwrite(&file, at, &whole)?;
    stored(&stack, 50).await?;
    assert_eq!(processor.shows("/readyz", "ok").await?, 200);
    end(&processor.process).await?;
    stack.audit().await?;
    stack.kafka.shutdown().await
}

/// It is examined again and again meanwhile, and still counts as halted.
async fn halted_all_the_time(
    processor: &Watched,
    shown: &str,
    time: Duration,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        let (_, status) = processor.get("/status").await?;
        ensure!(status.contains(shown), "{status}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn said(process: &Process) -> usize {
    process.log().matches("partition halted").count()
}

#[tokio::test]
async fn a_batch_that_fails_its_checksum_halts_its_partition_until_it_is_restored()
-> anyhow::Result<()> {
    damaged(false, "MessageSet at offset 10").await
}

#[tokio::test]
async fn a_batch_that_cannot_be_decompressed_halts_its_partition_until_it_is_restored()
-> anyhow::Result<()> {
    damaged(true, "Decompression").await
}

#[tokio::test]
async fn a_partition_that_does_not_move_is_assigned_afresh_and_ends_the_process_only_then()
-> anyhow::Result<()> {
    let stack = one_partition().await?;
    let env = |fails| [("FAILPOINTS", fails), ("CLICKSTREAM_TEST_STUCK_MS", "1500")];
    // once its fetching stops and nobody says so
    let processor = stack.start_with("one", &env("fetchers_stall=2*off->1*return"))?;
    place(&stack, 0, 0..10).await?;
    stored(&stack, 10).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    place(&stack, 0, 10..20).await?;
    stored(&stack, 20).await?;
    logged(&processor, "partition does not move").await?;
    end(&processor).await?;

    // every time
    let processor = stack.start_with("two", &env("fetchers_stall=return;resumes_stall=return"))?;
    logged(&processor, "partitions assigned").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    place(&stack, 0, 20..30).await?;
    let status = processor.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1), "{}", processor.log());
    assert!(
        processor.log().contains("has not moved from"),
        "{}",
        processor.log()
    );
    Ok(())
}

#[tokio::test]
async fn a_reader_that_hangs_shows_at_livez() -> anyhow::Result<()> {
    let stack = one_partition().await?;
    let env = [
        ("FAILPOINTS", "reader_stalls=20*off->1*sleep(4000)->off"),
        ("CLICKSTREAM_TEST_READER_STALLS_MS", "1000"),
    ];
    let processor = stack.start_watched_with("one", &env)?;
    assert_eq!(processor.shows("/livez", "ok").await?, 200);
    assert_eq!(
        processor
            .shows("/livez", "the reading thread has done nothing for")
            .await?,
        503
    );
    assert_eq!(processor.shows("/livez", "ok").await?, 200);
    place(&stack, 0, 0..10).await?;
    stored(&stack, 10).await?;
    end(&processor.process).await
}
