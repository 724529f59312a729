//! The status as it is written: what a step has to note before it acts, and all of it at the end.

use clickstream_pipeline::spec::TopicManagement;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tracing::info;

use super::{
    applier::FIELD_MANAGER,
    context::{Context, Error},
};
use crate::crd::{
    CleanupStatus, ClickstreamPipeline, ClickstreamPipelineStatus, TopicStatus, UpgradeStatus,
};

/// The status as it was written last. What a reconcile has written itself counts: whatever it
/// writes later builds on that.
pub fn latest(pipeline: &ClickstreamPipeline, context: &Context) -> ClickstreamPipelineStatus {
    let uid = pipeline.uid().unwrap_or_default();
    let version = pipeline.resource_version().unwrap_or_default();
    context
        .memories
        .newer_status(&uid, &version)
        .map(|(_, status)| status)
        .or_else(|| pipeline.status.clone())
        .unwrap_or_default()
}

/// The topics that the pipeline has made, as the status tells it.
pub fn created(pipeline: &ClickstreamPipeline, context: &Context) -> Vec<String> {
    let topics = latest(pipeline, context).topics.into_iter();
    let created = topics.filter(|topic| topic.created == Some(true));
    created.map(|topic| topic.name).collect()
}

/// The version of the resource that goes with [`latest`].
pub fn latest_version(pipeline: &ClickstreamPipeline, context: &Context) -> String {
    let uid = pipeline.uid().unwrap_or_default();
    let version = pipeline.resource_version().unwrap_or_default();
    match context.memories.newer_status(&uid, &version) {
        Some((newer, _)) => newer,
        None => version,
    }
}

/// Notes, before anything is changed, that the pipeline rolls because of the operator.
///
/// # Errors
/// What the API server says.
pub async fn note_upgrade(
    pipeline: &ClickstreamPipeline,
    upgrade: &UpgradeStatus,
    context: &Context,
) -> Result<(), Error> {
    let mut status = latest(pipeline, context);
    if status.upgrade.as_ref() == Some(upgrade) {
        return Ok(());
    }
    status.held_by = context.settings.installation.clone();
    status.upgrade = Some(upgrade.clone());
    info!(
        namespace = pipeline.namespace().unwrap_or_default(),
        pipeline = pipeline.name_any(),
        release = upgrade.release,
        was_ready = upgrade.was_ready,
        "rolls to another release"
    );
    patch(pipeline, &status, context).await
}

/// When a step of the deletion was first tried; noted before it is, when that is now.
///
/// # Errors
/// What the API server says.
pub async fn note_attempt(
    pipeline: &ClickstreamPipeline,
    step: impl FnOnce(&mut CleanupStatus) -> &mut Option<Time>,
    context: &Context,
) -> Result<Timestamp, Error> {
    let mut status = latest(pipeline, context);
    let noted = step(status.cleanup.get_or_insert_default());
    if let Some(since) = noted {
        return Ok(since.0);
    }
    let now = Timestamp::now();
    // whole seconds, as the API keeps them
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    *noted = Some(Time(now));
    patch(pipeline, &status, context).await?;
    Ok(now)
}

/// Notes, before a topic is made, that it is ours.
///
/// # Errors
/// What the API server says.
pub async fn note_created(
    pipeline: &ClickstreamPipeline,
    topic: &str,
    context: &Context,
) -> Result<(), Error> {
    let mut status = latest(pipeline, context);
    // from here on the pipeline is this installation's
    status.held_by = context.settings.installation.clone();
    let noted = TopicStatus {
        name: topic.to_owned(),
        management: Some(TopicManagement::Managed),
        created: Some(true),
        ..TopicStatus::default()
    };
    match status.topics.iter_mut().find(|known| known.name == topic) {
        Some(known) if known.created == Some(true) => return Ok(()),
        Some(known) => *known = noted,
        None => status.topics.push(noted),
    }
    patch(pipeline, &status, context).await
}

/// The whole status, by server-side apply: what it no longer holds goes. Only onto the version that
/// it was decided from: another operator, or our own past, may know whose a topic is.
pub async fn patch(
    pipeline: &ClickstreamPipeline,
    status: &ClickstreamPipelineStatus,
    context: &Context,
) -> Result<(), Error> {
    let namespace = pipeline.namespace().unwrap_or_default();
    let api: Api<ClickstreamPipeline> = Api::namespaced(context.client.clone(), &namespace);
    let uid = pipeline.uid().unwrap_or_default();
    let version = latest_version(pipeline, context);
    let body = json!({
        "apiVersion": pipeline.api_version,
        "kind": pipeline.kind,
        // a resource that was deleted and made anew in the meantime is another one
        "metadata": { "name": pipeline.name_any(), "uid": uid, "resourceVersion": version },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api
        .patch_status(&pipeline.name_any(), &params, &Patch::Apply(&body))
        .await
    {
        Ok(patched) => {
            context.memories.keep_status(
                &uid,
                patched.resource_version().unwrap_or_default(),
                status.clone(),
            );
            Ok(())
        }
        // gone, or another one by now: nothing may be made for it
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            Err(Error::Outdated)
        }
        Err(error) => Err(error.into()),
    }
}
