//! What is measured on: one Kafka, one PostgreSQL, release binaries, and a fresh schema for each
//! run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use clickstream_pipeline::spec::ClickstreamPipeline;
use clickstream_testbed::{Kafka, KafkaOptions, Postgres, PostgresOptions, Process};
use tokio_postgres::{Client, Statement};

use crate::binaries::Binaries;
use crate::checkpoints;
use crate::document::{Addresses, Document};
use crate::log::Log;

/// The database of all runs.
const DATABASE: &str = "bench";

/// Partitions of every topic here.
pub const PARTITIONS: u32 = 4;

/// How long a run may go without any progress.
const PATIENCE: Duration = Duration::from_secs(120);

/// The servers and programs.
pub struct Stand {
    kafka: Kafka,
    postgres: Postgres,
    binaries: Binaries,
    dir: PathBuf,
}

/// A fresh schema and the document of a pipeline into it.
pub struct Trial {
    /// The document.
    pub document: Document,
    /// A session in the schema.
    pub client: Client,
    /// Address of the database.
    pub url: String,
    processor: PathBuf,
    environment: Vec<(String, String)>,
    watch: Statement,
}

/// Progress of a trial at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Partitions that have a checkpoint.
    pub claimed: i64,
    /// Sum of their epochs: rises with each claim.
    pub epochs: i64,
    /// Sum of the next offsets.
    pub offsets: i64,
}

impl Stand {
    /// Builds, starts, creates the database.
    ///
    /// # Errors
    /// Something cannot be had.
    pub async fn start(binaries: Option<&Path>) -> anyhow::Result<Self> {
        let kafka = KafkaOptions {
            heap_mb: 768,
            ..KafkaOptions::default()
        };
        Self::start_with(binaries, kafka).await
    }

    /// The same on another Kafka.
    ///
    /// # Errors
    /// Something cannot be had.
    pub async fn start_with(binaries: Option<&Path>, kafka: KafkaOptions) -> anyhow::Result<Self> {
        let dir = clickstream_testbed::server_dir("bench")?;
        let binaries = Binaries::get(binaries, &dir)?;
        let postgres = PostgresOptions {
            fsync: true,
            settings: [
                ("shared_buffers", "1GB"),
                ("max_wal_size", "8GB"),
                // its default, which with the default of max_locks_per_transaction makes the table
                // of locks
                ("max_connections", "100"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
            ..PostgresOptions::default()
        };
        eprintln!("starting Kafka and PostgreSQL");
        let (postgres, kafka) = tokio::try_join!(Postgres::start(postgres), Kafka::start(kafka))?;
        postgres.create_database(DATABASE).await?;
        Ok(Self {
            kafka,
            postgres,
            binaries,
            dir,
        })
    }

    /// The brokers.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// The database server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The folder for programs and documents, gone at the end.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new topic and its log.
    ///
    /// # Errors
    /// Kafka refuses.
    pub async fn topic(&self) -> anyhow::Result<Log> {
        self.topic_of(PARTITIONS).await
    }

    /// The same with another number of partitions.
    ///
    /// # Errors
    /// Kafka refuses.
    pub async fn topic_of(&self, partitions: u32) -> anyhow::Result<Log> {
        let name = clickstream_testbed::unique_name("bench");
        let log = Log::open(&self.document(&name, |_| {})?)?;
        self.kafka
            .create_topic(&name, i32::try_from(partitions)?, &[])
            .await?;
        Ok(log)
    }

    /// A fresh, migrated schema for a pipeline on `topic`, with a checkpoint just made.
    ///
    /// # Errors
    /// The migration fails.
    pub async fn trial(&self, topic: &str) -> anyhow::Result<Trial> {
        self.trial_with(topic, |_| {}).await
    }

    /// The same with what `change` makes of the document.
    ///
    /// # Errors
    /// The migration fails.
    pub async fn trial_with(
        &self,
        topic: &str,
        change: impl FnOnce(&mut ClickstreamPipeline),
    ) -> anyhow::Result<Trial> {
        let document = self.document(topic, change)?;
        let output = document
            .command(&self.binaries.processor, "migrate")
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "migration failed ({}):\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let url = self.postgres.url(DATABASE);
        let client = checkpoints::connect(&url, &document.target().schema).await?;
        client.batch_execute("checkpoint").await?;
        let watch = client
            .prepare(
                "select count(*), coalesce(sum(epoch), 0)::bigint, coalesce(sum(next_offset), 0)::bigint \
                 from clickstream_checkpoints",
            )
            .await?;
        Ok(Trial {
            document,
            client,
            url,
            processor: self.binaries.processor.clone(),
            environment: Vec::new(),
            watch,
        })
    }

    /// A pipeline of its own name, so that no consumer group is met twice, with what `change` makes
    /// of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn document(
        &self,
        topic: &str,
        change: impl FnOnce(&mut ClickstreamPipeline),
    ) -> anyhow::Result<Document> {
        let mut pipeline = Document::read(None)?;
        let name = clickstream_testbed::unique_name("bench");
        pipeline.metadata.name = name.replace('_', "-");
        if let Some(spec) = pipeline.spec.topics.first_mut() {
            spec.name = topic.to_owned();
            spec.partitions = Some(PARTITIONS);
        }
        if let Some(target) = pipeline.spec.targets.first_mut() {
            target.schema.clone_from(&name);
        }
        change(&mut pipeline);
        let addresses = Addresses {
            kafka: Some(self.kafka.bootstrap_servers()),
            postgres: self.postgres.url(DATABASE),
        };
        Document::write(pipeline, &addresses, &self.dir.join(name))
    }
}

impl Trial {
    /// The same trial with another program in the processor's place.
    pub fn with_processor(mut self, program: PathBuf) -> Self {
        self.processor = program;
        self
    }

    /// The same trial with one more variable in the processor's environment.
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts a processor.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn processor(&self) -> anyhow::Result<Process> {
        let mut command = self.document.command(&self.processor, "run");
        command.envs(self.environment.iter().cloned());
        Process::spawn(command.as_std(), "processor")
    }

    /// Starts a processor that answers at this admin address.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn processor_with_admin(&self, address: &str) -> anyhow::Result<Process> {
        let mut command = self.document.command(&self.processor, "run");
        command.args(["--admin-listen", address]);
        Process::spawn(command.as_std(), "processor")
    }

    /// How far the trial is.
    ///
    /// # Errors
    /// The query fails.
    pub async fn progress(&self) -> anyhow::Result<Progress> {
        let row = self.client.query_one(&self.watch, &[]).await?;
        Ok(Progress {
            claimed: row.get(0),
            epochs: row.get(1),
            offsets: row.get(2),
        })
    }

    /// Asks every `period` until `reached`, and returns when that was and how far the trial was.
    ///
    /// # Errors
    /// The processor ends, or nothing moves for two minutes.
    pub async fn wait(
        &self,
        processor: &Process,
        period: Duration,
        reached: impl Fn(Progress) -> bool,
    ) -> anyhow::Result<(Instant, Progress)> {
        let mut last = (Instant::now(), self.progress().await?);
        loop {
            let progress = self.progress().await?;
            let now = Instant::now();
            if reached(progress) {
                return Ok((now, progress));
            }
            if progress != last.1 {
                last = (now, progress);
            }
            if let Some(status) = processor.exited()? {
                bail!(
                    "the processor ended ({status}); the end of its log:\n{}",
                    processor.log_tail()
                );
            }
            if last.0.elapsed() >= PATIENCE {
                bail!(
                    "nothing moves at {progress:?}; the end of the log:\n{}",
                    processor.log_tail()
                );
            }
            tokio::time::sleep(period).await;
        }
    }

    /// An audit of the target.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn audit(&self) -> anyhow::Result<Process> {
        let mut command = self.document.command(&self.processor, "audit");
        command.envs(self.environment.iter().cloned());
        Process::spawn(command.as_std(), "audit")
    }

    /// Number of accepted rows.
    ///
    /// # Errors
    /// The query fails.
    pub async fn accepted(&self) -> anyhow::Result<i64> {
        let checkpoints: BTreeMap<_, _> =
            checkpoints::read(&self.client, &self.document.topic().name).await?;
        Ok(checkpoints::total(&checkpoints).accepted)
    }

    /// Stops a processor in order and takes the tables away as production does, a hundred days at a
    /// time: a schema of thousands cannot be dropped at once.
    ///
    /// # Errors
    /// One of these fails.
    pub async fn discard(self, processor: Process) -> anyhow::Result<()> {
        processor.terminate()?;
        processor.wait(Duration::from_secs(30)).await?;
        let output = self
            .document
            .command(&self.processor, "drop")
            .output()
            .await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("drop failed ({}):\n{said}", output.status);
        }
        Ok(())
    }

    /// Stops a processor in order and drops the schema: the next run finds the machine as this one
    /// did.
    ///
    /// # Errors
    /// One of these fails.
    pub async fn end(self, processor: Option<Process>) -> anyhow::Result<()> {
        if let Some(processor) = processor {
            processor.terminate()?;
            processor.wait(Duration::from_secs(30)).await?;
        }
        let schema = &self.document.target().schema;
        self.client
            .batch_execute(&format!("drop schema \"{schema}\" cascade"))
            .await?;
        Ok(())
    }
}
