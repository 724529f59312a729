//! Opening a target: is the schema there, is it ours, and does it belong to this Kafka.

use clickstream_pipeline::spec::{ClickstreamPipeline, SemanticSpec, TargetSpec};
use thiserror::Error;
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

use super::{
    Obstacle,
    promoted::{Unfit, unfit},
};
use crate::{migrate, retry};

/// Stands for the cluster identity where there is no Kubernetes.
pub const LOCAL_CLUSTER: &str = "local";

/// Why a target cannot be written.
#[derive(Debug, Error)]
pub enum TargetError {
    /// No migration has run.
    #[error(
        "schema \"{schema}\" is not there yet: run `clickstream-processor migrate` with the same pipeline and target"
    )]
    NotMigrated {
        /// Schema of the target.
        schema: String,
    },
    /// The schema is there, and closed to the role.
    #[error(
        "the role may not use schema \"{schema}\": grant usage on schema \"{schema}\" to it (docs/operations.md has all that it needs)"
    )]
    NoUsage {
        /// Schema of the target.
        schema: String,
    },
    /// The schema is older than this binary needs.
    #[error(
        "schema \"{schema}\" is at version {found}, this binary needs {needed}: run `clickstream-processor migrate` of this version"
    )]
    TooOld {
        /// Schema of the target.
        schema: String,
        /// Its version.
        found: i32,
        /// What this binary was built with.
        needed: i32,
    },
    /// The schema is newer than this binary can write.
    #[error(
        "schema \"{schema}\" can only be written by binaries that know version {needed} (this one knows {known}): use a newer image"
    )]
    TooNew {
        /// Schema of the target.
        schema: String,
        /// What the schema asks for.
        needed: i32,
        /// What this binary was built with.
        known: i32,
    },
    /// The schema is another pipeline's.
    #[error(
        "SchemaOwnedElsewhere: schema \"{schema}\" belongs to pipeline {owner} of cluster {cluster}. Two pipelines never share a schema: \
         set another targets[].schema, or take it over when that pipeline is gone for good: kubectl clickstream take-over, or \
         update \"{schema}\".clickstream_schema set owner = '{wanted}', cluster = '{wanted_cluster}'"
    )]
    OwnedElsewhere {
        /// Schema of the target.
        schema: String,
        /// Who owns it.
        owner: String,
        /// Where.
        cluster: String,
        /// Who asks.
        wanted: String,
        /// From where.
        wanted_cluster: String,
    },
    /// The size of the windows cannot change under stored windows.
    #[error(
        "spec.window.size is {wanted_micros} µs, but schema \"{schema}\" holds windows of {stored_micros} µs: \
         put the old size back, or set another targets[].schema"
    )]
    OtherWindows {
        /// Schema of the target.
        schema: String,
        /// Size in the spec.
        wanted_micros: i64,
        /// Size in the schema.
        stored_micros: i64,
    },
    /// The tables cannot hold what the spec promotes.
    #[error("schema \"{schema}\": {unfit}")]
    Columns {
        /// Schema of the target.
        schema: String,
        /// The first column that does not fit.
        unfit: Unfit,
    },
    /// The brokers are not those that the schema was filled from.
    #[error("topic {topic}: {obstacle}")]
    Topic {
        /// Name.
        topic: String,
        /// What is wrong.
        obstacle: Obstacle,
    },
    /// A topic is neither in Kafka nor known to the schema.
    #[error(
        "topic {topic} does not exist on {servers}: create it (timestamps by LogAppendTime), or correct spec.topics"
    )]
    NoSuchTopic {
        /// Name.
        topic: String,
        /// The brokers.
        servers: String,
    },
    /// The server failed.
    #[error("{}", retry::explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
}

/// Identity of a pipeline in the schema's owner row. It names no uid of the resource: one that is
/// deleted and applied again, or restored in a new cluster under the old identity, goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `namespace/name`.
    pub pipeline: String,
    /// The cluster that the name is from.
    pub cluster: String,
}

impl Owner {
    /// A pipeline of a cluster.
    pub fn new(pipeline: &ClickstreamPipeline, cluster: &str) -> Self {
        Self {
            pipeline: format!("{}/{}", pipeline.metadata.namespace, pipeline.metadata.name),
            cluster: cluster.to_owned(),
        }
    }
}

impl Owner {
    /// The consumer group of a target. One name in two clusters would be one group, which shares a
    /// topic's partitions out among two databases; so the cluster is part of it, unless the schema
    /// says that the target's group is older (`plain`).
    pub fn consumer_group(&self, target: &str, plain: bool) -> String {
        let pipeline = self.pipeline.replace('/', ".");
        if plain {
            return format!("{pipeline}.{target}");
        }
        // of a random identity eight digits are enough to tell clusters apart
        let cluster = match Uuid::parse_str(&self.cluster) {
            Ok(_) => &self.cluster[..8],
            Err(_) => &self.cluster,
        };
        format!("{pipeline}.{target}.{cluster}")
    }
}

/// Whether the schema exists and the role may not look into it: then its tables seem not to be
/// there.
async fn is_closed(client: &Client, schema: &str) -> Result<bool, tokio_postgres::Error> {
    let asked = "select coalesce((
        select not has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1), false)";
    Ok(client.query_one(asked, &[&schema]).await?.get(0))
}

/// The consumer group of the target that the schema is of.
///
/// # Errors
/// The server failed.
pub async fn consumer_group(
    client: &Client,
    owner: &Owner,
    target: &str,
) -> Result<String, tokio_postgres::Error> {
    let row = client
        .query_one(
            "select plain_group_of is not distinct from $1 from clickstream_schema",
            &[&owner.cluster],
        )
        .await?;
    Ok(owner.consumer_group(target, row.get(0)))
}

/// Checks that this binary may write the schema for this pipeline.
///
/// # Errors
/// [`TargetError`], which says what to do.
pub async fn check(
    client: &Client,
    target: &TargetSpec,
    owner: &Owner,
    semantic: &SemanticSpec,
) -> Result<(), TargetError> {
    let schema = target.schema.clone();
    let version = match migrate::schema_version(client).await {
        Ok(Some(version)) => version,
        Ok(None) if is_closed(client, &schema).await? => {
            return Err(TargetError::NoUsage { schema });
        }
        Ok(None) => return Err(TargetError::NotMigrated { schema }),
        Err(error) => return Err(error.into()),
    };
    let known = migrate::known_version();
    if version < known {
        return Err(TargetError::TooOld {
            schema,
            found: version,
            needed: known,
        });
    }
    let row = client
        .query_one(
            "select writable_from, owner, cluster from clickstream_schema",
            &[],
        )
        .await?;
    let needed: i32 = row.get(0);
    if needed > known {
        return Err(TargetError::TooNew {
            schema,
            needed,
            known,
        });
    }
    check_owner(&schema, row.get(1), row.get(2), owner)?;
    check_windows(client, &schema, semantic).await?;
    let unfit = unfit(client, &semantic.events.columns).await?;
    match unfit.into_iter().next() {
        Some(unfit) => Err(TargetError::Columns { schema, unfit }),
        None => Ok(()),
    }
}

/// Makes the schema this pipeline's.
///
/// # Errors
/// The server failed.
pub async fn take(
    client: &Client,
    owner: &Owner,
    semantic: &SemanticSpec,
) -> Result<(), tokio_postgres::Error> {
    client
        .execute(
            "update clickstream_schema set owner = $1, cluster = $2, window_micros = $3
             where (owner, cluster, window_micros) is distinct from ($1, $2, $3)",
            &[&owner.pipeline, &owner.cluster, &semantic.window_micros],
        )
        .await?;
    Ok(())
}

/// Refuses windows of another size than those that the schema holds; one that holds none yet takes
/// any.
pub(crate) async fn check_windows(
    client: &Client,
    schema: &str,
    semantic: &SemanticSpec,
) -> Result<(), TargetError> {
    let row = client
        .query_one(
            "select window_micros, exists (select from clickstream_traffic_parts) from clickstream_schema",
            &[],
        )
        .await?;
    match (row.get::<_, Option<i64>>(0), row.get(1)) {
        (Some(stored_micros), true) if stored_micros != semantic.window_micros => {
            Err(TargetError::OtherWindows {
                schema: schema.to_owned(),
                wanted_micros: semantic.window_micros,
                stored_micros,
            })
        }
        _ => Ok(()),
    }
}

/// Refuses a schema that another pipeline owns.
pub(crate) fn check_owner(
    schema: &str,
    stored: Option<String>,
    cluster: Option<String>,
    wanted: &Owner,
) -> Result<(), TargetError> {
    let cluster = cluster.unwrap_or_default();
    match stored {
        Some(stored) if stored != wanted.pipeline || cluster != wanted.cluster => {
            Err(TargetError::OwnedElsewhere {
                schema: schema.to_owned(),
                owner: stored,
                cluster,
                wanted: wanted.pipeline.clone(),
                wanted_cluster: wanted.cluster.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Whether a failure of a first statement means that the tables are not there.
pub(crate) fn is_missing(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_knows_a_processor_that_wants_a_migration_by_its_words() {
        let schema = "clickstream".to_owned();
        let errors = [
            TargetError::NotMigrated {
                schema: schema.clone(),
            },
            TargetError::Columns {
                schema: schema.clone(),
                unfit: Unfit::Missing {
                    table: "clickstream_events",
                    name: "plan".to_owned(),
                },
            },
            TargetError::TooOld {
                schema,
                found: 1,
                needed: 2,
            },
        ];
        for error in errors {
            assert!(
                error
                    .to_string()
                    .contains(clickstream_protocol::exit::MIGRATE),
                "{error}"
            );
        }
    }

    #[test]
    fn one_name_in_two_clusters_is_two_consumer_groups() {
        let group = |cluster: &str| {
            let owner = Owner {
                pipeline: "analytics/web".to_owned(),
                cluster: cluster.to_owned(),
            };
            owner.consumer_group("warehouse", false)
        };
        assert_eq!(
            group("3f2a9c1b-7d4e-4a52-9c0e-0d6a5b1f2c3d"),
            "analytics.web.warehouse.3f2a9c1b"
        );
        assert_eq!(
            group("é-production"),
            "analytics.web.warehouse.é-production"
        );
        assert_eq!(group(LOCAL_CLUSTER), "analytics.web.warehouse.local");
    }
}
