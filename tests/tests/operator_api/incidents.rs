//! What people ask of the operator in an incident, by annotations and by the plugin that writes
//! them.

use std::time::Duration;

use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::unique_name;
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Service};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    plugin::{EDIT, Person, VIEW, ready},
    processor::{Processor, running},
    stage::{LOOK, Migrations, PATIENCE, Stage, condition},
};

/// Long enough for an operator that would do something to have done it.
const QUIET: Duration = Duration::from_secs(4);

async fn annotate(stage: &Stage, name: &str, annotations: Value) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": annotations } });
    stage
        .all::<ClickstreamPipeline>()
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

/// The spec of the only Deployment.
async fn deployed(stage: &Stage, name: &str) -> anyhow::Result<Value> {
    let deployment = stage.children::<Deployment>(name, 1).await?.remove(0);
    Ok(json!(deployment.spec))
}

async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "not {what}");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_paused_operator_changes_nothing_and_goes_on_telling() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    let spec = |replicas: u32, partitions: u32, readers: &[&str]| {
        let mut pipeline = stage.pipeline(
            "shop",
            &topic,
            json!({ "processor": { "replicas": replicas, "lagTarget": 10 }, "topics": [{ "name": topic, "partitions": partitions }] }),
        );
        pipeline["spec"]["targets"][0]["readers"] = json!(readers);
        pipeline
    };
    stage.apply(&spec(2, 3, &[])).await?;
    let processor = Processor::start(&stage, "shop", "p-0", running(&topic, &[0, 1, 2])).await?;
    stage
        .condition("shop", "LagWithinTarget", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    stage.condition("shop", "Ready", "True", "Ready").await?;
    let before = deployed(&stage, "shop").await?;

    annotate(
        &stage,
        "shop",
        json!({ "clickstream.dev/reconcile": "paused" }),
    )
    .await?;
    let paused = stage.condition("shop", "Paused", "True", "Paused").await?;
    // what is as it should be is so while nobody may change it
    assert_eq!(
        condition(&paused, "Ready").map(|said| said.0).as_deref(),
        Some("True")
    );

    // everything that the operator would follow without a migration: the spec, a Secret, a child
    // that is gone
    stage.apply(&spec(4, 3, &[])).await?;
    stage.postgres_secret("rotated").await?;
    let service = stage.children::<Service>("shop", 1).await?.remove(0);
    stage
        .all::<Service>()
        .delete(&service.name_any(), &DeleteParams::default())
        .await?;
    stage
        .condition("shop", "ProcessorsAvailable", "False", "Paused")
        .await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(deployed(&stage, "shop").await?, before);
    stage.children::<Service>("shop", 0).await?;

    // and a topic and the tables
    stage.apply(&spec(4, 5, &["analyst"])).await?;
    stage
        .condition("shop", "TopicsReady", "False", "Paused")
        .await?;
    stage
        .condition("shop", "DatabaseReady", "False", "Paused")
        .await?;
    stage
        .condition("shop", "ProcessorsAvailable", "False", "")
        .await?;
    let held = stage.condition("shop", "Ready", "False", "Paused").await?;
    assert_eq!(
        condition(&held, "Reconciling")
            .map(|said| said.0)
            .as_deref(),
        Some("False")
    );
    // the status goes on
    let mut behind = running(&topic, &[0, 1, 2]);
    behind["partitions"][1]["lag"] = json!(50);
    processor.says(behind).await?;
    stage
        .condition("shop", "LagWithinTarget", "False", "Lagging")
        .await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(deployed(&stage, "shop").await?, before);
    stage.children::<Service>("shop", 0).await?;
    stage.children::<Job>("shop", 1).await?;
    let now = stage.condition("shop", "Paused", "True", "").await?;
    let topics = now.status.map(|status| status.topics).unwrap_or_default();
    assert_eq!(topics[0].partitions, Some(3));

    annotate(&stage, "shop", json!({ "clickstream.dev/reconcile": null })).await?;
    let resumed = stage
        .pipeline_when("shop", "followed again", |pipeline| {
            let status = pipeline.status.as_ref();
            let partitions = status.and_then(|status| status.topics.first()?.partitions);
            condition(pipeline, "Paused").is_none() && partitions == Some(5)
        })
        .await?;
    assert_eq!(resumed.metadata.generation, now.metadata.generation);
    until("4 replicas", async || {
        Ok((deployed(&stage, "shop").await?["replicas"] == 4).then_some(()))
    })
    .await?;
    stage.children::<Service>("shop", 1).await?;
    for reason in ["Paused", "Resumed"] {
        let told = async || {
            let events = stage.events("shop").await?;
            Ok(events.contains(&reason.to_owned()).then_some(()))
        };
        until(reason, told).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_operator_that_starts_anew_changes_nothing_either() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = ready(&stage).await?;
    annotate(
        &stage,
        "web",
        json!({ "clickstream.dev/reconcile": "paused" }),
    )
    .await?;
    stage.condition("web", "Paused", "True", "Paused").await?;
    drop(operator);
    let version = |found: &Deployment| found.resource_version();
    let before = version(&stage.children::<Deployment>("web", 1).await?[0]);
    // another release, which would migrate the tables and replace the pods
    let _operator = stage.operator_with(&["--processor-image", "processor:next"])?;
    stage
        .condition("web", "DatabaseReady", "False", "Paused")
        .await?;
    tokio::time::sleep(QUIET).await;
    assert_eq!(
        version(&stage.children::<Deployment>("web", 1).await?[0]),
        before
    );
    stage.children::<Job>("web", 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_pause_that_is_written_wrongly_is_told() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = ready(&stage).await?;
    annotate(
        &stage,
        "web",
        json!({ "clickstream.dev/reconcile": "Disabled" }),
    )
    .await?;
    let told = stage
        .condition("web", "Paused", "False", "UnknownValue")
        .await?;
    let message = condition(&told, "Paused").unwrap_or_default().2;
    assert!(
        message.contains("Disabled") && message.contains("paused"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_to_be_deleted_stays_while_the_operator_is_paused() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let policy = json!({ "deletionPolicy": { "topics": "Delete" } });
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), policy))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    annotate(
        &stage,
        "shop",
        json!({ "clickstream.dev/reconcile": "paused" }),
    )
    .await?;
    stage.condition("shop", "Paused", "True", "").await?;
    let pipelines = stage.all::<ClickstreamPipeline>();
    pipelines.delete("shop", &DeleteParams::default()).await?;
    tokio::time::sleep(QUIET).await;
    assert!(pipelines.get_opt("shop").await?.is_some());
    stage.children::<Deployment>("shop", 1).await?;
    annotate(&stage, "shop", json!({ "clickstream.dev/reconcile": null })).await?;
    until("deleted", async || {
        Ok(pipelines.get_opt("shop").await?.is_none().then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_editor_restarts_migrates_and_reconciles_and_hears_when_it_is_done() -> anyhow::Result<()>
{
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let changes = json!({ "producer": { "enabled": true } });
    stage
        .apply(&stage.pipeline("web", &unique_name("clicks"), changes))
        .await?;
    stage
        .condition("web", "Ready", "True", "Ready")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let editor = Person::with(&stage, &[VIEW, EDIT]).await?;

    let (code, said, err) = editor.types(&["reconcile", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    assert!(
        said.contains("was looked at anew") && said.contains("Ready is True"),
        "{said}"
    );

    let (code, said, err) = editor.types(&["restart", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    // the answer comes when it is done, not before
    for deployment in stage.children::<Deployment>("web", 2).await? {
        let template = json!(deployment.spec)["template"]["metadata"]["annotations"].clone();
        let at = template["clickstream.dev/restart-at"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(at.ends_with('Z'), "{}: {template}", deployment.name_any());
    }
    stage.condition("web", "Ready", "True", "Ready").await?;

    let hash = |pipeline: &ClickstreamPipeline| {
        json!(pipeline.status)["targets"][0]["migration"]["hash"].clone()
    };
    let pipelines = stage.all::<ClickstreamPipeline>();
    let before = hash(&pipelines.get("web").await?);
    let (code, said, err) = editor.types(&["migrate", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    let again = stage
        .pipeline_when("web", "migrated again", |pipeline| hash(pipeline) != before)
        .await?;
    stage.condition("web", "Ready", "True", "Ready").await?;
    assert_eq!(again.metadata.generation, Some(1));

    // whoever only looks may not
    let viewer = Person::with(&stage, &[VIEW]).await?;
    for verb in ["reconcile", "restart", "migrate"] {
        let (code, out, err) = viewer.types(&[verb, "web"]).await?;
        assert_eq!((code, out.as_str()), (1, ""), "{verb}: {err}");
        assert!(
            err.contains("forbidden") && err.contains("docs/plugin.md"),
            "{err}"
        );
    }
    let (code, _, err) = editor.types(&["restart", "shop"]).await?;
    assert!(code == 1 && err.contains("no pipeline shop"), "{err}");

    // nobody answers
    drop(operator);
    let (code, _, err) = editor
        .types(&["reconcile", "web", "--timeout", "1"])
        .await?;
    assert!(
        code == 5 && err.contains("no operator has answered within 1 s"),
        "{code} {err}"
    );
    let (code, said, _) = editor.types(&["restart", "web", "--timeout", "0"]).await?;
    assert_eq!(code, 0, "{said}");
    Ok(())
}

#[tokio::test]
async fn an_editor_pauses_the_operator_and_lets_it_go_on() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let _operator = ready(&stage).await?;
    let editor = Person::with(&stage, &[VIEW, EDIT]).await?;
    let (code, said, err) = editor.types(&["reconcile", "web", "--pause"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    assert!(
        said.contains("Paused is True") && said.contains("--resume"),
        "{said}"
    );
    for verb in ["restart", "migrate"] {
        let (code, _, err) = editor.types(&[verb, "web"]).await?;
        assert!(code == 1 && err.contains("reconcile web --resume"), "{err}");
    }
    let (code, said, _) = editor.types(&["reconcile", "web", "--resume"]).await?;
    assert!(
        code == 0 && said.contains("follows the spec again"),
        "{said}"
    );
    let (code, said, err) = editor.types(&["restart", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_editor_accepts_a_loss_by_name_or_all_of_it() -> anyhow::Result<()> {
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("web", &topic, json!({})))
        .await?;
    let mut lossy = running(&topic, &[0, 1, 2]);
    lossy["partitions"][0]["gaps"] = json!([[1200, 1500]]);
    // more than the status names at a time
    let many: Vec<[i64; 2]> = (100..200).map(|n| [n * 10, n * 10 + 1]).collect();
    lossy["partitions"][1]["gaps"] = json!(many);
    let _processor = Processor::start(&stage, "web", "p-0", lossy).await?;
    stage
        .condition("web", "DataLossDetected", "True", "RecordsLost")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let editor = Person::with(&stage, &[VIEW, EDIT]).await?;
    let gap = format!("default/{topic}/0/1200-1500");

    let (code, said, err) = editor.types(&["accept-loss", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        said.contains(&format!("{gap}  300 records")) && said.contains("--all"),
        "{said}"
    );
    let (code, _, err) = editor
        .types(&["accept-loss", "web", "default/x/0/1-2"])
        .await?;
    assert!(code == 1 && err.contains(&gap), "{err}");

    let (code, said, err) = editor.types(&["accept-loss", "web", &gap]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    assert!(said.contains("acknowledged: 1 gap"), "{said}");
    let (code, said, err) = editor.types(&["accept-loss", "web", "--all"]).await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    assert!(said.contains("acknowledged: 100 gaps"), "{said}");
    let over = stage
        .condition("web", "DataLossDetected", "False", "NoLoss")
        .await?;
    let names = over.annotations()["clickstream.dev/acknowledged-gaps"]
        .split(',')
        .count();
    assert_eq!(names, 101);
    let (_, said, _) = editor.types(&["accept-loss", "web", "--all"]).await?;
    assert!(said.contains("nothing is lost"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_editor_takes_the_schema_of_a_pipeline_over_that_is_gone() -> anyhow::Result<()> {
    const REFUSAL: &str = "SchemaOwnedElsewhere: schema \"clickstream\" belongs to pipeline old/web of cluster c-1. Two pipelines never share a schema: set another targets[].schema";
    let mut stage = Stage::new(Migrations::Fail(REFUSAL)).await?;
    let operator = stage.operator()?;
    let topic = unique_name("clicks");
    stage
        .apply(&stage.pipeline("web", &topic, json!({})))
        .await?;
    stage
        .condition("web", "DatabaseReady", "False", "MigrationFailed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let editor = Person::with(&stage, &[VIEW, EDIT]).await?;
    let (code, said, err) = editor.types(&["take-over", "web"]).await?;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(said.contains("take-over web --from old/web@c-1"), "{said}");

    // one that is there is not gone
    stage
        .apply(&stage.pipeline("other", &unique_name("clicks"), json!({ "suspend": true })))
        .await?;
    let other = format!("{}/other", stage.namespace);
    let (code, _, err) = editor
        .types(&["take-over", "web", "--from", &other])
        .await?;
    assert!(code == 1 && err.contains("still exists"), "{err}");
    let (code, _, err) = editor.types(&["take-over", "web", "--from", "old"]).await?;
    assert!(code == 1 && err.contains("NAMESPACE/NAME"), "{err}");

    stage.play(Migrations::Succeed);
    let (code, said, err) = editor
        .types(&["take-over", "web", "--from", "old/web@c-1"])
        .await?;
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    stage.condition("web", "Ready", "True", "").await?;
    let jobs = stage
        .all::<Job>()
        .list(&kube::api::ListParams::default().labels("clickstream.dev/pipeline=web"))
        .await?;
    let told = |job: &Job| {
        let spec = json!(job.spec);
        let env = spec["template"]["spec"]["containers"][0]["env"].clone();
        let mut env = env.as_array().cloned().unwrap_or_default().into_iter();
        env.any(|variable| {
            variable == json!({ "name": "CLICKSTREAM_TAKE_OVER_FROM", "value": "old/web@c-1" })
        })
    };
    assert!(jobs.items.iter().any(told), "{jobs:?}");
    let (_, said, _) = editor.types(&["take-over", "web"]).await?;
    assert!(said.contains("no migration says"), "{said}");
    Ok(())
}
