//! The end of a resource that cannot be read. What its spec wants deleted is not known; its
//! namespace must not hang on that.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject},
    core::error_boundary::InvalidObject,
};
use serde_json::Value;

use super::{
    finalizer::{FINALIZER, patch_finalizers, pause},
    left_behind::{self, Left},
};
use crate::{
    controller::{
        context::{Context, Error, Outcome},
        gone::forget,
    },
    crd::ClickstreamPipeline,
};

/// Lets a resource go that is on its way out and still cannot be read after a while, in which
/// somebody may bring the operator or the definition back to its version. `None`: it is not on its
/// way out, or does not wait for us.
///
/// # Errors
/// What the API server says.
pub async fn release(invalid: &InvalidObject, context: &Context) -> Result<Option<Outcome>, Error> {
    let metadata = &invalid.metadata;
    let held = metadata.finalizers.iter().flatten();
    let (Some(_), true, Some(name), Some(namespace), Some(uid)) = (
        &metadata.deletion_timestamp,
        held.into_iter().any(|name| name == FINALIZER),
        &metadata.name,
        &metadata.namespace,
        &metadata.uid,
    ) else {
        return Ok(None);
    };
    if context.memories.unreadable_for(uid) <= context.patience {
        return Ok(Some(Outcome {
            waiting: true,
            again: Some(pause(context)),
        }));
    }
    let resource = ApiResource::erase::<ClickstreamPipeline>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &resource);
    let Some(found) = api.get_opt(name).await? else {
        return Ok(None);
    };
    let of = ObjectReference {
        api_version: Some(ClickstreamPipeline::api_version(&()).into_owned()),
        kind: Some(ClickstreamPipeline::kind(&()).into_owned()),
        name: Some(name.clone()),
        namespace: Some(namespace.clone()),
        uid: Some(uid.clone()),
        ..ObjectReference::default()
    };
    let left = [Left {
        what: format!("whatever deletionPolicy says, {}", made(&found.data)),
        why: format!("the resource cannot be read: {}", invalid.error),
        command: "# kafka-topics.sh --delete, and clickstream-processor drop".to_owned(),
        is_going_on: false,
    }];
    left_behind::tell(&of, &left, None, context).await?;
    // as it is now: what was just said in its status has made another version
    patch_finalizers(&found.metadata, false, context).await?;
    forget(uid, context);
    Ok(Some(Outcome {
        waiting: false,
        again: None,
    }))
}

/// The topics that the status says were made for it, as far as that can be read.
fn made(object: &Value) -> String {
    let topics = object.pointer("/status/topics").and_then(Value::as_array);
    let names: Vec<_> = topics
        .into_iter()
        .flatten()
        .filter(|topic| topic["created"] == Value::Bool(true))
        .filter_map(|topic| topic["name"].as_str())
        .collect();
    if names.is_empty() {
        "tables".to_owned()
    } else {
        format!("tables and the topics {}", names.join(", "))
    }
}
