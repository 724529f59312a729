//! Whose tables these are. With another pipeline's document, tables would be compared by rules and
//! with a log that they do not come from, and partitions that were never read into them would not
//! be missed.
//!
//! What is compared is what the schema remembers: pipeline, cluster, size of the windows, topics
//! and their ids. Lateness, delays and policies may change over time; the anchors know which were
//! in force when.

use anyhow::Context;
use clickstream_pipeline::spec::{ClickstreamPipeline, TargetSpec};
use thiserror::Error;
use tokio_postgres::Client;

use crate::sink::{KnownTopic, Obstacle, TargetError, check_windows};

/// What a document without a namespace has: then it does not say in which its pipeline lives.
const NO_NAMESPACE: &str = "default";

/// Why a document is not that of the tables.
#[derive(PartialEq, Eq, Debug, Error)]
pub enum Stranger {
    /// The schema is another pipeline's.
    #[error(
        "{field} is {wanted}, but schema \"{schema}\" belongs to pipeline {owner}: take the document of that pipeline, or set \
         targets[].connection and targets[].schema to where the tables of this one are; nothing was audited"
    )]
    Pipeline {
        /// Which field differs.
        field: &'static str,
        /// What the document says.
        wanted: String,
        /// Schema of the target.
        schema: String,
        /// Who owns it.
        owner: String,
    },
    /// The schema is that of a pipeline in another cluster.
    #[error(
        "--cluster is {wanted}, but schema \"{schema}\" belongs to pipeline {owner} of cluster {cluster}: give that one, or none; \
         nothing was audited"
    )]
    Cluster {
        /// What was given.
        wanted: String,
        /// Schema of the target.
        schema: String,
        /// Who owns it.
        owner: String,
        /// Where.
        cluster: String,
    },
    /// The schema was filled from none of the document's topics.
    #[error(
        "spec.topics has {wanted}, but schema \"{schema}\" was filled from {stored}: take the document that its processors were \
         given, or set targets[].connection and targets[].schema to where the tables of these topics are; nothing was audited"
    )]
    Topics {
        /// What the document says.
        wanted: String,
        /// Schema of the target.
        schema: String,
        /// What the schema was filled from.
        stored: String,
    },
}

/// Refuses a document of another pipeline than the one that owns the schema, or of other windows.
/// What else is worth a note.
///
/// # Errors
/// [`Stranger`], [`TargetError::OtherWindows`], or the schema cannot be read.
pub async fn check_owner(
    client: &Client,
    pipeline: &ClickstreamPipeline,
    target: &TargetSpec,
    cluster: Option<&str>,
) -> anyhow::Result<Vec<String>> {
    let schema = &target.schema;
    let row = client
        .query_one("select owner, cluster from clickstream_schema", &[])
        .await
        .with_context(|| format!("reading schema \"{schema}\": was it migrated?"))?;
    let stored = (row.try_get(0)?, row.try_get(1)?);
    same_pipeline(pipeline, schema, cluster, stored)?;
    check_windows(client, schema, &pipeline.semantic()).await?;
    let rows = client
        .query("select topic from clickstream_topics order by topic", &[])
        .await?;
    let stored: Vec<&str> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    Ok(same_topics(pipeline, schema, &stored)?)
}

/// Refuses topics that were deleted and made anew since the schema was filled from them.
///
/// # Errors
/// [`TargetError::Topic`], or the schema cannot be read.
pub async fn check_topics(client: &Client, topics: &[KnownTopic]) -> Result<(), TargetError> {
    let rows = client
        .query(
            "select topic, kafka_topic_id from clickstream_topics where kafka_topic_id is not null",
            &[],
        )
        .await?;
    for row in rows {
        let (name, stored): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let found = topics.iter().find(|topic| topic.name == name);
        if let Some(found) = found.and_then(|topic| topic.id.clone())
            && found != stored
        {
            return Err(TargetError::Topic {
                topic: name,
                obstacle: Obstacle::TopicReplaced { stored, found },
            });
        }
    }
    Ok(())
}

fn same_pipeline(
    pipeline: &ClickstreamPipeline,
    schema: &str,
    cluster: Option<&str>,
    stored: (Option<String>, Option<String>),
) -> Result<(), Stranger> {
    // no processor has started yet
    let (Some(owner), stored_cluster) = (stored.0, stored.1.unwrap_or_default()) else {
        return Ok(());
    };
    let metadata = &pipeline.metadata;
    let (namespace, name) = owner.split_once('/').unwrap_or(("", &owner));
    let differs = if metadata.name != name {
        Some(("metadata.name", &metadata.name))
    } else if metadata.namespace != namespace && metadata.namespace != NO_NAMESPACE {
        Some(("metadata.namespace", &metadata.namespace))
    } else {
        None
    };
    if let Some((field, wanted)) = differs {
        return Err(Stranger::Pipeline {
            field,
            wanted: wanted.clone(),
            schema: schema.to_owned(),
            owner,
        });
    }
    match cluster {
        Some(wanted) if wanted != stored_cluster => Err(Stranger::Cluster {
            wanted: wanted.to_owned(),
            schema: schema.to_owned(),
            owner,
            cluster: stored_cluster,
        }),
        _ => Ok(()),
    }
}

/// The topics of a pipeline may become more, and one may be retired; of none at all the tables are
/// another's. Says which topics the document does not have.
fn same_topics(
    pipeline: &ClickstreamPipeline,
    schema: &str,
    stored: &[&str],
) -> Result<Vec<String>, Stranger> {
    let wanted: Vec<&str> = pipeline
        .spec
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    let retired: Vec<&&str> = stored
        .iter()
        .filter(|topic| !wanted.contains(topic))
        .collect();
    if !stored.is_empty() && retired.len() == stored.len() {
        return Err(Stranger::Topics {
            wanted: wanted.join(", "),
            schema: schema.to_owned(),
            stored: stored.join(", "),
        });
    }
    let note = |topic: &&str| {
        format!("{topic} is not in spec.topics; what was read from it was audited all the same")
    };
    Ok(retired.into_iter().map(note).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn document(metadata: &str, topics: &str) -> ClickstreamPipeline {
        ClickstreamPipeline::from_yaml(&format!(
            "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{ {metadata} }}
spec:
  kafka: {{ bootstrapServers: kafka:9092 }}
  topics: {topics}
  targets:
  - connection: {{ host: postgres, database: app, user: auditor }}
"
        ))
        .unwrap()
    }

    fn owned_by(metadata: &str, cluster: Option<&str>) -> Result<(), Stranger> {
        let stored = (Some("shop/web".to_owned()), Some("c1".to_owned()));
        let document = document(metadata, "[{ name: clicks }]");
        same_pipeline(&document, "clickstream", cluster, stored)
    }

    #[test]
    fn a_copy_of_the_document_is_taken_with_or_without_namespace_and_cluster() {
        for metadata in ["name: web", "name: web, namespace: shop"] {
            for cluster in [None, Some("c1")] {
                assert_eq!(owned_by(metadata, cluster), Ok(()));
            }
        }
    }

    #[test]
    fn another_name_namespace_or_cluster_is_named_with_its_field() {
        let said = |metadata: &str, cluster| owned_by(metadata, cluster).unwrap_err().to_string();
        let name = said("name: shop", None);
        assert!(
            name.starts_with(
                "metadata.name is shop, but schema \"clickstream\" belongs to pipeline shop/web: "
            ),
            "{name}"
        );
        let namespace = said("name: web, namespace: news", None);
        assert!(
            namespace.starts_with("metadata.namespace is news, but"),
            "{namespace}"
        );
        let cluster = said("name: web", Some("c2"));
        assert!(
            cluster.starts_with("--cluster is c2, but") && cluster.contains("of cluster c1"),
            "{cluster}"
        );
    }

    #[test]
    fn topics_may_come_and_be_retired_and_none_in_common_is_another_pipeline() {
        let document = document("name: web", "[{ name: clicks }, { name: carts }]");
        let same = |stored: &[&str]| same_topics(&document, "clickstream", stored);
        assert_eq!(same(&[]), Ok(vec![]));
        assert_eq!(same(&["clicks"]), Ok(vec![]));
        assert_eq!(same(&["clicks", "old"]).unwrap().len(), 1);
        let said = same(&["old", "orders"]).unwrap_err().to_string();
        assert!(
            said.starts_with("spec.topics has clicks, carts, but schema \"clickstream\" was filled from old, orders: "),
            "{said}"
        );
    }
}
