//! The end of a pipeline. Topics and tables stay unless the spec says otherwise; what Kubernetes
//! made, Kubernetes collects.

mod finalizer;
mod left_behind;
mod tables;
mod unreadable;

use clickstream_pipeline::spec::{DeletionPolicy, TopicManagement};
use clickstream_protocol::labels::{COMPONENT, MIGRATION_HASH};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use serde_json::json;
use tracing::info;

pub use self::unreadable::release;
use self::{
    finalizer::{FINALIZER, patch_finalizers, pause},
    left_behind::{Left, drop_command},
    tables::drop_tables,
};
use super::{
    applier::{Owner, refused::is_terminating},
    context::{Context, Error, Outcome, WAITING},
    dereference,
    examined::{Followed, examine, followed},
    gone::forget,
    record,
};
use crate::{crd::ClickstreamPipeline, kind::Kind, topics::from_elsewhere};

/// A process gives nothing up before it has tried so often itself: it may have been down for most
/// of a step's time.
const ATTEMPTS: u32 = 3;

/// Sets the finalizer where something is to be deleted with the pipeline, and takes it away where
/// not. Whether it did. A spec that is refused changes nothing of it while another one is followed.
///
/// # Errors
/// What the API server says.
pub async fn hold_finalizer(
    pipeline: &ClickstreamPipeline,
    is_accepted: bool,
    context: &Context,
) -> Result<bool, Error> {
    let followed = followed(pipeline, is_accepted, context);
    // neither set nor taken away by a spec that nobody follows
    if followed.is_unknown {
        return Ok(false);
    }
    let policy = &followed.pipeline.spec.deletion_policy;
    let wanted = policy.topics == DeletionPolicy::Delete || policy.tables == DeletionPolicy::Delete;
    if wanted != is_held(pipeline) {
        patch_finalizers(&pipeline.metadata, wanted, context).await?;
        return Ok(true);
    }
    Ok(false)
}

/// Whether something is to be deleted with the pipeline.
pub fn is_held(pipeline: &ClickstreamPipeline) -> bool {
    pipeline.finalizers().iter().any(|name| name == FINALIZER)
}

/// Stops the pods, waits for them, deletes what the spec says, and lets the pipeline go. Each step
/// has its own time, from its first attempt on: one that has not been tried is not given up, and a
/// Job that drops tables is waited for until it has ended. What is deleted, and where, is what the
/// spec says that was followed.
///
/// # Errors
/// What the API server says.
pub async fn cleanup(pipeline: &ClickstreamPipeline, context: &Context) -> Result<Outcome, Error> {
    let owner = Owner::of(pipeline);
    let done = Outcome {
        waiting: false,
        again: None,
    };
    if !is_held(pipeline) {
        forget(&owner.uid, context);
        return Ok(done);
    }
    let Followed {
        pipeline,
        is_unknown,
    } = followed(pipeline, examine(pipeline, context).is_ok(), context);
    let pipeline = pipeline.as_ref();
    // pods first: a processor that still writes would make the tables anew, or fail loudly for
    // nothing
    stop_pods(&owner, context).await?;
    let running = running(&owner, context);
    if !running.is_empty() {
        let since = record::note_attempt(pipeline, |steps| &mut steps.pods_since, context).await?;
        if !is_over(since, context) {
            return Ok(Outcome {
                waiting: true,
                again: Some(WAITING),
            });
        }
    }
    let attempts = context.memories.waited(&owner.uid, true);
    let policy = &pipeline.spec.deletion_policy;
    let mut left = Vec::new();
    if is_unknown {
        left.push(Left {
            what: format!("topics and tables of {}", owner.name),
            why: "the spec is refused, and the one that was accepted before is not known"
                .to_owned(),
            command: drop_command(None),
            is_going_on: false,
        });
    }
    let mut is_going_on = false;
    if policy.tables == DeletionPolicy::Delete {
        let since =
            record::note_attempt(pipeline, |steps| &mut steps.tables_since, context).await?;
        let patience = is_over(since, context) && attempts > ATTEMPTS;
        match drop_tables(pipeline, !patience, context).await {
            Ok(tables) => {
                let undone = !tables.is_empty();
                is_going_on |= undone && (!patience || tables.iter().any(|left| left.is_going_on));
                left.extend(tables);
            }
            // a namespace on its way out takes no Job, now or later
            Err(Error::Api(kube::Error::Api(status))) if status.is_forbidden() => {
                is_going_on |= !patience && !is_terminating(&status);
                left.push(refused(&owner, status.message));
            }
            Err(error) => return Err(error),
        }
    }
    if policy.topics == DeletionPolicy::Delete {
        let topics = if running.is_empty() {
            let since =
                record::note_attempt(pipeline, |steps| &mut steps.topics_since, context).await?;
            let topics = remove_topics(pipeline, None, context).await?;
            let patience = is_over(since, context) && attempts > ATTEMPTS;
            is_going_on |= !topics.is_empty() && !patience;
            topics
        } else {
            remove_topics(pipeline, Some(&running), context).await?
        };
        left.extend(topics);
    }
    if is_going_on {
        return Ok(Outcome {
            waiting: true,
            again: Some(pause(context)),
        });
    }
    if !left.is_empty() {
        let document = document(pipeline);
        left_behind::tell(&pipeline.object_ref(&()), &left, document, context).await?;
    }
    // what was noted in between has made a newer version
    let mut metadata = pipeline.metadata.clone();
    metadata.resource_version = Some(record::latest_version(pipeline, context));
    patch_finalizers(&metadata, false, context).await?;
    forget(&owner.uid, context);
    info!(
        namespace = owner.namespace,
        pipeline = owner.name,
        "pipeline deleted"
    );
    Ok(done)
}

fn is_over(since: Timestamp, context: &Context) -> bool {
    let tried = Timestamp::now().duration_since(since).as_secs();
    u64::try_from(tried).unwrap_or(0) > context.patience.as_secs()
}

async fn stop_pods(owner: &Owner, context: &Context) -> Result<(), Error> {
    let deployments = context
        .stores
        .children_of(Kind::Deployment, &owner.namespace, &owner.uid);
    for live in deployments {
        if !live.deleting {
            // what is refused is told with the pods that have not ended
            context
                .applier
                .delete(owner, Kind::Deployment, &live)
                .await?;
        }
    }
    Ok(())
}

/// The pods that run, but those that drop tables.
fn running(owner: &Owner, context: &Context) -> Vec<String> {
    let pods = context.stores.pods(&owner.namespace, &owner.name, &[]);
    pods.iter()
        .filter(|pod| {
            let status = pod.status.as_ref();
            let phase = status.and_then(|status| status.phase.as_deref());
            let labels = pod.labels();
            let drops = labels
                .get(COMPONENT)
                .is_some_and(|component| component == "migration")
                && !labels.contains_key(MIGRATION_HASH);
            !matches!(phase, Some("Succeeded" | "Failed")) && !drops
        })
        .map(|pod| pod.name_any())
        .collect()
}

/// The Job that drops tables may not be made.
fn refused(owner: &Owner, why: String) -> Left {
    Left {
        what: format!("the tables of {}", owner.name),
        why,
        command: drop_command(None),
        is_going_on: false,
    }
}

/// The resource as the commands read it. It refers to Secrets and holds none.
fn document(pipeline: &ClickstreamPipeline) -> Option<String> {
    serde_yaml::to_string(&json!({
        "apiVersion": ClickstreamPipeline::api_version(&()),
        "kind": ClickstreamPipeline::kind(&()),
        "metadata": { "name": pipeline.name_any(), "namespace": pipeline.namespace() },
        "spec": pipeline.spec,
    }))
    .ok()
}

/// Deletes the topics that the pipeline made; adopted and external ones always stay. None while
/// pods may still write them: those are `running`.
async fn remove_topics(
    pipeline: &ClickstreamPipeline,
    running: Option<&[String]>,
    context: &Context,
) -> Result<Vec<Left>, Error> {
    let is_external = |name: &str| {
        let mut topics = pipeline.spec.topics.iter();
        topics.any(|topic| topic.name == name && topic.management == TopicManagement::External)
    };
    let ours: Vec<_> = pipeline
        .status
        .iter()
        .flat_map(|status| &status.topics)
        .filter(|topic| topic.created == Some(true) && !is_external(&topic.name))
        .collect();
    let servers = &pipeline.spec.kafka.bootstrap_servers;
    let left = |topic: &str, why: String| Left {
        what: format!("topic {topic}"),
        why,
        command: format!("kafka-topics.sh --bootstrap-server {servers} --delete --topic {topic}"),
        is_going_on: false,
    };
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let namespace = pipeline.namespace().unwrap_or_default();
    let given_up = |why: &str| {
        let all = ours.iter().map(|topic| left(&topic.name, why.to_owned()));
        Ok(all.collect())
    };
    if let Some(running) = running {
        let running = running.join(", ");
        return given_up(&format!(
            "pods have not ended and may still use it: {running}"
        ));
    }
    // a broker that is not allowed is not dialled to delete topics either
    let problems = context.settings.allowed.problems(&pipeline.document());
    if let Some(problem) = problems.first() {
        return given_up(&problem.to_string());
    }
    let keys = pipeline.spec.kafka.admin_secret_keys();
    let secrets = match dereference::values(&context.client, &namespace, &keys).await {
        Ok(secrets) => secrets,
        Err(kube::Error::Api(status)) if status.is_forbidden() => return given_up(&status.message),
        Err(error) => return Err(error.into()),
    };
    let admin = match pipeline.spec.kafka.admin_properties(&secrets) {
        Ok(properties) => {
            let admin = context.admins.get(from_elsewhere(properties, &namespace));
            let admin = admin.await.map(|(_, admin)| admin);
            admin.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    let admin = match admin {
        Ok(admin) => admin,
        Err(why) => return given_up(&why),
    };
    let mut all = Vec::new();
    for topic in &ours {
        let deleted = match admin.describe(&topic.name).await {
            // a topic that somebody made anew under the name is not ours to delete
            Ok(Some(facts)) if facts.id != topic.id && topic.id.is_some() => Ok(()),
            Ok(Some(_)) => admin.delete(&topic.name).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            all.push(left(&topic.name, error.to_string()));
        }
    }
    Ok(all)
}
