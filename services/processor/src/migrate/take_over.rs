//! A schema whose pipeline is gone for good, and the pipeline that goes on with it.

use std::{convert::Infallible, str::FromStr};

use anyhow::{Context, bail};
use tokio_postgres::Client;
use tracing::info;

use crate::sink::Owner;

/// Owners whose schemas a migration may make its pipeline's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predecessors(Vec<(String, Option<String>)>);

impl FromStr for Predecessors {
    type Err = Infallible;

    /// `namespace/name`, of the same cluster, or `namespace/name@cluster`, separated by commas.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let owners = text.split(',').map(str::trim);
        let owners = owners.filter(|owner| !owner.is_empty());
        Ok(Self(
            owners
                .map(|owner| match owner.split_once('@') {
                    Some((pipeline, cluster)) => (pipeline.to_owned(), Some(cluster.to_owned())),
                    None => (owner.to_owned(), None),
                })
                .collect(),
        ))
    }
}

impl Predecessors {
    /// Whether a schema of this owner is meant.
    pub fn name(&self, stored: &Owner, wanted: &Owner) -> bool {
        stored != wanted
            && self.0.iter().any(|(pipeline, cluster)| {
                let cluster = cluster.as_ref().unwrap_or(&wanted.cluster);
                *pipeline == stored.pipeline && *cluster == stored.cluster
            })
    }
}

/// Makes the schema another pipeline's. Two that write it would end each other's sessions for ever,
/// so none may be left that does.
///
/// # Errors
/// Processors of the old owner still live, somebody else has changed the owner meanwhile, or what
/// the server says.
pub async fn take_over(
    client: &Client,
    schema: &str,
    stored: &Owner,
    wanted: &Owner,
) -> anyhow::Result<()> {
    let living: Vec<String> = client
        .query(
            "select distinct owner from clickstream_checkpoints
             where session_key in (select * from clickstream_live_sessions()) and owner is not null
             order by owner limit 5",
            &[],
        )
        .await
        .context("looking for processors of the old owner")?
        .iter()
        .map(|row| row.get(0))
        .collect();
    if !living.is_empty() {
        bail!(
            "schema \"{schema}\" is not taken over from {}: its processors still write ({}); delete or suspend that pipeline first",
            stored.pipeline,
            living.join(", ")
        );
    }
    let changed = client
        .execute(
            "update clickstream_schema set owner = $1, cluster = $2
             where owner = $3 and coalesce(cluster, '') = $4",
            &[
                &wanted.pipeline,
                &wanted.cluster,
                &stored.pipeline,
                &stored.cluster,
            ],
        )
        .await
        .context("taking the schema over")?;
    if changed != 1 {
        bail!("schema \"{schema}\" has got another owner in this moment: try again");
    }
    info!(
        schema,
        from = stored.pipeline,
        from_cluster = stored.cluster,
        owner = wanted.pipeline,
        "schema taken over"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn owner(pipeline: &str, cluster: &str) -> Owner {
        Owner {
            pipeline: pipeline.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    #[test]
    fn only_the_named_owner_of_the_named_cluster_is_a_predecessor() {
        let named: Predecessors = "shop/web, old/web@c-2,".parse().unwrap();
        let wanted = owner("shop/new", "c-1");
        assert!(named.name(&owner("shop/web", "c-1"), &wanted));
        assert!(named.name(&owner("old/web", "c-2"), &wanted));
        for stranger in [("shop/web", "c-2"), ("old/web", "c-1"), ("a/b", "c-1")] {
            assert!(!named.name(&owner(stranger.0, stranger.1), &wanted));
        }
        let itself: Predecessors = "shop/new".parse().unwrap();
        assert!(!itself.name(&wanted, &wanted));
        let nobody: Predecessors = "".parse().unwrap();
        assert_eq!(nobody, Predecessors::default());
    }
}
