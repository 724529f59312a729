//! NetworkPolicies: there before the first pod that needs one, for every pod, and gone when they
//! are switched off.

use std::{collections::BTreeSet, time::Instant};

use anyhow::ensure;
use clickstream_testbed::unique_name;
use k8s_openapi::api::{
    apps::v1::Deployment, batch::v1::Job, core::v1::Pod, networking::v1::NetworkPolicy,
};
use kube::{ResourceExt, api::ListParams};
use serde_json::json;

use crate::stage::{LOOK, Migrations, PATIENCE, Stage};

const PEERS: &str = r#"{ "from": [{ "podSelector": { "matchLabels": { "app": "operator" } } }] }"#;

/// Whether each pod with these labels is under one of the policies.
fn covered(
    policies: &[NetworkPolicy],
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    let selectors = policies.iter().filter_map(|policy| {
        policy
            .spec
            .as_ref()?
            .pod_selector
            .as_ref()?
            .match_labels
            .as_ref()
    });
    selectors.into_iter().any(|wanted| {
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    })
}

#[tokio::test]
async fn a_migration_finds_its_way_where_nothing_is_allowed_but_what_policies_say()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    // nobody ends the migration: whatever is there is there before it
    stage.stop_playing();
    let operator = stage.operator_with(&["--network-policy", "--network-policy-peers", PEERS])?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({ "producer": { "enabled": true } })))
        .await?;
    let job = stage
        .children::<Job>("shop", 1)
        .await
        .map_err(|error| error.context(operator.log_tail()))?
        .remove(0);
    let of = ListParams::default().labels("clickstream.dev/pipeline=shop");
    let policies = stage.all::<NetworkPolicy>().list(&of).await?.items;
    ensure!(covered(&policies, job.labels()), "{policies:#?}");

    stage.play(Migrations::Succeed);
    stage.condition("shop", "Ready", "True", "Ready").await?;
    let policies = stage.children::<NetworkPolicy>("shop", 2).await?;
    for policy in &policies {
        let spec = json!(policy.spec);
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(
            spec["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["app"],
            "operator"
        );
    }
    let mut templates = Vec::new();
    for deployment in stage.children::<Deployment>("shop", 2).await? {
        templates.extend(deployment.spec.map(|spec| spec.template));
    }
    for job in stage.children::<Job>("shop", 1).await? {
        templates.extend(job.spec.map(|spec| spec.template));
    }
    for template in templates {
        let labels = template.metadata.and_then(|meta| meta.labels);
        let labels = labels.unwrap_or_default();
        ensure!(covered(&policies, &labels), "{labels:?}");
    }
    for pod in stage.all::<Pod>().list(&of).await? {
        ensure!(covered(&policies, pod.labels()), "{}", pod.name_any());
    }

    drop(operator);
    let _operator = stage.operator()?;
    let begun = Instant::now();
    loop {
        let left = stage.all::<NetworkPolicy>().list(&of).await?.items;
        if left.is_empty() {
            return Ok(());
        }
        let names: BTreeSet<_> = left.iter().map(ResourceExt::name_any).collect();
        ensure!(begun.elapsed() < PATIENCE, "still there: {names:?}");
        tokio::time::sleep(LOOK).await;
    }
}
