//! Namespaces in which pods may not choose their user, as OpenShift's are.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use clickstream_testbed::unique_name;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Pod, PodTemplateSpec},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::stage::{LOOK, Migrations, PATIENCE, Stage};

const POLICY: &str = include_str!("../../policies/restricted-v2.yaml");

fn document<K: DeserializeOwned>(kind: &str) -> anyhow::Result<K> {
    for document in serde_yaml::Deserializer::from_str(POLICY) {
        let document = Value::deserialize(document)?;
        if document["kind"] == kind {
            return Ok(serde_json::from_value(document)?);
        }
    }
    anyhow::bail!("no {kind}")
}

/// A pod of this template, which is not made: only whether it would be.
async fn admitted(stage: &Stage, template: &Value) -> Result<(), kube::Error> {
    let mut pod = template.clone();
    pod["metadata"]["name"] = json!(unique_name("pod").replace('_', "-"));
    let pod: Pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    stage.all::<Pod>().create(&dry, &pod).await.map(drop)
}

/// The stage's namespace, once the policy is in force there.
async fn restrict(stage: &Stage) -> anyhow::Result<()> {
    let force = PatchParams::apply("test").force();
    let policy: ValidatingAdmissionPolicy = document("ValidatingAdmissionPolicy")?;
    let binding: ValidatingAdmissionPolicyBinding = document("ValidatingAdmissionPolicyBinding")?;
    Api::<ValidatingAdmissionPolicy>::all(stage.client.clone())
        .patch(&policy.name_any(), &force, &Patch::Apply(&policy))
        .await?;
    Api::<ValidatingAdmissionPolicyBinding>::all(stage.client.clone())
        .patch(&binding.name_any(), &force, &Patch::Apply(&binding))
        .await?;
    let label = json!({ "metadata": { "labels": { "restricted-v2": "true" } } });
    Api::<Namespace>::all(stage.client.clone())
        .patch(
            &stage.namespace,
            &PatchParams::default(),
            &Patch::Merge(&label),
        )
        .await?;
    let chooses = json!({
        "metadata": {},
        "spec": {
            "securityContext": { "runAsUser": 65532 },
            "containers": [{ "name": "one", "image": "image:1" }],
        },
    });
    let begun = Instant::now();
    while admitted(stage, &chooses).await.is_ok() {
        ensure!(begun.elapsed() < PATIENCE, "the policy is not in force");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn template(template: Option<&PodTemplateSpec>) -> anyhow::Result<Value> {
    Ok(json!(template.context("no template")?))
}

#[tokio::test]
async fn pods_and_jobs_run_where_a_platform_chooses_the_user() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    restrict(&stage).await?;
    let operator = stage.operator()?;
    let changes = json!({
        "producer": { "enabled": true }, "deletionPolicy": { "tables": "Delete" },
    });
    let pipeline = stage.pipeline("shop", &unique_name("clicks"), changes);
    stage.apply(&pipeline).await?;
    // the stand-in for the Job controller makes the migration's pod, which the policy judges
    stage
        .condition("shop", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    for deployment in stage.children::<Deployment>("shop", 2).await? {
        let template = template(deployment.spec.as_ref().map(|spec| &spec.template))?;
        admitted(&stage, &template)
            .await
            .with_context(|| deployment.name_any())?;
    }
    for job in stage.children::<Job>("shop", 1).await? {
        let template = template(job.spec.as_ref().map(|spec| &spec.template))?;
        admitted(&stage, &template)
            .await
            .with_context(|| job.name_any())?;
    }
    // and the one that drops the tables
    stage.delete("shop").await?;
    Ok(())
}

/// The installation without Helm is what the chart renders.
#[tokio::test]
async fn the_operator_runs_where_a_platform_chooses_the_user() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    restrict(&stage).await?;
    let path =
        clickstream_tools::workspace_root().join("manifests/install/clickstream-operator.yaml");
    let text = std::fs::read_to_string(path)?;
    let mut judged = 0;
    for document in serde_yaml::Deserializer::from_str(&text) {
        let document = Value::deserialize(document)?;
        if document["kind"] == "Deployment" {
            admitted(&stage, &document["spec"]["template"]).await?;
            judged += 1;
        }
    }
    ensure!(judged == 1, "{judged} Deployments");
    Ok(())
}
