//! Apache Kafka in KRaft mode: one broker or three, each a process of its own that is broker and
//! controller.

mod broker;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
pub use broker::Broker;
use clickstream_tools::kafka::Installation;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    metadata::Metadata,
    types::RDKafkaErrorCode,
};

use crate::{kafka::broker::Launch, loopback, ports::free_port, run_dir};

/// Longest time for a broker to answer on a busy machine (it takes 3-5 s on an idle one).
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// Longest time for an administrative request.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a condition of the cluster is asked for again.
const POLL: Duration = Duration::from_millis(50);

/// What a Kafka cluster shall be like.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Number of brokers, 1 or 3. With three, topics have three replicas and two must be in sync.
    pub brokers: u16,
    /// Where the logs are; they are kept and used again. `None`: a folder that goes away.
    pub data_dir: Option<PathBuf>,
    /// Port of the first broker; the others follow. `None`: free ones.
    pub port: Option<u16>,
    /// Listeners beside the plaintext one, as `SASL_SSL://localhost:PORT`; their settings go into
    /// `settings`. For one broker.
    pub listeners: Vec<String>,
    /// Largest heap of each broker, in MiB.
    pub heap_mb: u32,
    /// Rack of each broker (`broker.rack`), in their order.
    pub racks: &'static [&'static str],
    /// Broker settings that replace or complete the testbed's (`server.properties`).
    pub settings: Vec<(String, String)>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: 1,
            data_dir: None,
            port: None,
            listeners: Vec::new(),
            heap_mb: 384,
            racks: &[],
            settings: Vec::new(),
        }
    }
}

/// A running Kafka cluster. Brokers are killed on drop.
pub struct Kafka {
    brokers: Vec<Broker>,
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl Kafka {
    /// Starts the cluster and waits until every broker is part of it.
    ///
    /// # Errors
    /// When a broker ends or does not answer in time (with the end of its log), and when Kafka or
    /// Java cannot be had.
    pub async fn start(options: KafkaOptions) -> anyhow::Result<Self> {
        if !matches!(options.brokers, 1 | 3) {
            bail!(
                "a Kafka cluster of the testbed has 1 or 3 brokers, not {}",
                options.brokers
            );
        }
        let installation = tokio::task::spawn_blocking(Installation::find).await??;
        // a port can be taken between looking for it and binding it
        for _ in 0..3 {
            let (launches, ports) = launches(&options)?;
            let brokers: Vec<Broker> = launches
                .into_iter()
                .map(|launch| Broker::start(&installation, launch))
                .collect::<anyhow::Result<_>>()?;
            let admin: AdminClient<_> = ClientConfig::new()
                .set("bootstrap.servers", bootstrap(&ports))
                .create()?;
            let kafka = Self {
                brokers,
                admin: Arc::new(admin),
            };
            match kafka.wait_ready().await {
                Ok(()) => return Ok(kafka),
                Err(error)
                    if options.port.is_none()
                        && kafka.brokers.iter().any(Broker::lost_its_port) =>
                {
                    tracing::warn!(%error, "kafka lost a port to another process, starting again");
                }
                Err(error) => return Err(error),
            }
        }
        bail!("Kafka found its ports taken three times in a row")
    }

    /// `host:port` of every broker, separated by commas.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        bootstrap(&self.brokers.iter().map(Broker::port).collect::<Vec<_>>())
    }

    /// The broker with this index, counted from 0.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn broker(&self, index: usize) -> &Broker {
        &self.brokers[index]
    }

    /// Waits until every broker is up and part of the cluster.
    ///
    /// # Errors
    /// When a broker has ended, or after 90 s.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        for broker in &self.brokers {
            broker.wait_listening(deadline).await?;
        }
        let expected = self.brokers.len();
        self.wait_until(
            "every broker to join the cluster",
            deadline,
            None,
            |metadata| metadata.brokers().len() == expected,
        )
        .await
        .with_context(|| {
            self.brokers
                .iter()
                .map(Broker::log_tail)
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    /// Creates a topic on as many replicas as there are brokers and waits until each partition has
    /// a leader. Timestamps are the broker's (`message.timestamp.type=LogAppendTime`) unless
    /// `config` says otherwise.
    ///
    /// # Errors
    /// When Kafka refuses, for example because the topic exists.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let replicas = i32::try_from(self.brokers.len())?;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        if !config
            .iter()
            .any(|(key, _)| *key == "message.timestamp.type")
        {
            topic = topic.set("message.timestamp.type", "LogAppendTime");
        }
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        one(self.admin.create_topics([&topic], &admin_options()).await?)
            .with_context(|| format!("cannot create topic {name}"))?;
        self.wait_partitions(name, partitions).await
    }

    /// Raises the number of partitions to `total` and waits until each has a leader.
    ///
    /// # Errors
    /// When Kafka refuses; it cannot lower the number.
    pub async fn create_partitions(&self, name: &str, total: i32) -> anyhow::Result<()> {
        let partitions = NewPartitions::new(name, usize::try_from(total)?);
        one(self
            .admin
            .create_partitions([&partitions], &admin_options())
            .await?)
        .with_context(|| format!("cannot raise topic {name} to {total} partitions"))?;
        self.wait_partitions(name, total).await
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    /// When Kafka refuses, for example because there is no such topic.
    pub async fn delete_topic(&self, name: &str) -> anyhow::Result<()> {
        one(self.admin.delete_topics(&[name], &admin_options()).await?)
            .with_context(|| format!("cannot delete topic {name}"))?;
        let deadline = Instant::now() + ADMIN_TIMEOUT;
        self.wait_until("the topic to be gone", deadline, Some(name), |metadata| {
            metadata
                .topics()
                .iter()
                .all(|topic| topic.error().is_some())
        })
        .await
    }

    /// Deletes the records of a partition before offset `before`, as retention does.
    ///
    /// # Errors
    /// When Kafka refuses, for example because `before` is past the end.
    pub async fn delete_records(
        &self,
        name: &str,
        partition: i32,
        before: i64,
    ) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(before))?;
        let result = self.admin.delete_records(&list, &admin_options()).await?;
        for element in result.elements() {
            element.error().with_context(|| {
                format!("cannot delete records of {name} [{partition}] before {before}")
            })?;
        }
        Ok(())
    }

    /// Sets configuration keys of a topic; keys that are not given go back to the broker's
    /// defaults.
    ///
    /// # Errors
    /// When Kafka refuses a key or a value.
    pub async fn alter_topic(&self, name: &str, config: &[(&str, &str)]) -> anyhow::Result<()> {
        let entries: HashMap<&str, &str> = config.iter().copied().collect();
        let change = AlterConfig {
            specifier: ResourceSpecifier::Topic(name),
            entries,
        };
        let results = self
            .admin
            .alter_configs([&change], &admin_options())
            .await?;
        for result in results {
            result.map_err(|(_, code)| anyhow::anyhow!("cannot configure topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// The first offset that a partition still has and the one that its next record will get.
    ///
    /// # Errors
    /// When the partition has no leader or does not exist.
    pub async fn offsets(&self, name: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
        let (admin, name) = (Arc::clone(&self.admin), name.to_owned());
        tokio::task::spawn_blocking(move || {
            Ok(admin
                .inner()
                .fetch_watermarks(&name, partition, ADMIN_TIMEOUT)?)
        })
        .await?
    }

    /// Creates a user who proves a password by SCRAM-SHA-512. Takes seconds: it is a Java program.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn add_scram_user(&self, name: &str, password: &str) -> anyhow::Result<()> {
        let mut tool = self.broker(0).tool("kafka.admin.ConfigCommand");
        tool.args(["--bootstrap-server", &self.bootstrap_servers()])
            .args(["--alter", "--entity-type", "users", "--entity-name", name])
            .args([
                "--add-config",
                &format!("SCRAM-SHA-512=[password={password}]"),
            ]);
        let output = tokio::task::spawn_blocking(move || tool.output()).await??;
        if !output.status.success() {
            bail!(
                "cannot create user {name}: {}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        Ok(())
    }

    /// SIGTERM to every broker: an orderly end that moves leadership and closes the logs. Brokers
    /// are killed after 30 s.
    ///
    /// # Errors
    /// When a broker cannot be ended.
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        for broker in &self.brokers {
            broker.terminate();
        }
        for broker in &self.brokers {
            broker.wait_ended(ADMIN_TIMEOUT).await?;
        }
        Ok(())
    }

    async fn wait_partitions(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let expected = usize::try_from(partitions)?;
        let deadline = Instant::now() + ADMIN_TIMEOUT;
        self.wait_until(
            "the topic's partitions to have leaders",
            deadline,
            Some(name),
            |metadata| {
                metadata.topics().iter().all(|topic| {
                    topic.partitions().len() == expected
                        && topic
                            .partitions()
                            .iter()
                            .all(|partition| partition.leader() >= 0)
                })
            },
        )
        .await
    }

    /// Asks for metadata until `done` says so.
    async fn wait_until(
        &self,
        what: &str,
        deadline: Instant,
        topic: Option<&str>,
        done: impl Fn(&Metadata) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let (admin, topic) = (Arc::clone(&self.admin), topic.map(str::to_owned));
            let asked = tokio::task::spawn_blocking(move || {
                admin
                    .inner()
                    .fetch_metadata(topic.as_deref(), Duration::from_secs(5))
            })
            .await?;
            match asked {
                Ok(metadata) if done(&metadata) => return Ok(()),
                Ok(_) if Instant::now() >= deadline => bail!("waited too long for {what}"),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| format!("waited too long for {what}"));
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// The settings of each broker: same cluster, own id, ports and folder.
fn launches(options: &KafkaOptions) -> anyhow::Result<(Vec<Launch>, Vec<u16>)> {
    let ports: Vec<u16> = (0..options.brokers)
        .map(|index| {
            options
                .port
                .map_or_else(free_port, |first| Ok(first + index))
        })
        .collect::<anyhow::Result<_>>()?;
    let controllers: Vec<u16> = (0..options.brokers)
        .map(|_| free_port())
        .collect::<anyhow::Result<_>>()?;
    let voters: Vec<String> = controllers
        .iter()
        .enumerate()
        .map(|(index, port)| format!("{}@{}", index + 1, loopback::at(*port)))
        .collect();
    let cluster_id = kafka_uuid();
    let launches = ports
        .iter()
        .zip(&controllers)
        .enumerate()
        .map(|(index, (port, controller_port))| {
            let id = index + 1;
            let dir = match &options.data_dir {
                Some(dir) => dir.join(format!("kafka-{id}")),
                None => run_dir::server_dir(&format!("kafka-{id}"))?,
            };
            Ok(Launch {
                id,
                dir,
                keep_data: options.data_dir.is_some(),
                port: *port,
                controller_port: *controller_port,
                voters: voters.join(","),
                cluster_id: cluster_id.clone(),
                cluster_size: ports.len(),
                listeners: options.listeners.clone(),
                heap_mb: options.heap_mb,
                rack: options.racks.get(index).copied(),
                settings: options.settings.clone(),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    Ok((launches, ports))
}

/// An id as Kafka writes them: 16 bytes in base64url, 22 characters of which the last holds 2 bits
/// only (hexadecimal digits are base64url too).
fn kafka_uuid() -> String {
    format!("{}A", &uuid::Uuid::new_v4().simple().to_string()[..21])
}

fn bootstrap(ports: &[u16]) -> String {
    ports
        .iter()
        .map(|port| loopback::at(*port).to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn admin_options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(ADMIN_TIMEOUT))
        .request_timeout(Some(ADMIN_TIMEOUT))
}

fn one(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> anyhow::Result<()> {
    for result in results {
        result.map_err(|(_, code)| code)?;
    }
    Ok(())
}
