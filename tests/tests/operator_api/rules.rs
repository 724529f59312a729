//! Rules that change: in the document that processors read again, and by new pods where an image is
//! named.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::unique_name;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::ConfigMap};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use crate::{
    pods::deployment,
    processor::{Processor, running},
    stage::{LOOK, Migrations, PATIENCE, Stage, condition},
};

/// The ConfigMap that a Deployment's pods mount, once it says this.
async fn document(stage: &Stage, of: &Deployment, says: &str) -> anyhow::Result<ConfigMap> {
    let spec = json!(of.spec);
    let name = spec
        .pointer("/template/spec/volumes/0/configMap/name")
        .and_then(Value::as_str)
        .context("no document")?;
    let begun = Instant::now();
    loop {
        let map = stage.all::<ConfigMap>().get(name).await?;
        let text = map.data.as_ref().and_then(|data| data.get("pipeline.yaml"));
        if text.is_some_and(|text| text.contains(says)) {
            return Ok(map);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{name} never said {says}: {text:?}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Short name of the rules that a resource asks for.
fn rules(pipeline: &ClickstreamPipeline) -> String {
    pipeline.document().semantic().short_hash()
}

fn template(of: &Deployment) -> Value {
    json!(of.spec)["template"].clone()
}

#[tokio::test]
async fn new_rules_change_the_document_in_its_place_and_replace_no_pod() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let one = |rules: Value| {
        let mut changes = json!({ "processor": { "replicas": 1 } });
        for (field, value) in rules.as_object().into_iter().flatten() {
            changes[field] = value.clone();
        }
        stage.pipeline("shop", &topic, changes)
    };
    let applied = stage.apply(&one(json!({}))).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let follows = |rules: &str| {
        let mut status = running(&topic, &[0, 1, 2]);
        status["rules"] = json!(rules);
        status
    };
    let before = deployment(&stage, "shop").await?;
    let map = document(&stage, &before, "kind: ClickstreamPipeline").await?;
    let processor = Processor::start(&stage, "shop", "p-0", follows(&rules(&applied))).await?;
    let shown =
        |pipeline: &ClickstreamPipeline| json!(pipeline.status)["targets"][0]["rules"].clone();
    stage
        .pipeline_when("shop", "following the first rules", |pipeline| {
            shown(pipeline) == json!(rules(&applied))
        })
        .await?;

    let other = json!({ "lateEvents": { "policy": "Drop" }, "watermark": { "delay": "3s" } });
    let changed = stage.apply(&one(other)).await?;
    let now = document(&stage, &before, "policy: Drop").await?;
    assert_eq!(map.uid(), now.uid());
    let coming = stage
        .condition("shop", "Reconciling", "True", "Progressing")
        .await?;
    let (_, _, message) = condition(&coming, "Reconciling").unwrap_or_default();
    assert!(message.contains("1 of 1 processors"), "{message}");
    assert!(condition(&coming, "Ready").is_some_and(|(status, ..)| status == "True"));
    let after = deployment(&stage, "shop").await?;
    assert_eq!(template(&before), template(&after));
    assert_eq!(before.metadata.generation, after.metadata.generation);

    processor.says(follows(&rules(&changed))).await?;
    let settled = stage
        .condition("shop", "Reconciling", "False", "Settled")
        .await?;
    assert_eq!(shown(&settled), json!(rules(&changed)));
    assert!(!operator.log().contains("WARN"), "{}", operator.log());
    Ok(())
}

#[tokio::test]
async fn an_image_that_is_named_gets_new_rules_by_new_pods() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let pinned = |policy: &str| {
        let changes = json!({ "image": "processor:1", "lateEvents": { "policy": policy } });
        stage.pipeline("shop", &topic, changes)
    };
    stage.apply(&pinned("Divert")).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let before = deployment(&stage, "shop").await?;
    let map = document(&stage, &before, "policy: Divert").await?;
    assert_eq!(map.immutable, Some(true));
    stage.apply(&pinned("Drop")).await?;
    let begun = Instant::now();
    let after = loop {
        let after = deployment(&stage, "shop").await?;
        if template(&after) != template(&before) {
            break after;
        }
        ensure!(begun.elapsed() < PATIENCE, "{}", operator.log_tail());
        tokio::time::sleep(LOOK).await;
    };
    let now = document(&stage, &after, "policy: Drop").await?;
    assert_ne!(map.name_any(), now.name_any());
    // pods of before find their own document until they are gone
    let maps = stage
        .all::<ConfigMap>()
        .list(&ListParams::default())
        .await?;
    let mut same = maps.iter().filter(|found| found.uid() == map.uid());
    assert!(same.all(|found| found.data == map.data));
    Ok(())
}

#[tokio::test]
async fn rules_with_new_columns_reach_processors_once_a_migration_has_added_them()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
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
    let map = document(&stage, &before, "kind: ClickstreamPipeline").await?;
    let jobs = stage.all::<Job>().list(&ListParams::default()).await?;
    stage.play(Migrations::Fail("column \"plan\" is of type integer"));
    let events = json!({
        "columns": [{ "name": "plan", "pointer": "/plan", "type": "Text" }],
        "optionalFields": "Reject",
    });
    stage
        .apply(&stage.pipeline("shop", &topic, json!({ "events": events })))
        .await?;
    stage
        .condition("shop", "DatabaseReady", "False", "MigrationFailed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let more = stage.all::<Job>().list(&ListParams::default()).await?;
    let before_it = |job: &Job| jobs.iter().any(|known| known.uid() == job.uid());
    assert!(more.iter().any(|job| !before_it(job)));
    let held = document(&stage, &before, "kind: ClickstreamPipeline").await?;
    assert_eq!(
        held.data, map.data,
        "a pod that restarts finds rules that it can start with"
    );

    stage.play(Migrations::Succeed);
    let now = document(&stage, &before, "name: plan").await?;
    assert_eq!(map.uid(), now.uid());
    let after = deployment(&stage, "shop").await?;
    assert_eq!(template(&before), template(&after));
    Ok(())
}
