//! The Job: what it takes from the processors' pods, and what not. Pure.

use anyhow::{Context as _, bail};
use clickstream_api::mesh::without_sidecar;
use clickstream_protocol::labels;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

use crate::args::ReportForm;

/// The container that audits.
pub const CONTAINER: &str = "audit";
/// The container that it is made from.
const PROCESSOR: &str = "processor";

/// A Job nobody removed goes an hour after its end.
const KEPT_SECONDS: u32 = 3600;
/// With a random end this fits a label's 63 characters, whatever the pipeline is called.
const LONGEST_PREFIX: usize = 50;

/// What is for something that serves for ever.
const NOT_FOR_A_JOB: [&str; 5] = [
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "ports",
];

/// The audit of the target whose Deployment this is: same image, document, Secrets and place,
/// another verb.
///
/// # Errors
/// The Deployment is not the operator's.
pub fn audit(
    deployment: &Deployment,
    pipeline: &str,
    output: ReportForm,
    memory: Option<&str>,
) -> anyhow::Result<Job> {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let template = serde_json::to_value(template)?;
    let mut pod = template["spec"].clone();
    let container = pod["containers"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .find(|container| container["name"] == PROCESSOR)
        .and_then(Value::as_object_mut)
        .with_context(|| {
            format!(
                "deployment {} has no container {PROCESSOR}",
                deployment.name_any()
            )
        })?;
    change(container, output, memory);
    pod["restartPolicy"] = json!("Never");
    // it only reads, so there is nothing to bring to an end
    pod["terminationGracePeriodSeconds"] = json!(5);

    let mut labels = labels(&template["metadata"]["labels"], deployment);
    let annotations = template["metadata"]["annotations"].as_object();
    let mut annotations = annotations.cloned().unwrap_or_default();
    without_sidecar(&mut labels, &mut annotations);
    let mut prefix = format!("{pipeline}-audit-");
    if prefix.len() > LONGEST_PREFIX {
        bail!("{pipeline} is no name of a pipeline");
    }
    prefix.truncate(LONGEST_PREFIX);
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": prefix,
            "labels": labels,
            "ownerReferences": owners(deployment),
        },
        "spec": {
            // an audit that failed says why; doing it again is for a person to decide
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {
                "metadata": { "labels": labels, "annotations": annotations },
                "spec": pod,
            },
        },
    });
    Ok(serde_json::from_value(job)?)
}

fn change(container: &mut Map<String, Value>, output: ReportForm, memory: Option<&str>) {
    for field in NOT_FOR_A_JOB {
        container.remove(field);
    }
    let form = match output {
        ReportForm::Table => "table",
        ReportForm::Json => "json",
    };
    container.insert("name".to_owned(), json!(CONTAINER));
    container.insert("args".to_owned(), json!(["audit", "--output", form]));
    // it holds the windows of the whole log, so what suffices for a flush need not for it
    let Some(resources) = container
        .entry("resources")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    else {
        return;
    };
    match memory {
        Some(memory) => {
            for bound in ["requests", "limits"] {
                let amounts = resources.entry(bound).or_insert_with(|| json!({}));
                amounts["memory"] = json!(memory);
            }
        }
        None => {
            if let Some(Value::Object(limits)) = resources.get_mut("limits") {
                limits.remove("memory");
            }
        }
    }
}

/// The processors' labels, so that what lets them through to Kafka and PostgreSQL lets this
/// through; but neither their Service, their disruption budget nor the operator may take it for
/// one.
fn labels(of_pods: &Value, deployment: &Deployment) -> Map<String, Value> {
    let mut all = of_pods.as_object().cloned().unwrap_or_default();
    for (key, value) in [
        (labels::NAME, "clickstream-audit"),
        (labels::COMPONENT, labels::AUDIT),
        (labels::MANAGED_BY, labels::PLUGIN),
    ] {
        all.insert(key.to_owned(), json!(value));
    }
    for key in [labels::PIPELINE, labels::TARGET] {
        if let Some(value) = deployment.labels().get(key) {
            all.insert(key.to_owned(), json!(value));
        }
    }
    all
}

/// The pipeline: who deletes it deletes this too. It does not control the Job, which the operator
/// would take for its own.
fn owners(deployment: &Deployment) -> Value {
    let owners = deployment.meta().owner_references.iter().flatten();
    let pipelines: Vec<Value> = owners
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| {
            json!({
                "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            })
        })
        .collect();
    json!(pipelines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;

    fn deployment() -> Deployment {
        let labels = json!({
            "app.kubernetes.io/name": "clickstream-processor", "app.kubernetes.io/component": "processor",
            "app.kubernetes.io/managed-by": "clickstream-operator",
            "clickstream.dev/pipeline": "web", "clickstream.dev/target": "warehouse", "team": "a",
        });
        serde_json::from_value(json!({
            "metadata": {
                "name": "web-warehouse-1", "labels": labels,
                "ownerReferences": [{ "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline", "name": "web", "uid": "u", "controller": true, "blockOwnerDeletion": true }],
            },
            "spec": { "selector": {}, "template": {
                "metadata": { "labels": labels, "annotations": { "sidecar.istio.io/inject": "false" } },
                "spec": {
                    "serviceAccountName": "web-warehouse-1", "terminationGracePeriodSeconds": 45,
                    "containers": [{
                        "name": "processor", "image": "clickstream/processor:1", "args": ["run"],
                        "env": [{ "name": "CLICKSTREAM_TARGET", "value": "warehouse" }],
                        "readinessProbe": {}, "livenessProbe": {}, "ports": [{ "containerPort": 8080 }],
                        "resources": { "requests": { "cpu": "100m", "memory": "176Mi" }, "limits": { "memory": "352Mi" } },
                        "volumeMounts": [{ "name": "pipeline", "mountPath": "/etc/clickstream/pipeline.yaml" }],
                    }],
                },
            } },
        }))
        .unwrap()
    }

    fn job(memory: Option<&str>) -> Value {
        json!(audit(&deployment(), "web", ReportForm::Json, memory).unwrap())
    }

    #[test]
    fn it_is_the_processors_pod_with_another_verb() {
        let job = job(None);
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["args"], json!(["audit", "--output", "json"]));
        assert_eq!(container["image"], "clickstream/processor:1");
        assert_eq!(container["env"][0]["value"], "warehouse");
        assert_eq!(container["volumeMounts"][0]["name"], "pipeline");
        assert_eq!(pod["serviceAccountName"], "web-warehouse-1");
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(job["spec"]["backoffLimit"], 0);
        for absent in ["readinessProbe", "livenessProbe", "ports"] {
            assert!(container.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn nobody_takes_it_for_a_processor_and_the_pipeline_takes_it_along() {
        let job = job(None);
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/component"], "audit");
        assert_eq!(
            labels["app.kubernetes.io/managed-by"],
            "kubectl-clickstream"
        );
        assert_eq!(labels["team"], "a");
        let owner = &job["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], "u");
        assert!(owner.get("controller").is_none(), "{owner}");
    }

    #[test]
    fn its_memory_is_the_nodes_unless_it_is_given() {
        let resources =
            |memory| job(memory)["spec"]["template"]["spec"]["containers"][0]["resources"].clone();
        assert_eq!(resources(None)["limits"], json!({}));
        assert_eq!(resources(None)["requests"]["memory"], "176Mi");
        let given = resources(Some("2Gi"));
        assert_eq!(
            (&given["requests"]["memory"], &given["limits"]["memory"]),
            (&json!("2Gi"), &json!("2Gi"))
        );
        assert_eq!(given["requests"]["cpu"], "100m");
    }
}
