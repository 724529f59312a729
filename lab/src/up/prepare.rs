//! From nothing to running processors.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clickstream_testbed::{Kafka, Postgres, Process, free_port};
use tokio_postgres::Client;

use super::console::{self, Console};
use super::servers;
use super::survey;
use crate::binaries::Binaries;
use crate::checkpoints::{self, Checkpoints};
use crate::document::{Addresses, Document};
use crate::log::Log;
use clickstream_tools::workspace_root;
use xtask::args::UpArgs;
use xtask::steps::Steps;

/// How long the processors may take to claim every partition.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(60);

/// The running pipeline. Everything that was started stops when it is dropped.
pub struct Pipeline {
    // in the order of their end
    console: Option<Console>,
    processors: Vec<(String, Process)>,
    /// Admin addresses of the processors.
    admin: Vec<String>,
    /// A session in the target's schema.
    pub database: Client,
    /// The topic.
    pub log: Log,
    /// The document that everything runs by.
    pub document: Document,
    /// Our programs.
    pub binaries: Binaries,
    /// Address of the database.
    pub postgres_url: String,
    _kafka: Option<Kafka>,
    _postgres: Option<Postgres>,
}

/// How far log and tables are at an instant.
pub struct Position {
    /// The log's ends, taken after the checkpoints.
    pub ends: BTreeMap<i32, i64>,
    /// The checkpoints.
    pub checkpoints: Checkpoints,
}

impl Position {
    /// Records in the log since its beginning.
    #[must_use]
    pub fn produced(&self) -> i64 {
        self.ends.values().sum()
    }

    /// Records that are not in PostgreSQL yet.
    #[must_use]
    pub fn lag(&self) -> i64 {
        checkpoints::lag(&self.checkpoints, &self.ends)
    }

    /// The newest event time over all partitions.
    #[must_use]
    pub fn newest_clock(&self) -> Option<DateTime<Utc>> {
        self.checkpoints
            .values()
            .filter_map(|checkpoint| checkpoint.clock)
            .max()
    }
}

impl Pipeline {
    /// Starts, creates and migrates what is needed, then waits until every partition has an owner.
    ///
    /// # Errors
    /// Whatever cannot be had or started; the message says what to do where something can be done.
    pub async fn prepare(args: &UpArgs, steps: &Steps) -> anyhow::Result<Self> {
        let mut pipeline = Document::read(args.pipeline.as_deref())?;
        let target = workspace_root().join("target");
        let run = uuid::Uuid::new_v4().simple().to_string();
        let dir = clickstream_testbed::server_dir("up")?;
        let binaries = Binaries::get(args.binaries.as_deref(), &dir)?;
        let kept = args.keep.then(|| servers::kept_dir(&target));
        let ((), kafka, postgres) = tokio::try_join!(
            survey::tell(args, &binaries.producer, steps),
            servers::kafka(args, steps, kept.as_deref()),
            servers::postgres(args, steps, kept.as_deref()),
        )?;
        let postgres_url = servers::postgres_url(args, postgres.as_ref())
            .context("neither a PostgreSQL of our own nor somebody else's")?;
        if !args.keep && (kafka.is_none() || postgres.is_none()) {
            // servers that live on know the names of earlier runs
            own_names(&mut pipeline, &run[..8]);
        }
        let kafka_address = args
            .kafka
            .clone()
            .or_else(|| kafka.as_ref().map(Kafka::bootstrap_servers));
        if postgres.is_some() {
            console::reader(&postgres_url, &mut pipeline).await?;
        }
        let addresses = Addresses {
            kafka: kafka_address,
            postgres: postgres_url.clone(),
        };
        let document = Document::write(pipeline, &addresses, &dir)?;
        let log = Log::open(&document)?;
        topic(steps, &log, &document).await?;
        migrate(steps, &binaries, &document).await?;
        let database = checkpoints::connect(&postgres_url, &document.target().schema).await?;
        let mut ready = Self {
            console: None,
            processors: Vec::new(),
            admin: Vec::new(),
            database,
            log,
            document,
            binaries,
            postgres_url,
            _kafka: kafka,
            _postgres: postgres,
        };
        ready.start_processors(steps).await?;
        ready.start_console(steps).await?;
        Ok(ready)
    }

    /// How far log and tables are.
    ///
    /// # Errors
    /// Kafka or PostgreSQL does not answer.
    pub async fn position(&self) -> anyhow::Result<Position> {
        let checkpoints = checkpoints::read(&self.database, self.log.topic()).await?;
        Ok(Position {
            checkpoints,
            ends: self.log.ends().await?,
        })
    }

    /// The watermark's distance from the clock of event time.
    #[must_use]
    pub fn watermark_delay(&self) -> TimeDelta {
        TimeDelta::microseconds(self.document.pipeline().semantic().delay_micros)
    }

    /// A processor that runs no more.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn ended_processor(&self) -> anyhow::Result<Option<(String, ExitStatus)>> {
        for (name, process) in &self.processors {
            if let Some(status) = process.exited()? {
                return Ok(Some((name.clone(), status)));
            }
        }
        Ok(None)
    }

    /// Number of processors.
    #[must_use]
    pub fn processors(&self) -> usize {
        self.processors.len()
    }

    /// Address of the page about the run.
    #[must_use]
    pub fn console(&self) -> Option<&str> {
        self.console.as_ref().map(Console::address)
    }

    /// The last lines of a processor's log.
    #[must_use]
    pub fn log_tail(&self, name: &str) -> String {
        let found = self.processors.iter().find(|(other, _)| other == name);
        found
            .map(|(_, process)| process.log_tail())
            .unwrap_or_default()
    }

    /// Where the programs' logs are while they run.
    #[must_use]
    pub fn logs(&self) -> Option<&Path> {
        self.processors
            .first()
            .and_then(|(_, process)| process.log_path().parent())
    }

    /// Stops the processors in order: SIGTERM, then a wait.
    ///
    /// # Errors
    /// One does not end.
    pub async fn stop_processors(&self) -> anyhow::Result<()> {
        for (_, process) in &self.processors {
            process.terminate()?;
        }
        for (name, process) in &self.processors {
            let status = process.wait(Duration::from_secs(30)).await?;
            if !status.success() {
                bail!(
                    "{name} ended with {status}; the end of its log:\n{}",
                    process.log_tail()
                );
            }
        }
        Ok(())
    }

    async fn start_processors(&mut self, steps: &Steps) -> anyhow::Result<()> {
        let replicas = self
            .document
            .pipeline()
            .spec
            .replicas_of(self.document.target());
        let step = steps.begin("processors");
        for index in 1..=replicas {
            let name = format!("processor-{index}");
            let mut command = self.document.command(&self.binaries.processor, "run");
            let admin = format!("127.0.0.1:{}", free_port()?);
            command
                .args(["--name", &name])
                .args(["--admin-listen", &admin]);
            self.admin.push(admin);
            let process = Process::spawn(command.as_std(), &name)?;
            self.processors.push((name, process));
        }
        step.during(self.claimed(), |epochs| {
            format!("{replicas} running, {epochs} partitions claimed")
        })
        .await?;
        Ok(())
    }

    async fn start_console(&mut self, steps: &Steps) -> anyhow::Result<()> {
        let Some(program) = &self.binaries.console else {
            return Ok(());
        };
        let step = steps.begin("console");
        let start = Console::start(
            program,
            &self.postgres_url,
            self.document.target(),
            &self.admin,
        );
        let console = step
            .during(start, |console| console.address().to_owned())
            .await?;
        self.console = Some(console);
        Ok(())
    }

    /// Waits until every partition's checkpoint has moved to a new epoch.
    async fn claimed(&self) -> anyhow::Result<usize> {
        let deadline = tokio::time::Instant::now() + CLAIM_TIMEOUT;
        let partitions = self.log.ends().await?.len();
        loop {
            if let Some((name, status)) = self.ended_processor()? {
                bail!("{name} did not start ({status}):\n{}", self.log_tail(&name));
            }
            let owners: i64 = self
                .database
                .query_one(
                    "select count(*) from clickstream_checkpoints join pg_stat_activity \
                     on pid = backend_pid and pg_stat_activity.backend_start = clickstream_checkpoints.backend_start \
                     where topic = $1",
                    &[&self.log.topic()],
                )
                .await?
                .get(0);
            if usize::try_from(owners)? == partitions {
                return Ok(partitions);
            }
            if tokio::time::Instant::now() >= deadline {
                let name = "processor-1";
                bail!(
                    "{owners} of {partitions} partitions claimed after {CLAIM_TIMEOUT:?}; the end of {name}'s log:\n{}",
                    self.log_tail(name)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn topic(steps: &Steps, log: &Log, document: &Document) -> anyhow::Result<()> {
    let step = steps.begin("topic");
    let remark = |created: &bool| {
        let how = if *created { "created" } else { "goes on" };
        format!("{} {how}", log.topic())
    };
    step.during(log.create(document), remark).await.map(|_| ())
}

async fn migrate(steps: &Steps, binaries: &Binaries, document: &Document) -> anyhow::Result<()> {
    let step = steps.begin("migrate");
    let work = async {
        let output = document
            .command(&binaries.processor, "migrate")
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "migration failed ({}):\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    };
    step.during(work, |()| format!("schema {}", document.target().schema))
        .await
}

/// Names that no earlier run has used.
fn own_names(pipeline: &mut clickstream_pipeline::spec::ClickstreamPipeline, run: &str) {
    pipeline.metadata.name = format!("up-{run}");
    for topic in &mut pipeline.spec.topics {
        topic.name = format!("{}-{run}", topic.name);
    }
    for target in &mut pipeline.spec.targets {
        target.schema = format!("{}_{run}", target.schema);
    }
}
