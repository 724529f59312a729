//! Names of children that meet other names.

use std::collections::BTreeMap;

use clickstream_testbed::unique_name;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::stage::{Migrations, Stage, condition};

fn target(name: &str) -> serde_json::Value {
    json!({ "targets": [{ "name": name, "connection": { "secret": { "name": "postgres" } } }] })
}

#[tokio::test]
async fn pipelines_and_targets_whose_names_run_together_do_not_meet() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    for (pipeline, of) in [("a-b", "c"), ("a", "b-c")] {
        let topic = unique_name("clicks");
        stage
            .apply(&stage.pipeline(pipeline, &topic, target(of)))
            .await?;
    }
    for pipeline in ["a-b", "a"] {
        stage
            .condition(pipeline, "Ready", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    let one = stage.children::<Deployment>("a-b", 1).await?.remove(0);
    let other = stage.children::<Deployment>("a", 1).await?.remove(0);
    assert_ne!(one.name_any(), other.name_any());
    assert_eq!(one.owner_references()[0].name, "a-b");
    assert_eq!(other.owner_references()[0].name, "a");
    Ok(())
}

/// A child's name, learned from a pipeline of the same name in another namespace: names hold
/// neither uid nor namespace.
async fn child_names(topic: &str) -> anyhow::Result<(String, String)> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", topic, json!({})))
        .await?;
    stage.condition("shop", "Ready", "True", "").await?;
    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    let service = stage.children::<Service>("shop", 1).await?.remove(0);
    Ok((deployment.name_any(), service.name_any()))
}

#[tokio::test]
async fn a_name_that_somebody_else_holds_is_refused_and_nothing_of_theirs_is_touched()
-> anyhow::Result<()> {
    let (deployment, service) = child_names(&unique_name("clicks")).await?;
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;

    // one with another controller, one with none
    let map = ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some("their-owner".to_owned()),
            ..Default::default()
        },
        ..Default::default()
    };
    let their_owner = stage
        .all::<ConfigMap>()
        .create(&PostParams::default(), &map)
        .await?;
    let labels = json!({ "app": "theirs" });
    let theirs: Deployment = serde_json::from_value(json!({
        "metadata": { "name": deployment, "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "their-owner",
            "uid": their_owner.uid(), "controller": true,
        }] },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "theirs", "image": "theirs" }] },
        } },
    }))?;
    let deployments = stage.all::<Deployment>();
    deployments.create(&PostParams::default(), &theirs).await?;
    let theirs: Service = serde_json::from_value(json!({
        "metadata": { "name": service },
        "spec": { "selector": labels, "ports": [{ "port": 80 }] },
    }))?;
    let services = stage.all::<Service>();
    services.create(&PostParams::default(), &theirs).await?;

    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    let refused = stage
        .condition("shop", "Stalled", "True", "NameTaken")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let message = condition(&refused, "Stalled").unwrap_or_default().2;
    assert!(
        message.contains(&deployment) && message.contains("ConfigMap their-owner"),
        "{message}"
    );
    assert!(message.contains("Service "), "{message}");
    let theirs = deployments.get(&deployment).await?;
    assert_eq!(theirs.owner_references()[0].name, "their-owner");
    assert!(theirs.labels().is_empty(), "{:?}", theirs.labels());
    let containers = |deployment: &Deployment| -> Option<Vec<String>> {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        Some(
            pod.containers
                .iter()
                .map(|container| container.name.clone())
                .collect(),
        )
    };
    assert_eq!(containers(&theirs), Some(vec!["theirs".to_owned()]));
    let service = services.get(&service).await?;
    assert!(service.owner_references().is_empty() && service.labels().is_empty());
    assert_eq!(
        service.spec.and_then(|spec| spec.selector),
        Some(BTreeMap::from([("app".to_owned(), "theirs".to_owned())]))
    );

    // when they go, it goes on by itself
    deployments
        .delete(&deployment, &DeleteParams::default())
        .await?;
    services
        .delete(
            &service.metadata.name.unwrap_or_default(),
            &DeleteParams::default(),
        )
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn children_of_a_pipeline_that_is_gone_are_waited_for_under_its_name() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.delete("shop").await?;
    // before the garbage collector has come, which this stage does not have
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    let waits = stage
        .pipeline_when("shop", "waiting, or refused", |pipeline| {
            condition(pipeline, "Stalled").is_some_and(|(status, ..)| status == "True")
                || condition(pipeline, "Reconciling")
                    .is_some_and(|(_, _, message)| message.contains("is still going"))
        })
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let (stalled, reason, _) = condition(&waits, "Stalled").unwrap_or_default();
    assert_eq!(stalled, "False", "{reason}");
    stage.sweep("shop").await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}
