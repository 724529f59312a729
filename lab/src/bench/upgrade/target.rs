//! The tables that are upgraded, and what is done with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clickstream_testbed::Process;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::super::backlog::Backlog;
use super::super::stand::{PARTITIONS, Stand};
use crate::checkpoints;
use crate::log::Log;

/// The database.
const DATABASE: &str = "upgrade";
/// The schema.
pub const SCHEMA: &str = "upgrade";
/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often progress is asked for.
const PERIOD: Duration = Duration::from_millis(50);
/// How long a query takes that somebody asks while the tables change: a dashboard's, over weeks.
const QUERY: Duration = Duration::from_secs(5);

/// A schema, its pipeline, and the programs of two releases.
pub struct Target {
    /// The processor of the release before.
    pub before: PathBuf,
    /// This release's.
    pub after: PathBuf,
    /// Address of the database.
    pub url: String,
    document: PathBuf,
    client: Client,
}

impl Target {
    /// Roles, document, and the tables of the release before.
    pub async fn prepare(stand: &Stand, log: &Log, before: PathBuf) -> anyhow::Result<Self> {
        stand.postgres().create_database(DATABASE).await?;
        let topic = log.topic();
        let client = stand.postgres().connect(DATABASE).await?;
        let (owner, writer) = (format!("{topic}_owner"), format!("{topic}_writer"));
        client
            .batch_execute(&format!(
                "create role {owner} login; create role {writer} login; grant create on database {DATABASE} to {owner}"
            ))
            .await?;
        let document = stand.dir().join("upgrade.yaml");
        let place = format!(
            "host: 127.0.0.1, port: {}, database: {DATABASE}, sslMode: Disable",
            stand.postgres().port()
        );
        let text = format!(
            "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata: {{name: {}}}\nspec:\n  kafka: \
             {{bootstrapServers: \"{}\"}}\n  topics:\n  - {{name: {topic}, partitions: {PARTITIONS}, management: External}}\n  \
             targets:\n  - name: main\n    schema: {SCHEMA}\n    connection: {{{place}, user: {writer}}}\n    migration: \
             {{connection: {{{place}, user: {owner}}}}}\n",
            topic.replace('_', "-"),
            brokers(log)?,
        );
        std::fs::write(&document, text)?;
        let url = stand.postgres().url(DATABASE);
        let mut target = Self {
            before,
            after: stand.binaries().processor.clone(),
            document,
            client,
            url,
        };
        let (code, said) = target.command(&target.before, "migrate").await?;
        ensure!(code == 0, "the first migration: exit code {code}:\n{said}");
        target.client = checkpoints::connect(&target.url, SCHEMA).await?;
        target.client.batch_execute("checkpoint").await?;
        Ok(target)
    }

    /// Exit code and words of a command.
    pub async fn command(&self, program: &Path, verb: &str) -> anyhow::Result<(i32, String)> {
        let mut command = tokio::process::Command::from(self.of(program, verb));
        let output = command.kill_on_drop(true).output().await?;
        let said = [output.stdout, output.stderr].concat();
        let code = output.status.code().unwrap_or(-1);
        Ok((code, String::from_utf8_lossy(&said).into_owned()))
    }

    fn of(&self, program: &Path, verb: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(verb).arg("--pipeline").arg(&self.document);
        command
    }

    pub fn start(&self, program: &Path, name: &str) -> anyhow::Result<Process> {
        let mut command = self.of(program, "run");
        command.args(["--name", name]);
        Process::spawn(&command, name)
    }

    /// Waits for a number to be reached, as long as it rises.
    async fn rises(&self, processors: &[&Process], query: &str, to: i64) -> anyhow::Result<()> {
        let mut last = (Instant::now(), i64::MIN);
        loop {
            let now: i64 = self.client.query_one(query, &[]).await?.get(0);
            if now >= to {
                return Ok(());
            }
            if now > last.1 {
                last = (Instant::now(), now);
            }
            for processor in processors {
                if let Some(status) = processor.exited()? {
                    bail!("a processor ended ({status}):\n{}", processor.log_tail());
                }
            }
            if last.0.elapsed() > PATIENCE {
                let logs: Vec<String> = processors.iter().map(|one| one.log_tail()).collect();
                bail!(
                    "{now} of {to} for two minutes ({query}):\n{}",
                    logs.join("\n")
                );
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    pub async fn reaches(&self, processors: &[&Process], offsets: i64) -> anyhow::Result<()> {
        let sum = "select coalesce(sum(next_offset), 0)::bigint from clickstream_checkpoints";
        self.rises(processors, sum, offsets).await
    }

    /// Waits until the log, to which nothing is added, is read to its end.
    pub async fn drained(&self, processors: &[&Process], backlog: &Backlog) -> anyhow::Result<()> {
        let end = backlog.log.ends().await?.values().sum();
        self.reaches(processors, end).await
    }

    /// Waits until this processor owns a partition.
    pub async fn owns(&self, processor: &Process, name: &str) -> anyhow::Result<()> {
        self.rises(&[processor], &owned_by(name), 1).await
    }

    /// Waits until it owns them all.
    pub async fn owns_all(&self, processor: &Process, name: &str) -> anyhow::Result<()> {
        self.rises(&[processor], &owned_by(name), i64::from(PARTITIONS))
            .await
    }

    /// Starts the release before again; whether it works. One that refuses says why on its last
    /// lines.
    pub async fn goes_back(&self, period: Duration) -> anyhow::Result<bool> {
        let (code, said) = self.command(&self.before, "migrate").await?;
        eprintln!("the old release's migrate: exit code {code}\n{said}");
        let again = self.start(&self.before, "before again")?;
        let begin = Instant::now();
        while begin.elapsed() < period {
            if let Some(status) = again.exited()? {
                eprintln!("the old release refuses ({status}):\n{}", again.log_tail());
                return Ok(false);
            }
            tokio::time::sleep(PERIOD).await;
        }
        self.owns_all(&again, "before again").await?;
        leave(&again).await?;
        let log = again.log();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
        ensure!(
            errors.is_empty(),
            "the old release works, with errors:\n{}",
            errors.join("\n")
        );
        Ok(true)
    }

    /// Somebody who reads a view, and for some time afterwards holds what every query holds while
    /// it lasts.
    pub async fn reads(&self) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let client = checkpoints::connect(&self.url, SCHEMA).await?;
        let query = "begin; select sum(hits) from clickstream_traffic_minute";
        client.batch_execute(query).await?;
        Ok(tokio::spawn(async move {
            tokio::time::sleep(QUERY).await;
            Ok(client.batch_execute("commit").await?)
        }))
    }

    /// The version of the tables.
    pub async fn version(&self) -> anyhow::Result<i32> {
        let newest = "select max(version)::int from clickstream_migrations";
        Ok(self.client.query_one(newest, &[]).await?.get(0))
    }

    /// What is stored, for people.
    pub async fn say(&self, when: &str) -> anyhow::Result<()> {
        let row = self
            .client
            .query_one(
                "select sum(accepted)::bigint, sum(duplicate)::bigint, sum(late)::bigint, sum(rejected)::bigint,
                     (select count(*) from clickstream_agg_lanes), (select count(*) from clickstream_traffic_parts)
                 from clickstream_checkpoints",
                &[],
            )
            .await?;
        let counted: Vec<i64> = (0..6).map(|at| row.get(at)).collect();
        eprintln!(
            "{when}: tables of version {}; accepted, duplicates, late, rejected, rows of hits and of traffic: {counted:?}",
            self.version().await?
        );
        Ok(())
    }
}

fn owned_by(name: &str) -> String {
    format!("select count(*) from clickstream_checkpoints where owner = '{name}'")
}

/// `host:port` of the broker.
fn brokers(log: &Log) -> anyhow::Result<&str> {
    let brokers = log.config().get("bootstrap.servers");
    brokers.context("a log without brokers")
}

/// Events as they come in, until the process is told to end.
pub fn traffic(stand: &Stand, log: &Log, rate: u64) -> anyhow::Result<Process> {
    let mut command = Command::new(&stand.binaries().producer);
    command
        .args([
            "generate",
            "--output",
            "json",
            "--seed",
            "7",
            "--bootstrap-servers",
        ])
        .arg(brokers(log)?)
        .args(["--topic", log.topic(), "--rate", &rate.to_string()]);
    Process::spawn(&command, "producer")
}

pub async fn finish(producer: &Process) -> anyhow::Result<()> {
    producer.terminate()?;
    let status = producer.wait(PATIENCE).await?;
    ensure!(
        status.success(),
        "producer: {status}\n{}",
        producer.log_tail()
    );
    Ok(())
}

/// Ends a processor in order, as Kubernetes does.
pub async fn leave(processor: &Process) -> anyhow::Result<()> {
    processor.terminate().context("it has ended already")?;
    let status = processor.wait(Duration::from_secs(30)).await?;
    ensure!(
        status.success(),
        "processor: {status}\n{}",
        processor.log_tail()
    );
    Ok(())
}
