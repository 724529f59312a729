//! What kubelets and controllers would do in a cluster: a Job's pod ends, a Deployment's replicas
//! come up.

use std::fmt::Debug;

use k8s_openapi::{
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Ends a Job as its only pod would: with this exit code, and this termination message of its only
/// container. One that has ended already stays as it is.
///
/// # Errors
/// The API server refuses.
pub async fn end_job(
    client: &Client,
    job: &Job,
    exit_code: i32,
    message: &str,
) -> Result<(), kube::Error> {
    if has_ended(job) {
        return Ok(());
    }
    let name = job.name_any();
    create_pod(client, job).await?;
    let template = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let container = template.and_then(|pod| pod.containers.first());
    let pod_status = json!({
        "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
        "containerStatuses": [{
            "name": container.map(|container| &container.name),
            "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
            "state": { "terminated": { "exitCode": exit_code, "message": message } },
        }],
    });
    patch_status(&of::<Pod>(client, job), &name, pod_status).await?;

    let now = Timestamp::now().to_string();
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now, "lastProbeTime": now });
    let job_status = if exit_code == 0 {
        json!({ "startTime": now, "completionTime": now, "succeeded": 1, "conditions": [condition("SuccessCriteriaMet"), condition("Complete")] })
    } else {
        json!({ "startTime": now, "failed": 1, "conditions": [condition("FailureTarget"), condition("Failed")] })
    };
    patch_status(&of::<Job>(client, job), &name, job_status).await
}

/// Makes all replicas of a Deployment ready, unless the status already speaks of this generation.
///
/// # Errors
/// The API server refuses.
pub async fn bring_up(client: &Client, deployment: &Deployment) -> Result<(), kube::Error> {
    let generation = deployment.metadata.generation;
    let status = deployment.status.as_ref();
    if status.and_then(|status| status.observed_generation) == generation {
        return Ok(());
    }
    let spec = deployment.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let status = json!({
        "observedGeneration": generation,
        "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": wanted, "availableReplicas": wanted,
    });
    patch_status(
        &of::<Deployment>(client, deployment),
        &deployment.name_any(),
        status,
    )
    .await
}

fn has_ended(job: &Job) -> bool {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| !conditions.is_empty())
}

/// The Job's pod, under the Job's name, unless it is there.
async fn create_pod(client: &Client, job: &Job) -> Result<(), kube::Error> {
    let mut labels = job.labels().clone();
    labels.insert("batch.kubernetes.io/job-name".to_owned(), job.name_any());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": job.name_any(), "labels": labels },
        "spec": job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()),
    }))
    .map_err(kube::Error::SerdeError)?;
    match of::<Pod>(client, job)
        .create(&PostParams::default(), &pod)
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created.map(|_| ()),
    }
}

/// Objects of a kind in the namespace of this one.
fn of<K>(client: &Client, object: &impl ResourceExt) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

async fn patch_status<K>(api: &Api<K>, name: &str, status: Value) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .map(|_| ())
}
