//! The operator's board and its alerts: a real operator on a real API server, with a real processor
//! behind one pipeline's pod.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Process, Prometheus, ScrapeTarget, free_port, unique_name};
use k8s_openapi::api::{
    apps::v1::Deployment,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    dashboards::boards,
    panels::metrics_of_alerts,
    pods::run_behind_a_pod,
    records::{clicks, now},
    rules::rules,
    scene::{all_give_data, filled_in, fires, label_values, resolves, while_that_goes_on},
    stack::{Stack, StackOptions},
    stage::{Migrations, Stage},
};

/// Starts an operator and has it scraped as the chart's monitor does: what a series says itself
/// wins.
async fn watched_operator(
    stage: &Stage,
    kubeconfig: &Path,
    rules: &str,
) -> anyhow::Result<(Process, Prometheus)> {
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let operator = stage.operator_by(kubeconfig, &["--admin-listen", &listen])?;
    let prometheus = Prometheus::start(rules).await?;
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    prometheus.scrape(&[ScrapeTarget {
        port,
        labels: vec![
            label("namespace", "clickstream-system"),
            label("pod", "operator"),
        ],
    }])?;
    Ok((operator, prometheus))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_about_the_operator_has_data_behind_it() -> anyhow::Result<()> {
    let stack = Stack::new(StackOptions::default()).await?;
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let environment = [("CLICKSTREAM_ADMIN_LISTEN", listen.as_str())];
    let _processor = stack.start_with("processor", &environment)?;
    let placed = clicks(0..200, now());
    stack
        .place(placed.iter().map(|click| click.on(0)).collect())
        .await?;
    stack.drained().await?;

    let stage = Stage::new(Migrations::Succeed).await?;
    let (_operator, prometheus) =
        watched_operator(&stage, &stage.rights.kubeconfig, &rules(&[])?).await?;
    // the topic that the processor reads: lag is known when all of its partitions are spoken for
    let topic = &stack.topic;
    let topics = json!([{ "name": topic, "management": "External" }]);
    let with_producer = json!({ "topics": topics, "producer": { "enabled": true } });
    stage
        .apply(&stage.pipeline("web", topic, with_producer))
        .await?;
    stage.children::<Deployment>("web", 2).await?;
    run_behind_a_pod(&stage, "web", "processor-0", port).await?;
    let without_producer = json!({ "topics": topics, "producer": { "enabled": false } });
    stage
        .apply(&stage.pipeline("web", topic, without_producer))
        .await?;
    let suspended = json!({ "suspend": true });
    stage
        .apply(&stage.pipeline("halted", &unique_name("halted"), suspended))
        .await?;
    let mut paused = stage.pipeline("paused", &unique_name("paused"), json!({}));
    paused["metadata"]["annotations"] = json!({ "clickstream.dev/reconcile": "paused" });
    stage.apply(&paused).await?;

    let mut expressions = metrics_of_alerts(|name| name.starts_with("clickstream_pipeline_"))?;
    ensure!(expressions.len() >= 3, "{expressions:?}");
    for board in boards().iter().filter(|board| board.name == "operator") {
        for query in board.queries() {
            expressions.push((query.place, filled_in(&query.text)));
        }
        for query in board.variable_queries() {
            let expression = label_values(&query).with_context(|| query.clone())?;
            expressions.push((query, expression));
        }
    }
    // the first reconciles are over before the first look at their counters
    let changes = async {
        loop {
            for replicas in [2, 1] {
                let change = json!({ "topics": topics, "processor": { "replicas": replicas } });
                stage.apply(&stage.pipeline("web", topic, change)).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    while_that_goes_on(changes, all_give_data(&prometheus, expressions)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_about_pipelines_follow_what_the_operator_meets() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let rules = rules(&[
        ("ReconcileFailing", "for", "0s"),
        ("ReconcileFailing", "failures", "2"),
        ("SuspendedTooLong", "seconds", "3"),
        ("PausedTooLong", "seconds", "3"),
    ])?;
    // a right is missing, as after an upgrade that left the roles behind
    let roles: Api<ClusterRole> = Api::all(stage.client.clone());
    let user = stage.namespace.clone();
    let own = ["clickstreampipelines", "clickstreampipelines/finalizers"];
    roles
        .create(&PostParams::default(), &role(&user, &own)?)
        .await?;
    let bindings: Api<ClusterRoleBinding> = Api::all(stage.client.clone());
    let binding = serde_json::from_value(json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))?;
    bindings.create(&PostParams::default(), &binding).await?;
    let kubeconfig = stage.api.kubeconfig_as(&user, &[])?;
    let (_operator, prometheus) = watched_operator(&stage, &kubeconfig, &rules).await?;

    let topic = unique_name("web");
    stage
        .apply(&stage.pipeline("web", &topic, json!({})))
        .await?;
    fires(&prometheus, "ReconcileFailing").await?;
    let all = [
        "clickstreampipelines",
        "clickstreampipelines/finalizers",
        "clickstreampipelines/status",
    ];
    let patch = Patch::Merge(role(&user, &all)?);
    roles.patch(&user, &PatchParams::default(), &patch).await?;
    resolves(&prometheus, "ReconcileFailing").await?;

    let suspended = |suspend: bool| stage.pipeline("web", &topic, json!({ "suspend": suspend }));
    stage.apply(&suspended(true)).await?;
    fires(&prometheus, "SuspendedTooLong").await?;
    stage.apply(&suspended(false)).await?;
    resolves(&prometheus, "SuspendedTooLong").await?;

    let mut paused = suspended(false);
    paused["metadata"]["annotations"] = json!({ "clickstream.dev/reconcile": "paused" });
    stage.apply(&paused).await?;
    fires(&prometheus, "PausedTooLong").await?;
    stage.apply(&suspended(false)).await?;
    resolves(&prometheus, "PausedTooLong").await
}

/// None of these needs a processor's series, which are gone when the processors are.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_does_not_come_up_shows_without_a_single_processor() -> anyhow::Result<()> {
    let mut stage =
        Stage::new(Migrations::Fail("permission denied for database analytics")).await?;
    let rules = rules(&[
        ("MigrationFailing", "for", "0s"),
        ("OperatorAbsent", "for", "0s"),
        ("PartitionsUnowned", "for", "0s"),
        ("PipelineNotReady", "for", "0s"),
        ("PipelineStalled", "for", "0s"),
    ])?;
    let (operator, prometheus) = watched_operator(&stage, &stage.rights.kubeconfig, &rules).await?;
    resolves(&prometheus, "OperatorAbsent").await?;
    let topic = unique_name("web");
    let partitions = |count: u32| json!({ "topics": [{ "name": topic, "partitions": count }] });
    stage
        .apply(&stage.pipeline("web", &topic, partitions(3)))
        .await?;
    fires(&prometheus, "MigrationFailing").await?;
    fires(&prometheus, "PipelineNotReady").await?;

    stage.play(Migrations::Succeed);
    resolves(&prometheus, "MigrationFailing").await?;
    // Deployments say that their pods are ready, and no pod says which partitions it has
    fires(&prometheus, "PartitionsUnowned").await?;

    stage
        .apply(&stage.pipeline("web", &topic, partitions(2)))
        .await?;
    fires(&prometheus, "PipelineStalled").await?;
    let mut suspended = partitions(3);
    suspended["suspend"] = json!(true);
    stage
        .apply(&stage.pipeline("web", &topic, suspended))
        .await?;
    for alert in ["PipelineStalled", "PartitionsUnowned", "PipelineNotReady"] {
        resolves(&prometheus, alert).await?;
    }

    drop(operator);
    fires(&prometheus, "OperatorAbsent").await
}

/// What an operator may do, with these of its own resources.
fn role(name: &str, own: &[&str]) -> anyhow::Result<ClusterRole> {
    Ok(serde_json::from_value(json!({
        "metadata": { "name": name },
        "rules": [
            { "apiGroups": ["", "apps", "batch", "policy", "networking.k8s.io", "events.k8s.io"], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": ["clickstream.dev"], "resources": own, "verbs": ["*"] },
        ],
    }))?)
}
