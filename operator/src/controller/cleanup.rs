//! The end of a pipeline. Topics and tables stay unless the spec says otherwise; what Kubernetes made, Kubernetes collects.

use std::time::Duration;

use clickstream_pipeline::spec::{DeletionPolicy, TopicManagement};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::{info, warn};

use super::{
    Context, Error, Outcome, WAITING,
    apply::Owner,
    build::{Kind, PIPELINE_LABEL},
    dereference,
};
use crate::{crd::ClickstreamPipeline, events::Happening, topics::from_elsewhere};

/// Holds a pipeline until topics and tables are deleted.
const FINALIZER: &str = "clickstream.dev/cleanup";
/// A deletion is never held up for longer by a Kafka or a PostgreSQL that is gone.
const PATIENCE: SignedDuration = SignedDuration::from_secs(300);

/// Sets the finalizer where something is to be deleted with the pipeline, and takes it away where not. Whether it did.
///
/// # Errors
/// What the API server says.
pub async fn hold_finalizer(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<bool, Error> {
    let policy = &pipeline.spec.deletion_policy;
    let wanted = policy.topics == DeletionPolicy::Delete || policy.tables == DeletionPolicy::Delete;
    let held = pipeline.finalizers().iter().any(|name| name == FINALIZER);
    if wanted != held {
        set_finalizer(pipeline, wanted, context).await?;
    }
    Ok(wanted != held)
}

/// Whether something is to be deleted with the pipeline.
pub fn is_held(pipeline: &ClickstreamPipeline) -> bool {
    pipeline.finalizers().iter().any(|name| name == FINALIZER)
}

async fn set_finalizer(
    pipeline: &ClickstreamPipeline,
    held: bool,
    context: &Context,
) -> Result<(), Error> {
    let mut finalizers: Vec<_> = pipeline
        .finalizers()
        .iter()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    if held {
        finalizers.push(FINALIZER.to_owned());
    }
    let api: Api<ClickstreamPipeline> = Api::namespaced(
        context.client.clone(),
        &pipeline.namespace().unwrap_or_default(),
    );
    // the version guards the finalizers of others, which a merge would overwrite
    let body = json!({ "metadata": {
        "finalizers": finalizers,
        "resourceVersion": pipeline.resource_version(),
    } });
    match api
        .patch(
            &pipeline.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&body),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(Error::Outdated),
        Err(error) => Err(error.into()),
    }
}

/// Stops the pods, waits for them, deletes what the spec says, and lets the pipeline go.
///
/// # Errors
/// What the API server says.
pub async fn cleanup(pipeline: &ClickstreamPipeline, context: &Context) -> Result<Outcome, Error> {
    let owner = Owner::of(pipeline);
    let done = Outcome {
        waiting: false,
        again: None,
    };
    if !pipeline.finalizers().iter().any(|name| name == FINALIZER) {
        forget(&owner.uid, context);
        return Ok(done);
    }
    let since = pipeline
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or_else(Timestamp::now, |time| time.0);
    let out_of_patience = Timestamp::now().duration_since(since) > PATIENCE;

    // pods first: a processor that still writes would make the tables anew, or fail loudly for nothing
    for live in context
        .stores
        .children_of(Kind::Deployment, &owner.namespace, &owner.uid)
    {
        if !live.deleting {
            context
                .applier
                .delete(Kind::Deployment, &owner.namespace, &live)
                .await?;
        }
    }
    let pods = context
        .stores
        .pods(&owner.namespace, &[(PIPELINE_LABEL, &owner.name)]);
    let running = pods
        .iter()
        .filter(|pod| {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        })
        .count();
    if running > 0 && !out_of_patience {
        return Ok(Outcome {
            waiting: true,
            again: Some(WAITING),
        });
    }
    let mut out_of_patience = out_of_patience;
    let left = match remove(pipeline, context).await {
        Ok(left) => left,
        // a namespace on its way out takes no Job, now or later
        Err(Error::Api(kube::Error::Api(status))) if status.is_forbidden() => {
            out_of_patience |= is_terminating(&status);
            vec![status.message]
        }
        Err(error) => return Err(error),
    };
    if !left.is_empty() && !out_of_patience {
        return Ok(Outcome {
            waiting: true,
            again: Some(Duration::from_secs(10)),
        });
    }
    if !left.is_empty() {
        let note = format!(
            "gave up after {} s; left behind: {}",
            Timestamp::now().duration_since(since).as_secs(),
            left.join("; ")
        );
        warn!(
            namespace = owner.namespace,
            pipeline = owner.name,
            note,
            "cleanup is incomplete"
        );
        let happening = Happening {
            warning: true,
            reason: "CleanupIncomplete".into(),
            action: "Delete",
            note,
        };
        context.events.publish(pipeline, happening).await;
    }
    set_finalizer(pipeline, false, context).await?;
    forget(&owner.uid, context);
    info!(
        namespace = owner.namespace,
        pipeline = owner.name,
        "pipeline deleted"
    );
    Ok(done)
}

fn forget(uid: &str, context: &Context) {
    context.applier.forget(uid);
    context.memories.forget(uid);
    context.upgrades.done(uid);
}

/// Whether a request was refused because the namespace is being deleted.
fn is_terminating(status: &kube::core::Status) -> bool {
    status.details.iter().any(|details| {
        details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    })
}

/// Deletes what the spec says. What is left, with the reason.
async fn remove(pipeline: &ClickstreamPipeline, context: &Context) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    if pipeline.spec.deletion_policy.topics == DeletionPolicy::Delete {
        left.extend(remove_topics(pipeline, context).await?);
    }
    if pipeline.spec.deletion_policy.tables == DeletionPolicy::Delete {
        left.extend(super::apply::drop_tables(pipeline, context).await?);
    }
    Ok(left)
}

async fn remove_topics(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<Vec<String>, Error> {
    let is_external = |name: &str| {
        let mut topics = pipeline.spec.topics.iter();
        topics.any(|topic| topic.name == name && topic.management == TopicManagement::External)
    };
    let ours: Vec<_> = pipeline
        .status
        .iter()
        .flat_map(|status| &status.topics)
        // adopted and external topics always stay
        .filter(|topic| topic.created == Some(true) && !is_external(&topic.name))
        .collect();
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let namespace = pipeline.namespace().unwrap_or_default();
    let secrets = dereference::secrets(&context.client, &namespace, &pipeline.spec).await?;
    let admin = pipeline
        .spec
        .kafka
        .admin_properties(&secrets)
        .map_err(|error| error.to_string())
        .and_then(|properties| {
            context
                .admins
                .get(&from_elsewhere(properties, &namespace))
                .map_err(|error| error.to_string())
        });
    let admin = match admin {
        Ok(admin) => admin,
        Err(error) => {
            return Ok(ours
                .iter()
                .map(|topic| format!("topic {}: {error}", topic.name))
                .collect());
        }
    };
    let mut left = Vec::new();
    for topic in ours {
        let deleted = match admin.describe(&topic.name).await {
            // a topic that somebody made anew under the name is not ours to delete
            Ok(Some(facts)) if facts.id != topic.id && topic.id.is_some() => Ok(()),
            Ok(Some(_)) => admin.delete(&topic.name).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            left.push(format!("topic {}: {error}", topic.name));
        }
    }
    Ok(left)
}
