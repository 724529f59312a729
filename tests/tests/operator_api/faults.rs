//! The operator while the API server, the connection to it, or the operator itself fails.

use std::time::{Duration, Instant};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{KubeApi, Process, free_port, unique_name};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    api_proxy::{ApiProxy, Lost},
    metrics::page,
    snapshot::{at_rest, children, differences, versions},
    stage::{Migrations, PATIENCE, Stage, condition},
};

/// Long enough for anything that comes every three seconds.
const REST: Duration = Duration::from_secs(4);

/// The condition, with the operator's log when it does not come.
async fn ready(stage: &Stage, name: &str, operator: &Process) -> anyhow::Result<()> {
    stage
        .condition(name, "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn two_operators_at_once_come_to_the_same_end_and_then_write_no_more() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let one = stage.operator()?;
    let two = stage.operator()?;
    let topics: Vec<_> = (0..4).map(|_| unique_name("clicks")).collect();
    for (index, topic) in topics.iter().enumerate() {
        let pipeline = stage.pipeline(&format!("shop-{index}"), topic, json!({}));
        stage.apply(&pipeline).await?;
    }
    for index in 0..topics.len() {
        ready(&stage, &format!("shop-{index}"), &one).await?;
    }
    // a change that both see
    for (index, topic) in topics.iter().enumerate() {
        let changed = json!({ "processor": { "replicas": 3 } });
        let pipeline = stage.pipeline(&format!("shop-{index}"), topic, changed);
        stage.apply(&pipeline).await?;
    }
    for index in 0..topics.len() {
        ready(&stage, &format!("shop-{index}"), &two).await?;
    }
    let before = at_rest(&stage, REST).await?;
    tokio::time::sleep(REST).await;
    let after = versions(&stage).await?;
    assert_eq!(differences(&before, &after), Vec::<String>::new());
    for name in (0..topics.len()).map(|index| format!("shop-{index}")) {
        let deployment = stage.children::<Deployment>(&name, 1).await?.remove(0);
        assert_eq!(deployment.spec.and_then(|spec| spec.replicas), Some(3));
        let events = stage.events(&name).await?;
        assert!(
            !events.contains(&"TopicExists".to_owned()),
            "its own topic was taken for somebody else's: {events:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_second_operator_takes_the_lease_of_one_that_was_killed() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let lease = ["--lease-namespace", stage.namespace.as_str()];
    let first = stage.operator_with(&lease)?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    ready(&stage, "shop", &first).await?;
    let second = stage.operator_with(&lease)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!second.log().contains("this process leads"));
    first.kill()?;
    let killed = Instant::now();
    let changed = json!({ "processor": { "replicas": 1 } });
    stage
        .apply(&stage.pipeline("shop", &topic, changed))
        .await?;
    ready(&stage, "shop", &second).await?;
    // the lease lasts 15 s
    assert!(killed.elapsed() < Duration::from_secs(25));
    Ok(())
}

/// Kills an operator at each write about a pipeline, and compares what its successor makes of it
/// with what comes undisturbed.
async fn killed_at_each_write(lost: Lost) -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let proxy = ApiProxy::start(stage.api).await?;
    let kubeconfig = proxy.kubeconfig(stage.api)?;
    let mut names = Vec::new();
    for nth in 1.. {
        let name = format!("at-{nth:02}-x");
        proxy.lose(&name, nth, lost);
        let operator = stage.operator_by(&kubeconfig, &[])?;
        let pipeline = stage.pipeline(&name, &unique_name("clicks"), json!({}));
        stage.apply(&pipeline).await?;
        names.push(name.clone());
        let spring = proxy.sprung(PATIENCE);
        let done = stage.condition(&name, "Ready", "True", "");
        tokio::select! {
            sprung = spring => anyhow::ensure!(sprung, "{name}: {}", operator.log_tail()),
            done = done => {
                done?;
                // there are fewer writes than that: this one was left alone
                anyhow::ensure!(nth > 8, "only {nth} writes");
                operator.kill()?;
                break;
            }
        }
        operator.kill()?;
    }
    let operator = stage.operator()?;
    for name in &names {
        ready(&stage, name, &operator).await?;
    }
    at_rest(&stage, Duration::from_secs(1)).await?;
    let undisturbed = names.pop().unwrap_or_default();
    let wanted = anonymous(&stage, &undisturbed).await?;
    for name in &names {
        let found = anonymous(&stage, name).await?;
        assert_eq!(differences(&wanted, &found), Vec::<String>::new(), "{name}");
        let events = stage.events(name).await?;
        assert!(
            !events.contains(&"TopicExists".to_owned()),
            "{name}: {events:?}"
        );
    }
    Ok(())
}

/// Children by kind, without their pipeline's name, hashes and topic.
async fn anonymous(
    stage: &Stage,
    name: &str,
) -> anyhow::Result<std::collections::BTreeMap<String, Value>> {
    let found = stage.pipeline_when(name, "there", |_| true).await?;
    let topic = found.spec.topics[0].name.clone();
    let hash = regex::Regex::new("[0-9a-f]{8,}")?;
    let mut count = 0;
    Ok(children(stage, name)
        .await?
        .into_iter()
        .map(|(key, value)| {
            let text = value
                .to_string()
                .replace(name, "NAME")
                .replace(&topic, "TOPIC");
            count += 1;
            let kind = key.split('/').next().unwrap_or_default();
            let value = Value::String(hash.replace_all(&text, "HASH").into_owned());
            (
                format!(
                    "{kind} {}",
                    hash.replace_all(&key.replace(name, "NAME"), "HASH")
                ),
                value,
            )
        })
        .collect())
}

#[tokio::test]
async fn an_operator_killed_before_any_write_is_succeeded_by_one_that_ends_up_the_same()
-> anyhow::Result<()> {
    killed_at_each_write(Lost::Before).await
}

#[tokio::test]
async fn an_operator_killed_after_any_write_is_succeeded_by_one_that_ends_up_the_same()
-> anyhow::Result<()> {
    killed_at_each_write(Lost::After).await
}

#[tokio::test]
async fn an_operator_that_hears_of_its_own_status_late_still_knows_its_topic() -> anyhow::Result<()>
{
    let stage = Stage::new(Migrations::Succeed).await?;
    let proxy = ApiProxy::start(stage.api).await?;
    let operator = stage.operator_by(&proxy.kubeconfig(stage.api)?, &[])?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    stage
        .pipeline_when("shop", "taken up", |pipeline| pipeline.status.is_some())
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    // children and Jobs go on waking it
    proxy.hold(Some("clickstreampipelines"));
    stage
        .pipeline_when("shop", "ready, or refused", |pipeline| {
            condition(pipeline, "Ready").is_some_and(|(status, ..)| status == "True")
                || condition(pipeline, "TopicsReady")
                    .is_some_and(|(_, reason, _)| reason == "TopicExists")
        })
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    proxy.hold(None);
    ready(&stage, "shop", &operator).await?;
    let events = stage.events("shop").await?;
    assert!(!events.contains(&"TopicExists".to_owned()), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn what_another_operator_has_written_meanwhile_is_not_written_over() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let proxy = ApiProxy::start(stage.api).await?;
    let operator = stage.operator_by(&proxy.kubeconfig(stage.api)?, &[])?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    ready(&stage, "shop", &operator).await?;
    at_rest(&stage, Duration::from_secs(1)).await?;
    proxy.hold(Some("clickstreampipelines"));
    // as another operator that knows more of the topic
    let status =
        json!({ "status": { "topics": [{ "name": topic, "created": true, "partitions": 77 }] } });
    stage
        .all::<ClickstreamPipeline>()
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    // a reason to write: a pod is gone
    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    let status = json!({ "status": { "readyReplicas": 1, "availableReplicas": 1 } });
    stage
        .all::<Deployment>()
        .patch_status(
            &deployment.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&status),
        )
        .await?;
    let begun = Instant::now();
    while proxy.answered(409) == 0 {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{}", operator.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let held = stage.pipeline_when("shop", "there", |_| true).await?;
    let partitions = held.status.and_then(|status| status.topics[0].partitions);
    assert_eq!(partitions, Some(77));
    // once it knows, it goes on
    proxy.hold(None);
    stage
        .condition("shop", "ProcessorsAvailable", "False", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
#[ignore = "takes more than a minute"]
async fn a_request_that_is_never_answered_is_given_up_and_made_again() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let proxy = ApiProxy::start(stage.api).await?;
    proxy.lose("shop-", 1, Lost::After);
    let operator = stage.operator_by(&proxy.kubeconfig(stage.api)?, &[])?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    anyhow::ensure!(proxy.sprung(PATIENCE).await, "{}", operator.log_tail());
    let begun = Instant::now();
    while ready(&stage, "shop", &operator).await.is_err() {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "{}",
            operator.log_tail()
        );
    }
    Ok(())
}

#[tokio::test]
async fn bursts_of_429_and_500_and_cut_and_expired_watches_pass() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let proxy = ApiProxy::start(stage.api).await?;
    let operator = stage.operator_by(&proxy.kubeconfig(stage.api)?, &[])?;
    let topic = unique_name("clicks");
    let mut replicas = 0;
    let mut change = async || {
        replicas += 1;
        let changed = json!({ "processor": { "replicas": replicas } });
        stage.apply(&stage.pipeline("shop", &topic, changed)).await
    };
    change().await?;
    ready(&stage, "shop", &operator).await?;
    for status in [429, 500] {
        let before = proxy.answered(status);
        proxy.answer_all(Some(status));
        proxy.cut_watches();
        change().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        anyhow::ensure!(
            proxy.answered(status) > before,
            "nothing was answered {status}"
        );
        proxy.answer_all(None);
        let begun = Instant::now();
        ready(&stage, "shop", &operator).await?;
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
    }
    proxy.expire(true);
    change().await?;
    // only a list tells of it, after a watch that broke off
    stage
        .apply(&stage.pipeline("created-meanwhile", &unique_name("clicks"), json!({})))
        .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.expire(false);
    ready(&stage, "shop", &operator).await?;
    ready(&stage, "created-meanwhile", &operator).await?;
    for _ in 0..5 {
        proxy.cut_watches();
        change().await?;
    }
    ready(&stage, "shop", &operator).await?;
    let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
    assert_eq!(deployment.spec.and_then(|spec| spec.replicas), Some(9));
    assert!(operator.exited()?.is_none());
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_restarts_is_waited_for_and_nothing_of_the_pipelines_is_touched()
-> anyhow::Result<()> {
    let api = Box::leak(Box::new(KubeApi::start().await?));
    let stage = Stage::on(api, Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("shop", &topic, json!({})))
        .await?;
    ready(&stage, "shop", &operator).await?;
    at_rest(&stage, Duration::from_secs(2)).await?;
    let before = children_versions(&stage).await?;
    api.kill()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    api.start_again().await?;
    let back = Instant::now();
    let changed = json!({ "processor": { "replicas": 3 } });
    // what changed while it was away would look the same to the operator as this
    stage
        .apply(&stage.pipeline("shop", &topic, changed))
        .await?;
    let deployment = loop {
        let deployment = stage.children::<Deployment>("shop", 1).await?.remove(0);
        if deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(3) {
            break deployment;
        }
        anyhow::ensure!(back.elapsed() < PATIENCE, "{}", operator.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let recovered = back.elapsed();
    eprintln!("recovered {recovered:?} after the api server answered");
    // 4 s as a rule, more on a busy machine
    assert!(recovered < Duration::from_secs(15), "{recovered:?}");
    ready(&stage, "shop", &operator).await?;
    at_rest(&stage, Duration::from_secs(1)).await?;
    let mut after = children_versions(&stage).await?;
    // the change itself
    let mut before = before;
    let key = format!("Deployment/{}", deployment.name_any());
    assert_ne!(before.remove(&key), after.remove(&key));
    assert_eq!(differences(&before, &after), Vec::<String>::new());
    assert!(operator.exited()?.is_none());
    Ok(())
}

/// Versions of children alone.
async fn children_versions(
    stage: &Stage,
) -> anyhow::Result<std::collections::BTreeMap<String, String>> {
    let mut all = versions(stage).await?;
    all.retain(|key, _| {
        !["ClickstreamPipeline/", "Event/", "Pod/"]
            .iter()
            .any(|kind| key.starts_with(kind))
    });
    Ok(all)
}

#[tokio::test]
async fn a_pipeline_at_rest_costs_no_write() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let port = free_port()?;
    let operator = stage.operator_with(&["--admin-listen", &format!("127.0.0.1:{port}")])?;
    let pipeline = stage.pipeline(
        "shop",
        &unique_name("clicks"),
        json!({ "producer": { "enabled": true } }),
    );
    stage.apply(&pipeline).await?;
    ready(&stage, "shop", &operator).await?;
    let before = at_rest(&stage, REST).await?;
    let reconciles = reconciles(port).await?;
    // longer than the pause between two looks at a pipeline at rest
    tokio::time::sleep(Duration::from_secs(37)).await;
    let after = versions(&stage).await?;
    assert_eq!(differences(&before, &after), Vec::<String>::new());
    let looked = self::reconciles(port).await? - reconciles;
    assert!(looked > 0.0, "it was not even looked at");
    assert!(looked <= 3.0, "looked at {looked} times");
    // a status by somebody's hand is no news either
    let status = json!({ "status": { "lag": 7 } });
    stage
        .all::<ClickstreamPipeline>()
        .patch_status("shop", &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    let before = self::reconciles(port).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(self::reconciles(port).await? - before < 2.0);
    Ok(())
}

/// How many reconciles an operator has ended.
async fn reconciles(port: u16) -> anyhow::Result<f64> {
    let text = page(port).await?;
    Ok(text
        .lines()
        .filter(|line| line.starts_with("controller_runtime_reconcile_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}
