//! The Kafka log: its topic and where it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use crate::document::Document;

/// How long a broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A topic's log, seen from outside.
#[derive(Clone)]
pub struct Log {
    admin: Arc<AdminClient<DefaultClientContext>>,
    config: ClientConfig,
    topic: String,
}

impl Log {
    /// Connects to the brokers that the document names.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn open(document: &Document) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config.extend(document.kafka_properties()?);
        let admin = config.create::<AdminClient<_>>()?;
        Ok(Self {
            admin: Arc::new(admin),
            config,
            topic: document.topic().name.clone(),
        })
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// How clients of this log are set up.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Creates the topic with the broker's own time stamps, as the operator does; one that exists
    /// is left as it is. Returns whether it was created.
    ///
    /// # Errors
    /// The brokers refuse, or do not answer.
    pub async fn create(&self, document: &Document) -> anyhow::Result<bool> {
        let spec = document.topic();
        let partitions = i32::try_from(spec.initial_partitions())?;
        // -1: the broker's default
        let replicas = spec.replication_factor.map_or(-1, i32::from);
        let mut topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(replicas))
            .set("message.timestamp.type", "LogAppendTime");
        for (key, value) in &spec.config {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new()
            .operation_timeout(Some(TIMEOUT))
            .request_timeout(Some(TIMEOUT));
        let results = self.admin.create_topics([&topic], &options).await;
        let results = results.with_context(|| format!("cannot create topic {}", self.topic))?;
        for result in results {
            match result {
                Ok(_) => {}
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => return Ok(false),
                Err((_, code)) => anyhow::bail!("cannot create topic {}: {code}", self.topic),
            }
        }
        Ok(true)
    }

    /// Where each partition ends: the offset that its next record gets.
    ///
    /// # Errors
    /// The brokers do not answer, or the topic does not exist.
    pub async fn ends(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        let log = self.clone();
        tokio::task::spawn_blocking(move || {
            let client = log.admin.inner();
            let metadata = client.fetch_metadata(Some(&log.topic), TIMEOUT)?;
            let topic = metadata
                .topics()
                .first()
                .context("the brokers know no such topic")?;
            if let Some(error) = topic.error() {
                anyhow::bail!("topic {}: {}", log.topic, RDKafkaErrorCode::from(error));
            }
            topic
                .partitions()
                .iter()
                .map(|partition| {
                    let (_, end) = client.fetch_watermarks(&log.topic, partition.id(), TIMEOUT)?;
                    Ok((partition.id(), end))
                })
                .collect()
        })
        .await?
    }
}
