//! The topics of a target: what the brokers say of them, and what the schema was filled from.

use std::collections::BTreeMap;

use clickstream_pipeline::offset::TopicId;
use tokio_postgres::{Client, Row, types::ToSql};
use tracing::error;

use super::{Obstacle, Owner, TargetError, Topics};

/// A Kafka topic as the broker describes it.
#[derive(Clone, Debug)]
pub struct KnownTopic {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Id, where the broker tells it.
    pub id: Option<String>,
}

/// What the brokers say of the topics of a pipeline.
#[derive(Clone, Debug)]
pub struct Described {
    /// Who was asked: `bootstrap.servers`.
    pub servers: String,
    /// Id of the cluster, where it tells one.
    pub cluster: Option<String>,
    /// The topics that are there.
    pub topics: Vec<KnownTopic>,
    /// The names of those that are not.
    pub missing: Vec<String>,
}

impl Described {
    /// All topics.
    ///
    /// # Errors
    /// [`TargetError::NoSuchTopic`] when one is not there.
    pub fn complete(self) -> Result<Vec<KnownTopic>, TargetError> {
        match self.missing.first() {
            Some(topic) => Err(self.lacks(topic)),
            None => Ok(self.topics),
        }
    }

    fn lacks(&self, topic: &str) -> TargetError {
        TargetError::NoSuchTopic {
            topic: topic.to_owned(),
            servers: self.servers.clone(),
        }
    }
}

/// The topics as the schema knows them.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    /// Their names by number.
    pub numbers: Topics,
    /// The id of each when it was read first: none where the brokers told none.
    pub ids: BTreeMap<String, Option<String>>,
}

impl Registered {
    fn enter(&mut self, topic: &str, row: &Row) {
        self.numbers.insert(TopicId(row.get(0)), topic.to_owned());
        self.ids.insert(topic.to_owned(), row.get(2));
    }
}

const UPDATE_TOPIC: &str = "
    update clickstream_topics
    set kafka_cluster = coalesce(kafka_cluster, $2), kafka_topic_id = coalesce(kafka_topic_id, $3),
        partitions = greatest(partitions, $4), created_by = coalesce(created_by, $5)
    where topic = $1
    returning topic_id, kafka_cluster, kafka_topic_id";

/// Of two processors that start at once, one meets the other's row.
const INSERT_TOPIC: &str = "
    insert into clickstream_topics as known (topic, kafka_cluster, kafka_topic_id, partitions, created_by)
    values ($1, $2, $3, $4, $5)
    on conflict (topic) do update
    set kafka_cluster = coalesce(known.kafka_cluster, excluded.kafka_cluster),
        kafka_topic_id = coalesce(known.kafka_topic_id, excluded.kafka_topic_id),
        partitions = greatest(known.partitions, excluded.partitions),
        created_by = coalesce(known.created_by, excluded.created_by)
    returning topic_id, kafka_cluster, kafka_topic_id";

const FIND_TOPIC: &str =
    "select topic_id, kafka_cluster, kafka_topic_id from clickstream_topics where topic = $1";

/// Finds what the topics that are not there were when they were read first: that they have gone
/// keeps their own partitions from being read, and nobody else's.
///
/// # Errors
/// [`TargetError::NoSuchTopic`] when one was never read, or all are missing; [`TargetError::Topic`]
/// when the cluster is another one; or the server failed.
pub async fn missing_topics(
    client: &Client,
    described: &Described,
) -> Result<Registered, TargetError> {
    let cluster = described.cluster.as_deref();
    let mut registered = Registered::default();
    for topic in &described.missing {
        let known = client.query_opt(FIND_TOPIC, &[topic]).await?;
        let Some(row) = known.filter(|_| !described.topics.is_empty()) else {
            return Err(described.lacks(topic));
        };
        same_cluster(topic, &row, cluster)?;
        error!(topic, "topic is not there any more; the others are read");
        registered.enter(topic, &row);
    }
    Ok(registered)
}

/// Enters the topics that are there in the dictionary, or finds what they were when they were read
/// first: one that is another topic now keeps its own partitions from being read.
///
/// `registered` are the others, `created` the names of topics that `owner` made.
///
/// # Errors
/// [`TargetError::Topic`] when the cluster is another one; or the server failed.
pub async fn register_topics(
    client: &Client,
    owner: &Owner,
    described: &Described,
    created: &[&str],
    mut registered: Registered,
) -> Result<Registered, TargetError> {
    let cluster = described.cluster.as_deref();
    for topic in &described.topics {
        let created_by = created
            .contains(&topic.name.as_str())
            .then_some(&owner.pipeline);
        let parameters: &[&(dyn ToSql + Sync)] = &[
            &topic.name,
            &cluster,
            &topic.id,
            &topic.partitions,
            &created_by,
        ];
        // known topics first: an insert uses a number up, also where it meets a conflict
        let row = match client.query_opt(UPDATE_TOPIC, parameters).await? {
            Some(row) => row,
            None => client.query_one(INSERT_TOPIC, parameters).await?,
        };
        same_cluster(&topic.name, &row, cluster)?;
        registered.enter(&topic.name, &row);
    }
    Ok(registered)
}

/// Refuses the brokers of another cluster than the one that a topic was read from.
fn same_cluster(topic: &str, row: &Row, found: Option<&str>) -> Result<(), TargetError> {
    let stored: Option<String> = row.get(1);
    match (stored, found) {
        (Some(stored), Some(found)) if stored != found => Err(TargetError::Topic {
            topic: topic.to_owned(),
            obstacle: Obstacle::OtherCluster {
                stored,
                found: found.to_owned(),
            },
        }),
        _ => Ok(()),
    }
}
