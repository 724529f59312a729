//! What the Deployment controller and a kubelet would do for a pipeline's processors.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use clickstream_testbed::loopback;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::stage::{LOOK, PATIENCE, Stage};

/// The Deployment of a pipeline's processors, once it is there.
pub async fn deployment(stage: &Stage, pipeline: &str) -> anyhow::Result<Deployment> {
    let begun = Instant::now();
    loop {
        let found = stage.all::<Deployment>().list(&Default::default()).await?;
        let processors = found.into_iter().find(|deployment| {
            let label = |key: &str| deployment.labels().get(key).map(String::as_str);
            label("clickstream.dev/pipeline") == Some(pipeline)
                && label("app.kubernetes.io/component") == Some("processor")
        });
        if let Some(processors) = processors {
            return Ok(processors);
        }
        ensure!(begun.elapsed() < PATIENCE, "{pipeline} has no processors");
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes the pod that the Deployment would make, once there is one, with this port of
/// [`loopback::of_pods`] as its admin port.
pub async fn run_behind_a_pod(
    stage: &Stage,
    pipeline: &str,
    name: &str,
    port: u16,
) -> anyhow::Result<()> {
    let deployment = deployment(stage, pipeline).await?;
    let mut pod: Value = json!(deployment.spec.context("no spec")?.template);
    pod["metadata"]["name"] = json!(name);
    for container in pod["spec"]["containers"]
        .as_array_mut()
        .context("no containers")?
    {
        for declared in container["ports"].as_array_mut().into_iter().flatten() {
            declared["containerPort"] = json!(port);
        }
    }
    let pods = stage.all::<Pod>();
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    let running = json!({ "status": {
        "phase": "Running",
        "podIP": loopback::of_pods(),
        "podIPs": [{ "ip": loopback::of_pods() }],
    } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&running))
        .await?;
    Ok(())
}
