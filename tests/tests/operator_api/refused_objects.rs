//! Objects that the API server will not have: a person is told which one and why, and everything
//! else goes on.

use std::time::{Duration, Instant};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{Process, unique_name};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::ServiceAccount,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    pods::deployment,
    stage::{Migrations, Stage, condition},
};

/// How soon a person is told, or what was mended goes on: nothing waits for a pause that grows.
const SOON: Duration = Duration::from_secs(15);

/// Refuses all objects of a resource in this namespace, as a platform's policy may. Returns the
/// policy's name.
pub async fn forbid(stage: &Stage, group: &str, resource: &str) -> anyhow::Result<String> {
    let name = unique_name("forbid").replace('_', "-");
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {
                    "matchLabels": { "kubernetes.io/metadata.name": stage.namespace },
                },
                "resourceRules": [{
                    "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource],
                    "operations": ["CREATE", "UPDATE"],
                }],
            },
            "validations": [{ "expression": "false", "message": "not on this platform" }],
        },
    }))?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    }))?;
    let force = PatchParams::apply("test").force();
    Api::<ValidatingAdmissionPolicy>::all(stage.client.clone())
        .patch(&name, &force, &Patch::Apply(&policy))
        .await?;
    Api::<ValidatingAdmissionPolicyBinding>::all(stage.client.clone())
        .patch(&name, &force, &Patch::Apply(&binding))
        .await?;
    Ok(name)
}

/// Takes a policy away.
pub async fn allow(stage: &Stage, name: &str) -> anyhow::Result<()> {
    let now = DeleteParams::default();
    Api::<ValidatingAdmissionPolicyBinding>::all(stage.client.clone())
        .delete(name, &now)
        .await?;
    Api::<ValidatingAdmissionPolicy>::all(stage.client.clone())
        .delete(name, &now)
        .await?;
    Ok(())
}

fn said(pipeline: &ClickstreamPipeline, kind: &str) -> String {
    condition(pipeline, kind).unwrap_or_default().2
}

/// What no release of Kubernetes takes, and only its API server judges.
fn untolerable() -> Value {
    json!([{ "key": "spot", "operator": "Perhaps" }])
}

async fn told(
    stage: &Stage,
    operator: &Process,
    condition: &str,
) -> anyhow::Result<ClickstreamPipeline> {
    let begun = Instant::now();
    let told = stage
        .condition("shop", condition, "True", "ObjectRefused")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    anyhow::ensure!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
    Ok(told)
}

#[tokio::test]
async fn pods_that_are_refused_leave_those_that_run_and_everything_else_goes_on()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let before = deployment(&stage, "shop").await?;

    let changes = json!({ "processor": { "replicas": 3, "podTemplate": {
        "tolerations": untolerable(),
        "serviceAccountAnnotations": { "example.com/role": "clicks" },
    } } });
    stage
        .apply(&stage.pipeline("shop", &topic, changes.clone()))
        .await?;
    let refused = told(&stage, &operator, "Stalled").await?;
    let name = before.name_any();
    for kind in ["Stalled", "Ready", "ProcessorsAvailable"] {
        let (_, reason, message) = condition(&refused, kind).unwrap_or_default();
        assert_eq!(reason, "ObjectRefused", "{kind}: {message}");
        let words = [
            format!("Deployment {name}").as_str(),
            "tolerations",
            "Perhaps",
        ]
        .map(str::to_owned);
        for part in words {
            assert!(message.contains(&part), "{kind}: {message}");
        }
    }
    // the pods stay as they were; their number, and the account beside them, follow
    let kept = deployment(&stage, "shop").await?;
    let template = |deployment: &Deployment| json!(deployment)["spec"]["template"].clone();
    assert_eq!(template(&kept), template(&before));
    assert_eq!(json!(kept)["spec"]["replicas"], 3);
    let account = stage.all::<ServiceAccount>().get(&name).await?;
    assert_eq!(account.annotations()["example.com/role"], "clicks");

    // it is asked again now and then, and that is no failure
    tokio::time::sleep(Duration::from_secs(8)).await;
    let log = operator.log();
    let asked = log.matches("refuses an object").count();
    assert!(
        (1..=3).contains(&asked),
        "asked {asked} times: {}",
        operator.log_tail()
    );
    assert!(!log.contains("reconcile failed"), "{}", operator.log_tail());

    // with the spec it ends at once
    let begun = Instant::now();
    let mended = json!({ "processor": { "replicas": 3 } });
    stage.apply(&stage.pipeline("shop", &topic, mended)).await?;
    stage
        .condition("shop", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.condition("shop", "Stalled", "False", "").await?;
    assert!(begun.elapsed() < SOON, "after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn whatever_the_api_server_refuses_is_named_with_its_words() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let of_producer =
        |template: Value| json!({ "producer": { "enabled": true, "podTemplate": template } });
    let half = |prefix: &str| -> Value {
        (0..31)
            .map(|index| (format!("{prefix}{index}"), json!("v".repeat(8_192))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let secret = "hunter2";
    let refusals = [
        (
            of_producer(json!({ "topologySpreadConstraints": [{
                "maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            }] })),
            "Deployment first-producer",
            "maxSkew",
        ),
        (
            of_producer(json!({
                "volumes": [{ "name": "more", "configMap": {
                    "name": "more", "items": [{ "key": "a", "path": "/b" }],
                } }],
                "env": [{ "name": "PASSWORD", "value": secret }],
            })),
            "Deployment second-producer",
            "path",
        ),
        // each map has a size that is allowed, both together have not
        (
            json!({
                "podTemplate": { "annotations": half("a") },
                "producer": { "enabled": true, "podTemplate": { "annotations": half("b") } },
            }),
            "Deployment third-producer",
            "annotations",
        ),
        (
            json!({ "processor": { "podTemplate": { "tolerations": untolerable() } } }),
            "Job fourth-default",
            "tolerations",
        ),
    ];
    for (changes, object, words) in refusals {
        let name = object.split([' ', '-']).nth(1).unwrap_or_default();
        stage
            .apply(&stage.pipeline(name, &unique_name("clicks"), changes))
            .await?;
        let refused = stage
            .condition(name, "Stalled", "True", "ObjectRefused")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        let message = said(&refused, "Stalled");
        assert!(
            message.contains(object) && message.contains(words),
            "{message}"
        );
        assert!(
            !message.contains(secret) && message.len() <= 512,
            "{message}"
        );
    }
    let log = operator.log();
    assert!(!log.contains(secret));
    assert!(!log.contains("reconcile failed"), "{}", operator.log_tail());
    Ok(())
}

#[tokio::test]
async fn a_policy_against_one_kind_stops_none_of_the_others_and_ends_by_itself()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let policy = forbid(&stage, "policy", "poddisruptionbudgets").await?;
    // a policy takes a moment until it is in force
    tokio::time::sleep(Duration::from_secs(2)).await;
    let operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    let refused = told(&stage, &operator, "Stalled").await?;
    let message = said(&refused, "Stalled");
    assert!(
        message.contains("PodDisruptionBudget shop-default")
            && message.contains("not on this platform"),
        "{message}"
    );
    stage
        .condition("shop", "ProcessorsAvailable", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    allow(&stage, &policy).await?;
    stage
        .condition("shop", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn a_deletion_whose_job_is_refused_gives_up_and_says_so() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator_with(&["--deletion-patience", "2"])?;
    let with_tables = json!({ "deletionPolicy": { "tables": "Delete" } });
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), with_tables))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let policy = forbid(&stage, "batch", "jobs").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    allow(&stage, &policy).await?;
    let events = stage.events("shop").await?;
    assert!(
        events.contains(&"CleanupIncomplete".to_owned()),
        "{events:?}"
    );
    let jobs = stage.all::<Job>().list(&Default::default()).await?;
    assert!(jobs.iter().all(|job| !job.name_any().contains("drop")));
    Ok(())
}
