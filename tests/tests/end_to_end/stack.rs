//! One pipeline of one test: a topic, a database, a document, and the processes that work on it.

use std::{
    collections::BTreeMap,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clickstream_pipeline::event::EventTime;
use clickstream_producer::generator::{Generator, GeneratorOptions};
use clickstream_testbed::{
    Kafka, Postgres, PostgresVersion, Process, build_binary, server_dir, shared, unique_name,
};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use serde_json::Value;
use tokio_postgres::Client;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition that nobody signals is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

/// What differs from test to test.
pub struct StackOptions {
    /// Partitions of the topic.
    pub partitions: i32,
    /// Settings of the topic.
    pub topic: &'static [(&'static str, &'static str)],
    /// Version of the shared server.
    pub postgres: PostgresVersion,
    /// Where processors find PostgreSQL, if not at the server itself (a proxy).
    pub postgres_port: Option<u16>,
    /// Where processors find Kafka, if not at the shared broker.
    pub bootstrap_servers: Option<String>,
    /// Who looks after the topic, as the document says it.
    pub management: &'static str,
    /// Whether owner and writer of the tables are two roles, as production has it, or both the
    /// superuser.
    pub roles: bool,
    /// More lines of `spec`, indented by two.
    pub spec: String,
    /// More lines of the target, indented by four.
    pub target: String,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            partitions: 4,
            topic: &[],
            postgres: PostgresVersion::V18,
            postgres_port: None,
            bootstrap_servers: None,
            management: "External",
            roles: true,
            spec: String::new(),
            target: String::new(),
        }
    }
}

impl StackOptions {
    /// One role for everything: each command, `migrate` too, uses the connection that a test
    /// changes.
    pub fn one_role() -> Self {
        Self {
            roles: false,
            ..Self::default()
        }
    }
}

/// A server: one that all tests use, or the test's own, which it may break and which ends with it.
pub enum Server<T: 'static> {
    Shared(&'static T),
    Own(Arc<T>),
}

impl<T> Clone for Server<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Shared(server) => Self::Shared(server),
            Self::Own(server) => Self::Own(Arc::clone(server)),
        }
    }
}

impl<T> Deref for Server<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

impl<T> From<&'static T> for Server<T> {
    fn from(server: &'static T) -> Self {
        Self::Shared(server)
    }
}

impl<T> From<T> for Server<T> {
    fn from(server: T) -> Self {
        Self::Own(Arc::new(server))
    }
}

/// A migrated pipeline without processors.
pub struct Stack {
    pub kafka: Server<Kafka>,
    pub postgres: Server<Postgres>,
    pub topic: String,
    pub database: String,
    pub client: Client,
    /// The role that owns the tables.
    pub owner: String,
    pub document: PathBuf,
    processor: PathBuf,
    cluster: String,
}

impl Stack {
    /// Topic, database, document and schema on the shared servers.
    pub async fn new(options: StackOptions) -> anyhow::Result<Self> {
        let kafka = shared::kafka().await?;
        let postgres = shared::postgres(options.postgres).await?;
        Self::on(kafka, postgres, options).await
    }

    /// The same on servers of the test's own.
    pub async fn on(
        kafka: impl Into<Server<Kafka>>,
        postgres: impl Into<Server<Postgres>>,
        options: StackOptions,
    ) -> anyhow::Result<Self> {
        let (kafka, postgres) = (kafka.into(), postgres.into());
        let name = unique_name("clicks");
        kafka
            .create_topic(&name, options.partitions, options.topic)
            .await?;
        let database = name.replace('-', "_");
        Self::environment(kafka, postgres, name, database, "local", options).await
    }

    /// The same names on the same Kafka, for another database: what staging is to production.
    pub async fn twin(&self, cluster: &str, options: StackOptions) -> anyhow::Result<Self> {
        let (kafka, postgres) = (self.kafka.clone(), self.postgres.clone());
        let database = format!("{}_twin", self.database);
        Self::environment(
            kafka,
            postgres,
            self.topic.clone(),
            database,
            cluster,
            options,
        )
        .await
    }

    async fn environment(
        kafka: Server<Kafka>,
        postgres: Server<Postgres>,
        name: String,
        database: String,
        cluster: &str,
        options: StackOptions,
    ) -> anyhow::Result<Self> {
        postgres.create_database(&database).await?;
        let roles = if options.roles {
            Roles::create(&postgres, &database).await?
        } else {
            Roles::superuser()
        };
        let document = server_dir("document")?.join("pipeline.yaml");
        // a name of its own means a consumer group of its own
        let pipeline = name.replace('_', "-");
        let host = postgres.host();
        let text = format!(
            "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata:\n  name: {pipeline}\nspec:\n  \
             kafka:\n    bootstrapServers: {:?}\n  topics:\n  - name: {name}\n    management: {}\n  targets:\n  - name: main\n    \
             connection:\n      host: {host}\n      port: {}\n      database: {database}\n      user: {}\n      \
             sslMode: Disable\n{}    schema: clickstream\n{}{}",
            options
                .bootstrap_servers
                .unwrap_or_else(|| kafka.bootstrap_servers()),
            options.management,
            options.postgres_port.unwrap_or_else(|| postgres.port()),
            roles.writer,
            roles.migration(&postgres, &database),
            options.target,
            options.spec,
        );
        fs::write(&document, text)?;
        let processor =
            tokio::task::spawn_blocking(|| build_binary("clickstream-processor")).await??;
        let client = open(&postgres, &database).await?;
        let stack = Self {
            kafka,
            postgres,
            topic: name,
            database,
            client,
            owner: roles.owner,
            document,
            processor,
            cluster: cluster.to_owned(),
        };
        let (code, output) = stack.command(&["migrate"]).await?;
        ensure!(code == 0, "migrate failed: {output}");
        Ok(stack)
    }

    /// Opens the test's own session again, after the server was away.
    pub async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.client = open(&self.postgres, &self.database).await?;
        Ok(())
    }

    /// Runs a command of the processor on this pipeline; exit code and output of both streams.
    pub async fn command(&self, args: &[&str]) -> anyhow::Result<(i32, String)> {
        self.command_with(args, &[]).await
    }

    /// The same with more environment.
    pub async fn command_with(
        &self,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> anyhow::Result<(i32, String)> {
        let mut command = Command::new(&self.processor);
        command.envs(env.iter().copied());
        command.args(args).arg("--pipeline").arg(&self.document);
        command.env("CLICKSTREAM_CLUSTER", &self.cluster);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Asks a probe's address as a pod's container does; exit code and output.
    pub async fn probe(&self, url: &str) -> anyhow::Result<(i32, String)> {
        let mut command = Command::new(&self.processor);
        command.args(["probe", url]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code().unwrap_or(-1), text))
    }

    /// Starts a processor.
    pub fn start(&self, name: &str) -> anyhow::Result<Process> {
        self.start_with(name, &[])
    }

    /// Starts a processor with more environment.
    pub fn start_with(&self, name: &str, env: &[(&str, &str)]) -> anyhow::Result<Process> {
        self.start_from(&self.document, name, env)
    }

    /// Starts a processor that finds PostgreSQL at another port: that of a proxy.
    pub fn start_through(
        &self,
        port: u16,
        name: &str,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Process> {
        let document = self.document.with_extension(format!("{port}.yaml"));
        let own = format!("      port: {}\n", self.postgres.port());
        let text = fs::read_to_string(&self.document)?;
        fs::write(
            &document,
            text.replace(&own, &format!("      port: {port}\n")),
        )?;
        self.start_from(&document, name, env)
    }

    /// Starts a processor with another document.
    pub fn start_from(
        &self,
        document: &Path,
        name: &str,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Process> {
        let mut command = Command::new(&self.processor);
        command
            .args(["run", "--name", name, "--pipeline"])
            .arg(document)
            .env("CLICKSTREAM_CLUSTER", &self.cluster)
            .envs(env.iter().copied());
        Process::spawn(&command, name)
    }

    /// Sends `count` generated records as fast as possible; returns how many were acknowledged.
    pub async fn produce(&self, options: GeneratorOptions, count: usize) -> anyhow::Result<usize> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_micros();
        let base = EventTime::from_micros(i64::try_from(now)?);
        let records: Vec<_> = Generator::new(options, base)?
            .take(count)
            .map(|r| (r.key, r.payload))
            .collect();
        self.send(
            records
                .into_iter()
                .map(|(key, payload)| (key, Some(payload)))
                .collect(),
        )
        .await
    }

    /// Sends keyed records and waits until all are acknowledged.
    pub async fn send(&self, records: Vec<(String, Option<Vec<u8>>)>) -> anyhow::Result<usize> {
        let (servers, topic) = (self.kafka.bootstrap_servers(), self.topic.clone());
        tokio::task::spawn_blocking(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", servers)
                .set("enable.idempotence", "true")
                .set("compression.type", "lz4")
                .set("topic.metadata.refresh.interval.ms", "500")
                .create()?;
            let sent = records.len();
            for (key, payload) in &records {
                loop {
                    let mut record = BaseRecord::to(&topic).key(key);
                    if let Some(payload) = payload {
                        record = record.payload(payload);
                    }
                    match producer.send(record) {
                        Ok(()) => break,
                        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                            producer.poll(Duration::from_millis(10));
                        }
                        Err((error, _)) => return Err(error.into()),
                    }
                }
            }
            producer.flush(PATIENCE)?;
            Ok(sent)
        })
        .await?
    }

    /// Waits until every partition's checkpoint has reached the end of its log.
    pub async fn drained(&self) -> anyhow::Result<()> {
        self.drained_within(PATIENCE).await
    }

    /// The same with another patience.
    pub async fn drained_within(&self, patience: Duration) -> anyhow::Result<()> {
        let mut ends = BTreeMap::new();
        for partition in 0.. {
            match self.kafka.offsets(&self.topic, partition).await {
                Ok((_, end)) => ends.insert(partition, end),
                Err(_) if partition > 0 => break,
                Err(error) => return Err(error),
            };
        }
        let deadline = Instant::now() + patience;
        loop {
            let rows = self
                .client
                .query(
                    "select partition, next_offset from clickstream_checkpoints",
                    &[],
                )
                .await?;
            let next: BTreeMap<i32, i64> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            if ends
                .iter()
                .all(|(partition, end)| *end == 0 || next.get(partition) == Some(end))
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not drained in time: log ends {ends:?}, checkpoints {next:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Polls a query until its single boolean is true.
    pub async fn eventually(&self, what: &str, query: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.client.query_one(query, &[]).await?.get::<_, bool>(0) {
            ensure!(Instant::now() < deadline, "never happened: {what}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// One number.
    pub async fn count(&self, query: &str) -> anyhow::Result<i64> {
        Ok(self
            .client
            .query_one(&format!("select ({query})::bigint"), &[])
            .await?
            .get(0))
    }

    /// Audits; the report of a clean one.
    pub async fn audit(&self) -> anyhow::Result<Value> {
        let (code, output) = self.command(&["audit", "-o", "json"]).await?;
        ensure!(code == 0, "audit exits with {code}: {output}");
        let start = output.find('{').context("no report")?;
        let mut reports = serde_json::Deserializer::from_str(&output[start..]).into_iter::<Value>();
        reports
            .next()
            .context("no report")?
            .context("report is no JSON")
    }
}

/// The roles of a pipeline, with what companies set for roles: nothing of it may change what is
/// stored.
struct Roles {
    owner: String,
    writer: String,
}

impl Roles {
    fn superuser() -> Self {
        Self {
            owner: "postgres".to_owned(),
            writer: "postgres".to_owned(),
        }
    }

    /// Two roles with no right but what docs/operations.md names: the owner may create a schema,
    /// the writer gets what the migration grants.
    async fn create(postgres: &Postgres, database: &str) -> anyhow::Result<Self> {
        let suffix = unique_name("of");
        let roles = Self {
            owner: format!("owner_{suffix}"),
            writer: format!("writer_{suffix}"),
        };
        let client = postgres.connect("postgres").await?;
        for role in [&roles.owner, &roles.writer] {
            client
                .batch_execute(&format!(
                    "create role {role} login;
                     alter role {role} set default_transaction_isolation = 'serializable';
                     alter role {role} set statement_timeout = '30s';
                     alter role {role} set lock_timeout = '5s';
                     alter role {role} set datestyle = 'German, DMY';
                     alter role {role} set intervalstyle = 'postgres_verbose';
                     alter role {role} set timezone = 'Asia/Kathmandu';
                     alter role {role} set bytea_output = 'escape';
                     alter role {role} set extra_float_digits = -5;
                     alter role {role} set synchronous_commit = off"
                ))
                .await?;
        }
        client
            .batch_execute(&format!(
                "grant create on database {database} to {}",
                roles.owner
            ))
            .await?;
        Ok(roles)
    }

    /// Lines of the target: the owner's connection, where it is not the writer's.
    fn migration(&self, postgres: &Postgres, database: &str) -> String {
        if self.owner == self.writer {
            return String::new();
        }
        let (host, port) = (postgres.host(), postgres.port());
        // in one line: tests change lines of the writer's connection
        format!(
            "    migration: {{connection: {{host: {host:?}, port: {port}, database: {database}, user: {}, sslMode: Disable}}}}\n",
            self.owner
        )
    }
}

async fn open(postgres: &Postgres, database: &str) -> anyhow::Result<Client> {
    let client = postgres.connect(database).await?;
    client
        .batch_execute("set search_path = clickstream, pg_catalog")
        .await?;
    Ok(client)
}
