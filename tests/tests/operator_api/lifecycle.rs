//! Pipelines that end, namespaces that go, and numbers of processors that somebody else decides.

use std::time::{Duration, Instant};

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::unique_name;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Namespace};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    snapshot::at_rest,
    stage::{Migrations, PATIENCE, Stage},
};

#[tokio::test]
async fn a_pipeline_deleted_while_it_is_created_leaves_no_topic_and_comes_not_back()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let mut topics = Vec::new();
    for millis in [0, 30, 80, 150, 300, 600] {
        let (name, topic) = (format!("after-{millis}"), unique_name("clicks"));
        let with_topics = json!({ "deletionPolicy": { "topics": "Delete" } });
        stage
            .apply(&stage.pipeline(&name, &topic, with_topics))
            .await?;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        stage
            .delete(&name)
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        stage.sweep(&name).await?;
        topics.push(topic);
    }
    at_rest(&stage, Duration::from_secs(4)).await?;
    for topic in topics {
        assert!(
            stage.kafka.offsets(&topic, 0).await.is_err(),
            "{topic} was left"
        );
    }
    let left = stage
        .all::<Deployment>()
        .list(&ListParams::default())
        .await?;
    assert!(left.items.is_empty(), "{:?}", left.items);
    assert!(operator.exited()?.is_none());
    Ok(())
}

#[tokio::test]
async fn tables_go_by_a_job_before_the_pipeline_does_when_the_policy_says_so() -> anyhow::Result<()>
{
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let with_tables = json!({ "deletionPolicy": { "tables": "Delete" } });
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), with_tables))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage
        .delete("shop")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let jobs = stage.all::<Job>().list(&ListParams::default()).await?;
    let commands: Vec<String> = jobs
        .iter()
        .filter_map(|job| job.spec.as_ref()?.template.spec.as_ref())
        .flat_map(|pod| pod.containers[0].args.iter().flatten().cloned())
        .collect();
    assert!(
        commands.iter().any(|argument| argument.contains("drop")),
        "{commands:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_ends_keeps_nobody_else_waiting_and_lets_its_pipelines_go()
-> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let going = Stage::new(Migrations::Succeed).await?;
    stage.rights.grant(&going.namespace).await?;
    let operator = stage.operator_with(&["--namespaces", &going.namespace])?;
    let all = json!({ "deletionPolicy": { "topics": "Delete", "tables": "Delete" } });
    let ended = unique_name("clicks");
    going.apply(&going.pipeline("ended", &ended, all)).await?;
    going
        .pipeline_when("ended", "taken up", |pipeline| pipeline.status.is_some())
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let namespaces: Api<Namespace> = Api::all(stage.client.clone());
    namespaces
        .delete(&going.namespace, &DeleteParams::default())
        .await?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    // what the namespace's controller would do
    going.sweep("ended").await?;
    going
        .delete("ended")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert!(going.kafka.offsets(&ended, 0).await.is_err());
    let failures = operator.log().matches("reconcile failed").count();
    assert!(
        failures < 15,
        "{failures} failures: {}",
        operator.log_tail()
    );
    Ok(())
}

#[tokio::test]
async fn an_autoscaler_moves_the_targets_that_follow_and_no_others() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let two = json!({ "targets": [
        { "name": "fixed", "schema": "one", "replicas": 1, "connection": { "secret": { "name": "postgres" } } },
        { "name": "moves", "schema": "two", "connection": { "secret": { "name": "postgres" } } },
    ] });
    stage.apply(&stage.pipeline("shop", &topic, two)).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let pipelines = stage.all::<ClickstreamPipeline>();
    let mut wanted = 2;
    let begun = Instant::now();
    let mut settled = 0;
    // a HorizontalPodAutoscaler: it reads what there is, and asks for one more until it has five
    while settled < 3 {
        let scale = pipelines.get_scale("shop").await?;
        let now = scale.status.clone().unwrap_or_default();
        assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(wanted));
        if now.replicas == wanted {
            let selector = now.selector.unwrap_or_default();
            assert!(
                selector.contains("clickstream.dev/target=moves"),
                "{selector}"
            );
            if wanted == 5 {
                settled += 1;
            } else {
                wanted += 1;
                let patch = json!({ "spec": { "replicas": wanted } });
                pipelines
                    .patch_scale("shop", &PatchParams::default(), &Patch::Merge(&patch))
                    .await?;
            }
        }
        anyhow::ensure!(
            begun.elapsed() < PATIENCE,
            "{} instead of {wanted}: {}",
            now.replicas,
            operator.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for deployment in stage.children::<Deployment>("shop", 2).await? {
        let target = &deployment.labels()["clickstream.dev/target"];
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        assert_eq!(
            replicas,
            Some(if target == "moves" { 5 } else { 1 }),
            "{target}"
        );
    }
    Ok(())
}

#[tokio::test]
#[ignore = "takes more than five minutes"]
async fn a_deletion_gives_up_on_a_kafka_that_is_gone_and_says_what_is_left() -> anyhow::Result<()> {
    let kafka = clickstream_testbed::Kafka::start(Default::default()).await?;
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let mut pipeline = stage.pipeline(
        "shop",
        &topic,
        json!({ "deletionPolicy": { "topics": "Delete" } }),
    );
    pipeline["spec"]["kafka"]["bootstrapServers"] = json!(kafka.bootstrap_servers());
    stage.apply(&pipeline).await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    drop(kafka);
    let pipelines = stage.all::<ClickstreamPipeline>();
    pipelines.delete("shop", &DeleteParams::default()).await?;
    let begun = Instant::now();
    while pipelines.get_opt("shop").await?.is_some() {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(360),
            "{}",
            operator.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let took = begun.elapsed();
    eprintln!("gave up after {took:?}");
    assert!(took > Duration::from_secs(290));
    let events = stage.events("shop").await?;
    assert!(
        events.contains(&"CleanupIncomplete".to_owned()),
        "{events:?}"
    );
    assert!(operator.log().contains(&topic));
    Ok(())
}
