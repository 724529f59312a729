//! `podTemplate` on a real API server: whole on what is made of it, refused where it would take
//! over what is the operator's, and of no consequence for pipelines that were stored before there
//! was one.

use std::process::Command;

use anyhow::{Context as _, ensure};
use clickstream_operator::crd::crd;
use clickstream_testbed::{KubeApi, unique_name};
use clickstream_tools::workspace_root;
use k8s_openapi::{
    api::{
        apps::v1::Deployment, batch::v1::Job, core::v1::ServiceAccount, node::v1::RuntimeClass,
        scheduling::v1::PriorityClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::stage::{Migrations, Stage, condition, install};

/// The last revision without `podTemplate`.
const BEFORE: &str = "da040a1";
const FULL: &str = include_str!("../../../services/pipeline/src/spec/tests/full.yaml");

/// Everything that a template may say.
fn template() -> anyhow::Result<Value> {
    let document: Value = serde_yaml::from_str(FULL)?;
    Ok(document["spec"]["podTemplate"].clone())
}

/// The pipeline as the API server has it, whatever our types know.
async fn stored(stage: &Stage, name: &str) -> anyhow::Result<DynamicObject> {
    let kind = GroupVersionKind::gvk("clickstream.dev", "v1alpha1", "ClickstreamPipeline");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clickstreampipelines");
    let api: Api<DynamicObject> =
        Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
    Ok(api.get(name).await?)
}

/// Classes that pods name: an API server takes no pod of one that is not there.
async fn provide(stage: &Stage, priority: &str, runtime: &str) -> anyhow::Result<()> {
    let params = PatchParams::apply("test").force();
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": priority }, "value": 1,
    });
    let classes: Api<PriorityClass> = Api::all(stage.client.clone());
    classes
        .patch(priority, &params, &Patch::Apply(&class))
        .await?;
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": { "name": runtime }, "handler": "runc",
    });
    let classes: Api<RuntimeClass> = Api::all(stage.client.clone());
    classes
        .patch(runtime, &params, &Patch::Apply(&class))
        .await?;
    Ok(())
}

/// Where something that was said is not to be found as it was said. The server adds its defaults.
fn lost(said: &Value, found: &Value, path: &str) -> Vec<String> {
    match (said, found) {
        (Value::Object(said), Value::Object(found)) => said
            .iter()
            .flat_map(|(key, value)| {
                let there = found.get(key).unwrap_or(&Value::Null);
                lost(value, there, &format!("{path}.{key}"))
            })
            .collect(),
        // elements stand among the operator's
        (Value::Array(said), Value::Array(found)) => said
            .iter()
            .filter(|value| !found.iter().any(|there| lost(value, there, "").is_empty()))
            .map(|value| format!("{path}: {value}"))
            .collect(),
        _ if said == found => Vec::new(),
        _ => vec![format!("{path}: {said} is {found}")],
    }
}

/// What a pod of this template has, in a template's terms.
fn in_a_pod(pod: &Value) -> Value {
    let spec = &pod["spec"];
    let container = &spec["containers"][0];
    let mut all = spec.clone();
    for part in ["labels", "annotations"] {
        all[part] = pod["metadata"][part].clone();
    }
    for part in ["env", "envFrom", "volumeMounts"] {
        all[part] = container[part].clone();
    }
    all["containerSecurityContext"] = container["securityContext"].clone();
    all
}

#[tokio::test]
async fn deployments_jobs_and_accounts_have_all_that_a_template_says() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let said = template()?;
    provide(&stage, "common", "gvisor").await?;
    let changes = json!({ "podTemplate": said, "producer": { "enabled": true } });
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), changes))
        .await?;
    stage
        .condition("shop", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let kept = stored(&stage, "shop").await?;
    ensure!(kept.data["spec"]["podTemplate"] == said, "{:#}", kept.data);

    let deployments = stage.children::<Deployment>("shop", 2).await?;
    let jobs = stage.children::<Job>("shop", 1).await?;
    let accounts = stage.children::<ServiceAccount>("shop", 3).await?;
    let pods = deployments
        .iter()
        .map(|deployment| json!(deployment.spec.as_ref().map(|spec| &spec.template)))
        .chain(
            jobs.iter()
                .map(|job| json!(job.spec.as_ref().map(|spec| &spec.template))),
        );
    let mut in_pods = said.clone();
    let annotations = in_pods
        .as_object_mut()
        .and_then(|said| said.remove("serviceAccountAnnotations"))
        .context("no annotations of accounts")?;
    for pod in pods {
        let lost = lost(&in_pods, &in_a_pod(&pod), "");
        ensure!(lost.is_empty(), "{}\n{pod:#}", lost.join("\n"));
        let account = pod["spec"]["serviceAccountName"].as_str();
        let account = accounts
            .iter()
            .find(|made| Some(made.name_any().as_str()) == account)
            .context("the account is not there")?;
        ensure!(json!(account.annotations()) == annotations, "{account:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_the_operators_and_what_would_loosen_pods_is_refused() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let mounted = |path: &str| {
        json!({
            "volumes": [{ "name": "v", "emptyDir": {} }],
            "volumeMounts": [{ "name": "v", "mountPath": path }],
        })
    };
    let refused = [
        (
            json!({ "labels": { "clickstream.dev/target": "x" } }),
            "choose another key",
        ),
        (
            json!({ "env": [{ "name": "CLICKSTREAM_TARGET", "value": "x" }] }),
            "CLICKSTREAM_",
        ),
        (
            json!({ "envFrom": [{ "prefix": "CLICKSTREAM_", "secretRef": { "name": "a" } }] }),
            "CLICKSTREAM_",
        ),
        (
            json!({ "envFrom": [{ "secretRef": { "name": "a" } }] }),
            "envFrom[0].prefix",
        ),
        (
            json!({ "securityContext": { "seLinuxOptions": { "type": "spc_t" } } }),
            "seLinuxOptions.type",
        ),
        (
            json!({ "env": [{ "name": "A", "value": "x", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }] }),
            "either value or valueFrom",
        ),
        (
            json!({ "volumes": [{ "name": "secret-0", "emptyDir": {} }] }),
            "choose another one",
        ),
        (
            json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }),
            "hostPath",
        ),
        (
            json!({ "volumes": [{ "name": "v" }] }),
            "exactly one of configMap",
        ),
        (
            json!({ "volumeMounts": [{ "name": "nothing", "mountPath": "/a" }] }),
            "names no volume",
        ),
        (mounted("/etc/clickstream/secrets"), "choose another path"),
        (mounted("/clickstream-processor"), "choose another path"),
        (mounted("/a/../etc/clickstream"), "without `.` and `..`"),
        (
            json!({ "securityContext": { "runAsUser": 0 } }),
            "runAsUser",
        ),
        (
            json!({ "securityContext": { "runAsNonRoot": false } }),
            "runAsNonRoot",
        ),
        (
            json!({ "containerSecurityContext": { "privileged": true } }),
            "privileged",
        ),
        (
            json!({ "containerSecurityContext": { "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] } } }),
            "add",
        ),
        (
            json!({ "serviceAccountName": "a", "serviceAccountAnnotations": { "b": "c" } }),
            "annotate the one that serviceAccountName names",
        ),
    ];
    for (index, (template, says)) in refused.iter().enumerate() {
        for (place, changes) in [
            ("spec", json!({ "podTemplate": template })),
            (
                "processor",
                json!({ "processor": { "podTemplate": template } }),
            ),
            (
                "producer",
                json!({ "producer": { "podTemplate": template } }),
            ),
            (
                "migration",
                json!({ "targets": [{
                    "connection": { "secret": { "name": "postgres" } },
                    "migration": { "podTemplate": template },
                }] }),
            ),
        ] {
            let name = format!("refused-{index}");
            let pipeline = stage.pipeline(&name, &unique_name("clicks"), changes);
            match stage.apply(&pipeline).await {
                Err(kube::Error::Api(status)) => ensure!(
                    status.message.contains(says),
                    "{place} {template}: {}",
                    status.message
                ),
                other => anyhow::bail!("{place} {template}: {other:?}"),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_pipeline_of_the_definition_before_goes_on_and_moving_its_fields_replaces_no_pod()
-> anyhow::Result<()> {
    let shown = Command::new("git")
        .current_dir(workspace_root())
        .args([
            "show",
            &format!("{BEFORE}:manifests/crd/clickstreampipelines.yaml"),
        ])
        .output();
    let Some(shown) = shown.ok().filter(|shown| shown.status.success()) else {
        eprintln!("skipped: no revision {BEFORE} here; git fetch --unshallow brings it");
        return Ok(());
    };
    let former: CustomResourceDefinition = serde_yaml::from_slice(&shown.stdout)?;
    let api = Box::leak(Box::new(KubeApi::start().await?));
    let stage = Stage::on(api, Migrations::Succeed).await?;
    install(&stage.client, &former).await?;
    provide(&stage, "high", "any").await?;
    let pods = json!({
        "labels": { "team": "web" },
        "annotations": { "example.com/note": "a" },
        "nodeSelector": { "disk": "fast" },
        "tolerations": [{ "key": "spot", "operator": "Exists" }],
        "affinity": { "nodeAffinity": {} },
        "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" }],
        "priorityClassName": "high",
        "imagePullSecrets": [{ "name": "hub" }],
    });
    let topic = unique_name("clicks");
    let before = stage.pipeline("shop", &topic, json!({ "processor": pods }));
    stage.apply(&before).await?;
    let stored_before = stored(&stage, "shop").await?;

    install(&stage.client, &crd()).await?;
    let operator = stage.operator()?;
    stage
        .condition("shop", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.apply(&before).await?;
    let stored_after = stored(&stage, "shop").await?;
    ensure!(stored_after.metadata.generation == stored_before.metadata.generation);
    ensure!(stored_after.data["spec"] == stored_before.data["spec"]);
    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    let jobs = stage.children::<Job>("shop", 1).await?;
    for pod in [
        json!(deployment.spec.as_ref().map(|spec| &spec.template)),
        json!(jobs[0].spec.as_ref().map(|spec| &spec.template)),
    ] {
        let lost = lost(&pods, &in_a_pod(&pod), "");
        ensure!(lost.is_empty(), "{}", lost.join("\n"));
    }

    let moved = json!({ "processor": { "podTemplate": pods } });
    let applied = stage.apply(&stage.pipeline("shop", &topic, moved)).await?;
    ensure!(applied.metadata.generation > stored_after.metadata.generation);
    stage
        .pipeline_when("shop", "seen", |pipeline| {
            let seen = pipeline
                .status
                .as_ref()
                .and_then(|status| status.observed_generation);
            seen == applied.metadata.generation
                && condition(pipeline, "Ready").is_some_and(|(is, ..)| is == "True")
        })
        .await?;
    let same = stage.children::<Deployment>("shop", 1).await?.remove(0);
    ensure!(same.metadata.generation == deployment.metadata.generation);
    let same = stage.children::<Job>("shop", 1).await?;
    ensure!(same[0].uid() == jobs[0].uid());
    Ok(())
}
