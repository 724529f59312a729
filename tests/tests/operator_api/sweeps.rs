//! Every kind of change once and back, what is refused, and what cannot even be read.

use std::time::Duration;

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{KubeApi, unique_name};
use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    snapshot::{at_rest, children, differences},
    stage::{Migrations, Stage, condition},
};

/// What a change does to the processors' pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Live,
    /// They are replaced.
    Rolling,
}
use Effect::{Live, Rolling};

/// Changes of the smallest pipeline's spec, merged in.
fn changes() -> Vec<(&'static str, Value, Effect)> {
    let target = |more: Value| {
        let mut target = json!({ "connection": { "secret": { "name": "postgres" } } });
        for (key, value) in more.as_object().into_iter().flatten() {
            target[key] = value.clone();
        }
        json!({ "targets": [target] })
    };
    let connection = |more: Value| {
        let mut connection = json!({ "secret": { "name": "postgres" } });
        for (key, value) in more.as_object().into_iter().flatten() {
            connection[key] = value.clone();
        }
        json!({ "targets": [{ "connection": connection }] })
    };
    let processor = |more: Value| json!({ "processor": more });
    vec![
        (
            "image",
            json!({ "image": "clickstream/processor:next" }),
            Rolling,
        ),
        ("suspend", json!({ "suspend": true }), Live),
        (
            "deletion",
            json!({ "deletionPolicy": { "topics": "Delete" } }),
            Live,
        ),
        (
            "late-policy",
            json!({ "lateEvents": { "policy": "Drop" } }),
            Rolling,
        ),
        (
            "lateness",
            json!({ "lateEvents": { "allowedLateness": "20m" } }),
            Rolling,
        ),
        ("replicas", processor(json!({ "replicas": 4 })), Live),
        ("lag", processor(json!({ "lagTarget": 1000 })), Live),
        (
            "filter",
            processor(json!({ "filterMemory": "64Mi" })),
            Rolling,
        ),
        (
            "event-bytes",
            processor(json!({ "maxEventBytes": "128Ki" })),
            Rolling,
        ),
        (
            "flush-rows",
            processor(json!({ "flush": { "maxRows": 1000 } })),
            Rolling,
        ),
        (
            "flush-bytes",
            processor(json!({ "flush": { "maxBytes": "1Mi" } })),
            Rolling,
        ),
        (
            "pod-labels",
            processor(json!({ "labels": { "team": "web" } })),
            Rolling,
        ),
        (
            "annotations",
            processor(json!({ "annotations": { "a.b/c": "d" } })),
            Rolling,
        ),
        (
            "nodes",
            processor(json!({ "nodeSelector": { "disk": "fast" } })),
            Rolling,
        ),
        (
            "priority",
            processor(json!({ "priorityClassName": "high" })),
            Rolling,
        ),
        (
            "pull",
            processor(json!({ "imagePullSecrets": [{ "name": "registry" }] })),
            Rolling,
        ),
        (
            "limits",
            processor(json!({ "resources": { "limits": { "memory": "1Gi" } } })),
            Rolling,
        ),
        (
            "requests",
            processor(json!({ "resources": { "requests": { "cpu": "300m" } } })),
            Rolling,
        ),
        (
            "tolerations",
            processor(json!({ "tolerations": [{ "key": "k", "operator": "Exists" }] })),
            Rolling,
        ),
        (
            "spread",
            processor(json!({ "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
        }] })),
            Rolling,
        ),
        (
            "affinity",
            processor(json!({ "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "k", "operator": "Exists" }] },
            ] },
        } } })),
            Rolling,
        ),
        (
            "durability",
            target(json!({ "durability": "Replayable" })),
            Rolling,
        ),
        ("own-replicas", target(json!({ "replicas": 3 })), Live),
        (
            "database",
            connection(json!({ "database": "other" })),
            Rolling,
        ),
        ("host", connection(json!({ "host": "db.example" })), Rolling),
        ("port", connection(json!({ "port": 6432 })), Rolling),
        ("user", connection(json!({ "user": "writer" })), Rolling),
        (
            "producer",
            json!({ "producer": { "enabled": true, "rate": 5 } }),
            Live,
        ),
    ]
}

/// The pod template of the processors.
fn template(children: &std::collections::BTreeMap<String, Value>) -> Option<&Value> {
    let (_, deployment) = children.iter().find(|(key, child)| {
        key.starts_with("Deployment/")
            && child["labels"]["app.kubernetes.io/component"] == "processor"
    })?;
    deployment.pointer("/data/spec/template")
}

async fn settle(stage: &Stage, names: &[String], log: impl Fn() -> String) -> anyhow::Result<()> {
    for name in names {
        stage
            .pipeline_when(name, "settled", |pipeline| {
                let status = pipeline.status.clone().unwrap_or_default();
                let holds = |kind: &str, wanted: &str| {
                    condition(pipeline, kind).is_some_and(|(status, ..)| status == wanted)
                };
                status.observed_generation == pipeline.metadata.generation
                    && holds("Reconciling", "False")
                    && (holds("Ready", "True") || status.suspended == Some(true))
            })
            .await
            .map_err(|error| error.context(log()))?;
    }
    at_rest(stage, Duration::from_secs(1)).await?;
    Ok(())
}

#[tokio::test]
async fn every_change_made_and_taken_back_ends_where_it_began() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let log = || operator.log_tail();
    let changes = changes();
    let names: Vec<String> = changes
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    let topics: Vec<String> = names.iter().map(|_| unique_name("clicks")).collect();
    for (name, topic) in names.iter().zip(&topics) {
        stage.apply(&stage.pipeline(name, topic, json!({}))).await?;
    }
    settle(&stage, &names, log).await?;
    let mut before = Vec::new();
    for name in &names {
        before.push(children(&stage, name).await?);
    }
    for ((name, topic), (_, change, _)) in names.iter().zip(&topics).zip(&changes) {
        let changed = stage.pipeline(name, topic, change.clone());
        stage.apply(&changed).await?;
    }
    settle(&stage, &names, log).await?;
    let mut wrong = Vec::new();
    for ((name, before), (_, _, effect)) in names.iter().zip(&before).zip(&changes) {
        let now = children(&stage, name).await?;
        let is_rolled = template(before) != template(&now);
        if is_rolled != (*effect == Rolling) {
            wrong.push(format!(
                "{name} is {effect:?}: {:#?}",
                differences(before, &now)
            ));
        }
    }
    for (name, topic) in names.iter().zip(&topics) {
        stage.apply(&stage.pipeline(name, topic, json!({}))).await?;
    }
    settle(&stage, &names, log).await?;
    for (name, before) in names.iter().zip(&before) {
        let found = differences(before, &children(&stage, name).await?);
        if !found.is_empty() {
            wrong.push(format!("{name} taken back: {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_refused_change_touches_no_child_and_says_what_to_do() -> anyhow::Result<()> {
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
    at_rest(&stage, Duration::from_secs(1)).await?;
    let before = children(&stage, "shop").await?;

    let renamed = stage.pipeline("shop", "another", json!({}));
    let refused = stage.apply(&renamed).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("topic")));
    let moved = json!({ "targets": [{ "schema": "another", "connection": { "secret": { "name": "postgres" } } }] });
    let refused = stage.apply(&stage.pipeline("shop", &topic, moved)).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("schema")));

    let status = json!({ "status": { "targets": [{ "name": "default", "accepted": 7 }] } });
    stage
        .all::<ClickstreamPipeline>()
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    let longer = json!({ "window": { "size": "5m" }, "processor": { "replicas": 7 } });
    stage.apply(&stage.pipeline("shop", &topic, longer)).await?;
    let refused = stage
        .condition("shop", "Stalled", "True", "WindowSizeRefused")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let message = condition(&refused, "Stalled").unwrap_or_default().2;
    assert!(message.contains("set it back to"), "{message}");
    at_rest(&stage, Duration::from_secs(1)).await?;
    let after = children(&stage, "shop").await?;
    assert_eq!(differences(&before, &after), Vec::<String>::new());

    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn a_resource_that_cannot_be_read_stops_no_other() -> anyhow::Result<()> {
    let api = Box::leak(Box::new(KubeApi::start().await?));
    let stage = Stage::on(api, Migrations::Succeed).await?;
    // as from a definition of another version, which lets anything through
    let definitions: Api<CustomResourceDefinition> = Api::all(stage.client.clone());
    let mut definition = serde_json::to_value(clickstream_operator::crd::crd())?;
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    definitions
        .patch(
            clickstream_operator::crd::CRD_NAME,
            &PatchParams::apply("test").force(),
            &Patch::Apply(&definition),
        )
        .await?;
    let kind = GroupVersionKind::gvk("clickstream.dev", "v1alpha1", "ClickstreamPipeline");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clickstreampipelines");
    let pipelines: Api<DynamicObject> =
        Api::namespaced_with(stage.client.clone(), &stage.namespace, &resource);
    let broken = json!({
        "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
        "metadata": { "name": "broken" },
        "spec": { "kafka": "nonsense", "topics": 7 },
    });
    let mut created = pipelines
        .create(
            &PostParams::default(),
            &serde_json::from_value(broken.clone())?,
        )
        .await;
    // the definition takes a moment
    for _ in 0..100 {
        if created.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        created = pipelines
            .create(
                &PostParams::default(),
                &serde_json::from_value(broken.clone())?,
            )
            .await;
    }
    created?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let good = stage.pipeline("shop", &topic, json!({}));
    pipelines
        .create(&PostParams::default(), &serde_json::from_value(good)?)
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.children::<Deployment>("shop", 1).await?;
    let broken = pipelines.get("broken").await?;
    let conditions = broken.data["status"]["conditions"].to_string();
    assert!(conditions.contains("Unreadable"), "{conditions}");
    assert!(conditions.contains("cannot be read"), "{conditions}");
    Ok(())
}
