//! Another release of the operator: pipelines roll to it in turn, whatever becomes of one of them.

mod pins;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_testbed::{Process, unique_name};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, ServiceAccount},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    pods::deployment,
    stage::{LOOK, Migrations, PATIENCE, Stage, condition},
};

const NEW: &str = "clickstream/processor:new";

/// The image that a pipeline's processors run.
async fn image(stage: &Stage, pipeline: &str) -> anyhow::Result<String> {
    let deployment = deployment(stage, pipeline).await?;
    let pod = deployment.spec.context("no spec")?.template.spec;
    let container = pod.context("no pod")?.containers.remove(0);
    container.image.context("no image")
}

async fn replicas(stage: &Stage, pipeline: &str) -> anyhow::Result<Option<i32>> {
    Ok(deployment(stage, pipeline)
        .await?
        .spec
        .and_then(|spec| spec.replicas))
}

/// Waits for something that only asking tells.
async fn until<F>(
    what: &str,
    operator: &Process,
    mut is_so: impl FnMut() -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let begun = Instant::now();
    while !is_so().await? {
        ensure!(
            begun.elapsed() < PATIENCE,
            "not {what}: {}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn runs(
    stage: &Stage,
    pipeline: &str,
    wanted: &str,
    operator: &Process,
) -> anyhow::Result<()> {
    until(&format!("{pipeline} on {wanted}"), operator, || async {
        Ok(image(stage, pipeline).await? == wanted)
    })
    .await
}

/// Two pipelines that are Ready, and the operator that made them ended. The names of their topics.
async fn two(stage: &Stage) -> anyhow::Result<[String; 2]> {
    let operator = stage.operator()?;
    let topics = [unique_name("clicks"), unique_name("clicks")];
    for (name, topic) in ["first", "second"].iter().zip(&topics) {
        stage.apply(&stage.pipeline(name, topic, json!({}))).await?;
    }
    for name in ["first", "second"] {
        stage
            .condition(name, "Ready", "True", "")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
    }
    operator.kill()?;
    Ok(topics)
}

/// Whether a pipeline rolls because of the operator, or has done so.
fn has_begun(pipeline: &ClickstreamPipeline) -> bool {
    json!(pipeline.status)["upgrade"] != Value::Null
}

/// Which one of the two rolls, and which one waits.
async fn turns(stage: &Stage, operator: &Process) -> anyhow::Result<(&'static str, &'static str)> {
    let pipelines = stage.all::<ClickstreamPipeline>();
    let begun = Instant::now();
    loop {
        let [first, second] = [
            pipelines.get("first").await?,
            pipelines.get("second").await?,
        ];
        let is_queued = |pipeline: &ClickstreamPipeline| {
            condition(pipeline, "DatabaseReady").is_some_and(|(_, reason, _)| reason == "Queued")
        };
        if has_begun(&first) && is_queued(&second) {
            return Ok(("first", "second"));
        }
        if has_begun(&second) && is_queued(&first) {
            return Ok(("second", "first"));
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "none waits: {}",
            operator.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
}

fn topic_of<'t>(topics: &'t [String; 2], name: &str) -> &'t str {
    &topics[usize::from(name == "second")]
}

#[tokio::test]
async fn one_that_is_deleted_in_the_middle_of_its_turn_holds_nobody_up() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    two(&stage).await?;
    stage.play(Migrations::Fail("a bad release"));
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    let (rolls, waits) = turns(&stage, &operator).await?;
    stage
        .condition(rolls, "DatabaseReady", "False", "MigrationFailed")
        .await?;
    let waiting = stage.condition(waits, "Ready", "True", "").await?;
    assert!(!has_begun(&waiting));
    // nothing holds it: no finalizer, and so no last look of the operator
    stage.delete(rolls).await?;
    stage.sweep(rolls).await?;
    stage.play(Migrations::Succeed);
    runs(&stage, waits, NEW, &operator).await?;
    let done = stage
        .pipeline_when(waits, "rolled", |pipeline| !has_begun(pipeline))
        .await?;
    let release = done.status.unwrap_or_default().release.unwrap_or_default();
    assert!(release.starts_with(env!("CARGO_PKG_VERSION")), "{release}");
    Ok(())
}

#[tokio::test]
async fn what_waits_is_scaled_rotated_and_restored_and_does_not_jump_the_queue()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let topics = two(&stage).await?;
    let old = image(&stage, "first").await?;
    stage.play(Migrations::Fail("a bad release"));
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    let (rolls, waits) = turns(&stage, &operator).await?;
    let hash = |deployment: &Deployment| {
        let template = deployment.spec.as_ref()?.template.metadata.clone()?;
        template
            .annotations?
            .get("clickstream.dev/secrets-hash")
            .cloned()
    };
    for name in [waits, rolls] {
        // twice: a change of the spec was once enough to go on with the release
        for wanted in [3, 4] {
            let more = json!({ "processor": { "replicas": wanted } });
            stage
                .apply(&stage.pipeline(name, topic_of(&topics, name), more))
                .await?;
            until("scaled", &operator, || async {
                Ok(replicas(&stage, name).await? == Some(wanted))
            })
            .await?;
        }
    }
    stage.condition(waits, "Ready", "True", "").await?;
    let before = deployment(&stage, waits).await?;
    assert_eq!(hash(&before), None);
    stage.postgres_secret("another").await?;
    for name in [waits, rolls] {
        until("rotated", &operator, || async {
            Ok(hash(&deployment(&stage, name).await?).is_some())
        })
        .await?;
    }
    // children that somebody deletes come back, with the image and the document that ran
    let document = |deployment: &Deployment| -> Option<String> {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        let mut volumes = pod.volumes.iter().flatten();
        volumes.find_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
    };
    let read = document(&before).context("no document")?;
    let account = ListParams::default().labels(&format!("clickstream.dev/pipeline={waits}"));
    stage
        .all::<ServiceAccount>()
        .delete_collection(&DeleteParams::default(), &account)
        .await?;
    stage
        .all::<ConfigMap>()
        .delete(&read, &DeleteParams::default())
        .await?;
    stage.children::<ServiceAccount>(waits, 1).await?;
    until("its document is there", &operator, || async {
        Ok(stage.all::<ConfigMap>().get_opt(&read).await?.is_some())
    })
    .await?;
    stage
        .all::<Deployment>()
        .delete(&before.name_any(), &DeleteParams::background())
        .await?;
    until("restored", &operator, || async {
        let found = stage
            .all::<Deployment>()
            .get_opt(&before.name_any())
            .await?;
        Ok(found.is_some_and(|found| found.uid() != before.uid()))
    })
    .await?;
    assert_eq!(image(&stage, waits).await?, old);
    assert_eq!(document(&deployment(&stage, waits).await?), Some(read));
    assert_eq!(image(&stage, rolls).await?, old);
    // another start of the operator forgets nothing
    operator.kill()?;
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    let more = json!({ "processor": { "replicas": 5 } });
    stage
        .apply(&stage.pipeline(waits, topic_of(&topics, waits), more))
        .await?;
    until("scaled", &operator, || async {
        Ok(replicas(&stage, waits).await? == Some(5))
    })
    .await?;
    assert!(!has_begun(
        &stage.all::<ClickstreamPipeline>().get(waits).await?
    ));
    assert_eq!(image(&stage, waits).await?, old);
    // a person ends the wait
    stage.play(Migrations::Succeed);
    stage.postgres_secret("a third").await?;
    for name in [rolls, waits] {
        runs(&stage, name, NEW, &operator).await?;
        stage.condition(name, "Ready", "True", "").await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_that_is_late_keeps_nobody_waiting_any_more() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    two(&stage).await?;
    stage.play(Migrations::Fail("a bad release"));
    let options = ["--processor-image", NEW, "--upgrade-deadline", "4"];
    let operator = stage.operator_with(&options)?;
    let (_, waits) = turns(&stage, &operator).await?;
    stage
        .pipeline_when(waits, "its turn", has_begun)
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    Ok(())
}

#[tokio::test]
async fn sick_ones_come_last_and_hold_no_place() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    two(&stage).await?;
    // the kubelets say so before the operator comes back
    let sick = deployment(&stage, "first").await?;
    stage.stop_playing();
    let none = json!({ "status": { "readyReplicas": 0, "availableReplicas": 0 } });
    stage
        .all::<Deployment>()
        .patch_status(
            &sick.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&none),
        )
        .await?;
    let operator = stage.operator()?;
    stage.condition("first", "Ready", "False", "").await?;
    operator.kill()?;
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    stage
        .pipeline_when("second", "its turn", has_begun)
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let sick = stage.all::<ClickstreamPipeline>().get("first").await?;
    assert!(!has_begun(&sick));
    stage.play(Migrations::Succeed);
    runs(&stage, "second", NEW, &operator).await?;
    runs(&stage, "first", NEW, &operator).await?;
    Ok(())
}

#[tokio::test]
async fn one_that_only_seems_ready_goes_last_and_its_status_says_so() -> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let topics = two(&stage).await?;
    let sick = deployment(&stage, "first").await?;
    stage.stop_playing();
    // of one processor, the old one still runs and the new one does not come up
    let operator = stage.operator()?;
    let one = json!({ "processor": { "replicas": 1 } });
    stage
        .apply(&stage.pipeline("first", topic_of(&topics, "first"), one))
        .await?;
    until("scaled", &operator, || async {
        Ok(replicas(&stage, "first").await? == Some(1))
    })
    .await?;
    operator.kill()?;
    let generation = deployment(&stage, "first").await?.metadata.generation;
    let stuck = json!({ "status": {
        "observedGeneration": generation,
        "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    } });
    stage
        .all::<Deployment>()
        .patch_status(
            &sick.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&stuck),
        )
        .await?;
    // as a release said that took the old processor for the new one
    let first = stage.all::<ClickstreamPipeline>().get("first").await?;
    let mut said = json!(first.status);
    for condition in said["conditions"].as_array_mut().context("no conditions")? {
        if condition["type"] == "Ready" {
            condition["status"] = json!("True");
            condition["reason"] = json!("Ready");
        }
    }
    stage
        .all::<ClickstreamPipeline>()
        .patch_status(
            "first",
            &PatchParams::default(),
            &Patch::Merge(&json!({ "status": said })),
        )
        .await?;
    let operator = stage.operator_with(&["--processor-image", NEW])?;
    let second = stage
        .pipeline_when("second", "its turn", has_begun)
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert_eq!(json!(second.status)["upgrade"]["wasReady"], true);
    let first = stage.condition("first", "Ready", "False", "").await?;
    assert!(!has_begun(&first));
    Ok(())
}

/// A processor that has ended so, as its kubelet tells.
async fn crash(stage: &Stage, name: &str, exit_code: i32, says: &str) -> anyhow::Result<()> {
    let deployment = deployment(stage, "shop").await?;
    let mut pod: Value = json!(deployment.spec.context("no spec")?.template);
    pod["metadata"]["name"] = json!(name);
    let pods = stage.all::<Pod>();
    if pods.get_opt(name).await?.is_none() {
        pods.create(&Default::default(), &serde_json::from_value(pod)?)
            .await?;
    }
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let ended = json!({ "status": { "phase": "Running", "containerStatuses": [{
        "name": "processor", "ready": false, "restartCount": 1, "image": "i", "imageID": "i",
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": exit_code, "message": says, "finishedAt": now } },
    }] } });
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&ended))
        .await?;
    Ok(())
}

async fn attempts(stage: &Stage) -> anyhow::Result<usize> {
    let jobs = stage.all::<Job>().list(&ListParams::default()).await?;
    Ok(jobs.items.len())
}

#[tokio::test]
async fn a_schema_that_is_gone_or_old_again_is_migrated_again_and_not_all_the_time()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    stage
        .apply(&stage.pipeline("shop", &unique_name("clicks"), json!({})))
        .await?;
    stage
        .condition("shop", "Ready", "True", "")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    assert_eq!(attempts(&stage).await?, 1);
    // the pause after the migration before
    tokio::time::sleep(Duration::from_secs(11)).await;
    stage.stop_playing();
    let says = "error: schema \"clickstream\" is not there yet: run `clickstream-processor migrate` with the same pipeline and target\n";
    crash(&stage, "p-0", 1, says).await?;
    let told = stage
        .condition("shop", "DatabaseReady", "False", "Migrating")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    let (_, _, message) = condition(&told, "DatabaseReady").unwrap_or_default();
    assert!(message.contains("is not there yet"), "{message}");
    until("another Job", &operator, || async {
        Ok(attempts(&stage).await? == 2)
    })
    .await?;
    let record =
        |pipeline: &ClickstreamPipeline| json!(pipeline.status)["targets"][0]["migration"].clone();
    assert_eq!(record(&told), Value::Null);
    stage.play(Migrations::Succeed);
    stage
        .pipeline_when("shop", "migrated again", |pipeline| {
            record(pipeline) != Value::Null
        })
        .await?;
    // it finds the same at once, in the next of the seconds that Kubernetes counts: another
    // migration waits, and says so
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    crash(&stage, "p-0", 6, says).await?;
    let told = stage
        .condition("shop", "DatabaseReady", "False", "MigrationFailed")
        .await?;
    let (_, _, message) = condition(&told, "DatabaseReady").unwrap_or_default();
    assert!(message.contains("a processor has found since"), "{message}");
    assert_eq!(attempts(&stage).await?, 2);
    Ok(())
}

#[tokio::test]
async fn canaries_roll_first_and_a_broken_one_stops_the_others_whatever_the_deadline()
-> anyhow::Result<()> {
    let mut stage = Stage::new(Migrations::Succeed).await?;
    two(&stage).await?;
    let label = json!({ "metadata": { "labels": { "tier": "canary" } } });
    stage
        .all::<ClickstreamPipeline>()
        .patch("second", &PatchParams::default(), &Patch::Merge(&label))
        .await?;
    stage.play(Migrations::Fail("a bad release"));
    let old = image(&stage, "first").await?;
    let operator = stage.operator_with(&[
        "--processor-image",
        NEW,
        "--upgrade-canaries",
        "tier=canary",
        "--upgrade-deadline",
        "1",
    ])?;
    stage
        .condition("second", "DatabaseReady", "False", "MigrationFailed")
        .await
        .map_err(|error| error.context(operator.log_tail()))?;
    // longer than anybody waits for a pipeline that is no canary
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waits = stage
        .condition("first", "DatabaseReady", "True", "Queued")
        .await?;
    let (_, _, said) = condition(&waits, "DatabaseReady").unwrap_or_default();
    assert!(
        said.contains(&format!("the canary {}/second", stage.namespace)),
        "{said}"
    );
    assert_eq!(image(&stage, "first").await?, old);
    assert!(!has_begun(&waits));
    stage.play(Migrations::Succeed);
    runs(&stage, "second", NEW, &operator).await?;
    runs(&stage, "first", NEW, &operator).await
}
