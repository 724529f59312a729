//! Runs the producer's binary and reads back what arrived.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use clickstream_testbed::{Kafka, Process, unique_name};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

/// Longer than any run here takes on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// A run of the producer.
pub struct Run(Process);

impl Run {
    /// Starts `clickstream-producer COMMAND` against these brokers; the summary comes as JSON.
    pub fn start(command: &str, servers: &str, topic: &str, args: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_clickstream-producer"));
        program.args([
            command,
            "--bootstrap-servers",
            servers,
            "--topic",
            topic,
            "-o",
            "json",
            "--progress",
        ]);
        program.args(args);
        Self(Process::spawn(&program, &unique_name("producer")).unwrap())
    }

    /// Waits for the end: exit status, summary and everything written.
    pub async fn end(&self) -> (ExitStatus, Value, String) {
        let status = self.0.wait(TIMEOUT).await.unwrap();
        let log = self.0.log();
        let summary = log
            .lines()
            .rfind(|line| line.starts_with('{'))
            .unwrap_or("null");
        (status, serde_json::from_str(summary).unwrap(), log)
    }

    /// Waits until a line of progress shows that brokers have acknowledged something.
    pub async fn acknowledges(&self) {
        self.shows(", acknowledged ", 1).await;
    }

    /// Waits until a line of progress shows that sending is this many milliseconds behind its
    /// schedule.
    pub async fn lags(&self, millis: u64) {
        self.shows(", schedule lag ", millis).await;
    }

    /// Waits until a number of at least this size stands behind this text.
    async fn shows(&self, text: &str, at_least: u64) {
        let deadline = Instant::now() + TIMEOUT;
        let number = |rest: &str| {
            rest.split(|c: char| !c.is_ascii_digit())
                .next()
                .and_then(|digits| digits.parse().ok())
        };
        let shown = |log: &str| {
            log.split(text)
                .skip(1)
                .filter_map(number)
                .any(|number: u64| number >= at_least)
        };
        while !shown(&self.0.log()) {
            assert!(
                Instant::now() < deadline && self.0.exited().unwrap().is_none(),
                "{}",
                self.0.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.0.terminate().unwrap();
    }
}

/// A record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    pub partition: i32,
    pub key: String,
    pub payload: Option<Vec<u8>>,
}

/// Everything in the topic, partition by partition.
pub async fn stored(kafka: &Kafka, topic: &str, partitions: i32) -> Vec<Stored> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let deadline = Instant::now() + TIMEOUT;
    let mut records = Vec::new();
    for partition in 0..partitions {
        let (_, end) = kafka.offsets(topic, partition).await.unwrap();
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
        consumer.assign(&place).unwrap();
        let mut next = 0;
        while next < end {
            // `None` is also what any event other than a message gives
            let Some(message) = consumer.poll(Duration::from_secs(1)) else {
                assert!(
                    Instant::now() < deadline,
                    "{topic}/{partition} ends at {next} instead of {end}"
                );
                continue;
            };
            let message = message.unwrap();
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            records.push(Stored {
                partition,
                key,
                payload: message.payload().map(<[u8]>::to_vec),
            });
            next = message.offset() + 1;
        }
    }
    records
}

/// Writes a file into a folder of its own, which the build keeps.
pub fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique_name("producer"));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}
