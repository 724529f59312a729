//! A pipeline that fills a database with made-up traffic: duplicates, late and refused records
//! among it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clickstream_testbed::{Process, build_binary, server_dir, shared, unique_name};
use tokio_postgres::Client;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// The role that reads everything, as the quickstart names it.
pub const READER: &str = "dashboard";

/// The role that reads views.
pub const ONLOOKER: &str = "onlooker";

/// Programs, and a topic on the shared broker.
pub struct Pipeline {
    dir: PathBuf,
    kafka: String,
    topic: String,
    processor: PathBuf,
    producer: PathBuf,
}

impl Pipeline {
    /// Builds the programs and makes the topic.
    pub async fn new() -> anyhow::Result<Self> {
        let kafka = shared::kafka().await?;
        let topic = unique_name("documentation");
        kafka.create_topic(&topic, 4, &[]).await?;
        let build = |name: &'static str| tokio::task::spawn_blocking(move || build_binary(name));
        Ok(Self {
            dir: server_dir("pipeline")?,
            kafka: kafka.bootstrap_servers(),
            topic,
            processor: build("clickstream-processor").await??,
            producer: build("clickstream-producer").await??,
        })
    }

    /// The document for a database on this port.
    pub fn document(&self, database: &str, port: u16) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(format!("{database}.yaml"));
        let (servers, topic) = (&self.kafka, &self.topic);
        // a name of its own means a consumer group of its own
        let name = topic.replace('_', "-");
        fs::write(
            &path,
            format!(
                "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata:\n  name: {name}\nspec:\n  \
                 kafka:\n    bootstrapServers: {servers}\n  topics:\n  - name: {topic}\n    management: External\n  \
                 watermark:\n    idleTimeout: 1s\n  events:\n    properties: Store\n    columns:\n    \
                 - {{ name: plan, pointer: /account/plan, type: Text }}\n    - {{ name: price, pointer: /price, type: Number }}\n  targets:\n  - name: main\n    connection:\n      host: 127.0.0.1\n      \
                 port: {port}\n      database: {database}\n      user: postgres\n      sslMode: Disable\n    readers: [{ONLOOKER}]\n    rawReaders: [{READER}]\n",
            ),
        )?;
        Ok(path)
    }

    /// Brings the tables to this version.
    pub async fn migrate(&self, document: &Path) -> anyhow::Result<()> {
        done(&self.processor, &["migrate"], document).await
    }

    /// Sends records, one for a second of event time, the last one dated now.
    pub async fn produce(&self, document: &Path, records: i64) -> anyhow::Result<()> {
        let count = format!("--count={records}");
        let args = [
            "generate",
            "--as-fast-as-possible",
            "--rate=1",
            "--late=0.01",
            &count,
        ];
        done(&self.producer, &args, document).await
    }

    /// Starts a processor; while it lives it reports finality too.
    pub fn start(&self, document: &Path) -> anyhow::Result<Process> {
        Process::spawn(&command(&self.processor, &["run"], document), "processor")
    }

    /// Proves the tables against the log.
    pub async fn audit(&self, document: &Path) -> anyhow::Result<()> {
        done(&self.processor, &["audit"], document).await
    }
}

/// Waits until this many records are accounted for, and some windows are final.
pub async fn stored(client: &Client, records: i64, processor: &Process) -> anyhow::Result<()> {
    let query = format!(
        "select coalesce(sum(consumed + skipped), 0) = {records}
            and (select final_until is not null from clickstream.clickstream_finality)
         from clickstream.clickstream_checkpoints"
    );
    until(client, &query, processor).await
}

/// Waits until windows of the last hour are final: of a log of a day they are the last.
pub async fn last_hour_final(client: &Client, processor: &Process) -> anyhow::Result<()> {
    let query = "select exists (select from clickstream.clickstream_agg_minute
         where final and window_start >= now() - interval '30 minutes')";
    until(client, query, processor).await
}

async fn until(client: &Client, query: &str, processor: &Process) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !client.query_one(query, &[]).await?.get::<_, bool>(0) {
        ensure!(
            begun.elapsed() < PATIENCE,
            "not in time: {query}: {}",
            processor.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn command(program: &Path, args: &[&str], document: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg("--pipeline").arg(document);
    command
}

async fn done(program: &Path, args: &[&str], document: &Path) -> anyhow::Result<()> {
    let process = Process::spawn(&command(program, args, document), args[0])?;
    let status = process.wait(PATIENCE).await?;
    ensure!(
        status.success(),
        "{args:?}: {status}: {}",
        process.log_tail()
    );
    Ok(())
}
