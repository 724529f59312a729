//! A pipeline of a test: its topic, its database, a processor when it is needed, and the audit.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_pipeline::spec::{ClickstreamPipeline, SecretError, Secrets};
use clickstream_processor::audit::{AuditReport, Kind, Options, audit};
use clickstream_testbed::{
    Kafka, Postgres, PostgresVersion, Process, server_dir, shared, unique_name,
};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio_postgres::Client;

use crate::clicks::{Click, REFUSED_PAGE};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A pipeline without secrets.
pub struct NoSecrets;

impl Secrets for NoSecrets {
    fn read(&self, _: &str, _: &str) -> Result<Option<String>, SecretError> {
        Ok(None)
    }
}

/// One topic into one database.
pub struct Pipeline {
    pub kafka: &'static Kafka,
    pub postgres: &'static Postgres,
    pub topic: String,
    pub database: String,
    pub client: Client,
    late_events: String,
    target: String,
    user: String,
}

impl Pipeline {
    /// A migrated target. `late_events` and `target` are YAML of the document: the value of the
    /// one, lines of the other.
    pub async fn new(partitions: i32, late_events: &str, target: &str) -> anyhow::Result<Self> {
        let kafka = shared::kafka().await?;
        let postgres = shared::postgres(PostgresVersion::V18).await?;
        let topic = unique_name("audited");
        kafka.create_topic(&topic, partitions, &[]).await?;
        postgres.create_database(&topic).await?;
        let pipeline = Self::on(topic.clone(), &topic, late_events, target).await?;
        let document = pipeline.write_document()?;
        pipeline.command("migrate", &document).await?;
        pipeline
            .client
            .batch_execute(&format!(
                "alter table clickstream_events add constraint no_such_page check (url <> '{REFUSED_PAGE}')"
            ))
            .await?;
        Ok(pipeline)
    }

    /// The same pipeline on a copy of its database, to be tampered with.
    pub async fn copy(&self) -> anyhow::Result<Self> {
        let database = unique_name("tampered");
        let admin = self.postgres.connect("postgres").await?;
        let sql = format!("create database {database} template {}", self.database);
        let deadline = Instant::now() + PATIENCE;
        // nobody may be connected to a template, so copies are made one after the other
        while let Err(error) = admin.batch_execute(&sql).await {
            ensure!(
                Instant::now() < deadline,
                "cannot copy {}: {error}",
                self.database
            );
            tokio::time::sleep(POLL).await;
        }
        Self::on(
            self.topic.clone(),
            &database,
            &self.late_events,
            &self.target,
        )
        .await
    }

    async fn on(
        topic: String,
        database: &str,
        late_events: &str,
        target: &str,
    ) -> anyhow::Result<Self> {
        let postgres = shared::postgres(PostgresVersion::V18).await?;
        let client = postgres.connect(database).await?;
        client
            .batch_execute("set search_path = clickstream; set timezone = 'UTC'")
            .await?;
        Ok(Self {
            kafka: shared::kafka().await?,
            postgres,
            topic,
            database: database.to_owned(),
            client,
            late_events: late_events.to_owned(),
            target: target.to_owned(),
            user: "postgres".to_owned(),
        })
    }

    /// Closes this test's own connection, so that the database can be copied.
    pub async fn disconnect(&mut self) -> anyhow::Result<()> {
        self.client = self.postgres.connect("postgres").await?;
        Ok(())
    }

    /// Changes the rules for the next processor.
    pub fn set_late_events(&mut self, late_events: &str) {
        self.late_events = late_events.to_owned();
    }

    /// Changes the lines of the target.
    pub fn set_target(&mut self, target: &str) {
        target.clone_into(&mut self.target);
    }

    /// Changes the role that audits.
    pub fn set_user(&mut self, role: &str) {
        role.clone_into(&mut self.user);
    }

    pub fn document(&self) -> anyhow::Result<ClickstreamPipeline> {
        let pipeline = ClickstreamPipeline::from_yaml(&self.yaml())?;
        pipeline
            .validate()
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        Ok(pipeline)
    }

    /// Sends records in order, one partition after the other's.
    pub async fn send(&self, clicks: Vec<Click>) -> anyhow::Result<()> {
        let (servers, topic) = (self.kafka.bootstrap_servers(), self.topic.clone());
        tokio::task::spawn_blocking(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", servers)
                .set("enable.idempotence", "true")
                .create()?;
            for click in &clicks {
                let record = BaseRecord::<(), [u8]>::to(&topic).partition(click.partition);
                let record = match &click.value {
                    Some(value) => record.payload(value.as_slice()),
                    None => record,
                };
                let mut sent = producer.send(record);
                while let Err((
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull),
                    record,
                )) = sent
                {
                    producer.poll(POLL);
                    sent = producer.send(record);
                }
                sent.map_err(|(error, _)| error)?;
            }
            producer.flush(PATIENCE)?;
            Ok(())
        })
        .await?
    }

    /// Starts a processor.
    pub fn start(&self) -> anyhow::Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream-processor"));
        command
            .arg("run")
            .arg("--pipeline")
            .arg(self.write_document()?);
        Process::spawn(&command, &unique_name("processor"))
    }

    /// Runs a processor until everything that is in the log is in the database.
    pub async fn drain(&self) -> anyhow::Result<()> {
        let processor = self.start()?;
        self.wait_drained()
            .await
            .with_context(|| processor.log_tail())?;
        processor.terminate()?;
        processor.wait(PATIENCE).await?;
        Ok(())
    }

    pub async fn wait_drained(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut partition = 0;
        while let Ok((_, end)) = self.kafka.offsets(&self.topic, partition).await {
            let row = self
                .client
                .query_opt(
                    "select next_offset from clickstream_checkpoints where partition = $1",
                    &[&partition],
                )
                .await?;
            if row.is_some_and(|row| row.get::<_, i64>(0) >= end) {
                partition += 1;
            } else {
                ensure!(
                    Instant::now() < deadline,
                    "partition {partition} does not reach {end}"
                );
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    pub async fn audit(&self) -> anyhow::Result<AuditReport> {
        let document = self.document()?;
        let target = &document.spec.targets[0];
        // many slices, so that they are read while processors write, and windows that late events
        // come to after they were summed up
        let options = Options {
            show: false,
            slice_rows: 100,
            held_windows: 20,
        };
        audit(&document, target, None, &NoSecrets, options).await
    }

    /// Exit code and standard output of the command.
    pub async fn audit_command(&self, output: &str) -> anyhow::Result<(Option<i32>, String)> {
        self.audit_command_with(output, &[]).await
    }

    /// The same with more environment.
    pub async fn audit_command_with(
        &self,
        output: &str,
        env: &[(&str, &str)],
    ) -> anyhow::Result<(Option<i32>, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream-processor"));
        command
            .arg("audit")
            .arg("--pipeline")
            .arg(self.write_document()?)
            .args(["-o", output])
            .envs(env.iter().copied());
        let done = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok((done.status.code(), String::from_utf8(done.stdout)?))
    }

    /// Executes SQL that must change exactly one row.
    pub async fn tamper(&self, sql: &str) -> anyhow::Result<()> {
        let changed = self.client.execute(sql, &[]).await.context("tampering")?;
        ensure!(changed == 1, "{changed} rows changed by: {sql}");
        Ok(())
    }

    async fn command(&self, command: &str, document: &std::path::Path) -> anyhow::Result<()> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_clickstream-processor"));
        process.arg(command).arg("--pipeline").arg(document);
        let done = tokio::task::spawn_blocking(move || process.output()).await??;
        ensure!(
            done.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }

    fn write_document(&self) -> anyhow::Result<std::path::PathBuf> {
        let path = server_dir("document")?.join("pipeline.yaml");
        std::fs::write(&path, self.yaml())?;
        Ok(path)
    }

    fn yaml(&self) -> String {
        format!(
            "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{ name: {} }}
spec:
  kafka: {{ bootstrapServers: \"{}\" }}
  topics: [{{ name: {}, management: External }}]
  lateEvents: {}
  targets:
  - connection: {{ host: 127.0.0.1, port: {}, database: {}, user: {}, sslMode: Disable }}
    {}
",
            // owner of the schema, copies included, and name of the consumer group
            self.topic.replace('_', "-"),
            self.kafka.bootstrap_servers(),
            self.topic,
            self.late_events,
            self.postgres.port(),
            self.database,
            self.user,
            self.target
        )
    }
}

/// Asserts that a report is clean.
pub fn assert_clean(report: &AuditReport) {
    assert!(report.clean && report.differences.is_empty(), "{report}");
}

/// Asserts that a report has a difference of this kind with these words in it.
pub fn assert_differs(report: &AuditReport, kind: Kind, words: &str) {
    let found = report
        .differences
        .iter()
        .any(|difference| difference.kind == kind && difference.to_string().contains(words));
    assert!(
        !report.clean && found,
        "no {kind:?} with {words:?} in:\n{report}"
    );
}
