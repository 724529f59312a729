//! What holds a resource until topics and tables are deleted.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    controller::context::{Context, Error},
    crd::ClickstreamPipeline,
};

/// Holds a pipeline until topics and tables are deleted.
pub const FINALIZER: &str = "clickstream.dev/cleanup";
/// Pause between two attempts of a step.
pub const PAUSE: Duration = Duration::from_secs(10);

/// Sets our finalizer, or takes it away. Of the resource nothing is read: it may be one that cannot
/// be.
pub async fn patch_finalizers(
    metadata: &ObjectMeta,
    held: bool,
    context: &Context,
) -> Result<(), Error> {
    let mut finalizers: Vec<_> = metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|name| *name != FINALIZER)
        .cloned()
        .collect();
    if held {
        finalizers.push(FINALIZER.to_owned());
    }
    let resource = ApiResource::erase::<ClickstreamPipeline>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(
        context.client.clone(),
        metadata.namespace.as_deref().unwrap_or_default(),
        &resource,
    );
    // the version guards the finalizers of others, which a merge would overwrite
    let body = json!({ "metadata": {
        "finalizers": finalizers,
        "resourceVersion": metadata.resource_version,
    } });
    let name = metadata.name.as_deref().unwrap_or_default();
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(&body))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(Error::Outdated),
        Err(error) => Err(error.into()),
    }
}

/// Pause between two attempts, of which there are several however short the patience.
pub fn pause(context: &Context) -> Duration {
    context.patience.clamp(Duration::from_secs(1), PAUSE)
}
