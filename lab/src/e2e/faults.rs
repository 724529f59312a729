//! What is done to the pipeline, and what has to hold afterwards: events go on, and the resource
//! becomes Ready again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clickstream_protocol::annotations::ACKNOWLEDGED_GAPS;
use serde_json::{Value, json};

use super::RATE;
use super::plugin::Plugin;
use crate::kind::pipeline::{Pipeline, condition};
use crate::kind::stack::{NAMESPACE, RELEASE, kubectl, rolled_out};
use xtask::steps::Steps;

/// Enough records that they cannot have been under way already: three seconds of them.
const GOES_ON: i64 = 3 * RATE;

/// Records of one partition that Kafka drops: fewer than come in while they wait, of which a
/// quarter are that partition's.
const DROPPED: i64 = RATE / 4;

/// Longest time until events go on after a pod of ours died. Claims of a dead processor are taken
/// over after its session ends, which takes Kafka 45 s at most.
const AFTER_A_KILL: Duration = Duration::from_secs(90);

/// Scales the processors under load.
pub async fn scale(pipeline: &Pipeline<'_>, replicas: u32, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("scale");
    let since = Instant::now();
    let scaled = async {
        pipeline.scale(replicas).await?;
        loop {
            let deployment = pipeline.deployment().await?;
            let status = &deployment["status"];
            let all = json!(replicas);
            let whole = status["observedGeneration"] == deployment["metadata"]["generation"];
            if whole && status["readyReplicas"] == all && status["replicas"] == all {
                break;
            }
            let remark = format!("{} of {replicas} processors ready", status["readyReplicas"]);
            step.note(&remark);
            pipeline.patience(since, &remark).await?;
        }
        let ready = since.elapsed();
        pipeline.moves_by(GOES_ON).await?;
        Ok(ready)
    };
    step.during(scaled, |ready| {
        format!("{replicas} processors, after {:.1} s", ready.as_secs_f64())
    })
    .await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Kills one pod of a component: no grace, no commit, no goodbye.
pub async fn kill(pipeline: &Pipeline<'_>, component: &str, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("kill");
    let killed = async {
        let pods = pipeline.pods(component).await?;
        let pod = pods.first().with_context(|| format!("no {component}"))?;
        let cluster = pipeline.cluster();
        let delete = ["delete", "pod", pod, "--grace-period=0", "--force"];
        kubectl(cluster, &delete).await?;
        let took = pipeline.moves_by(GOES_ON).await?;
        ensure!(took <= AFTER_A_KILL, "events went on after {took:?} only");
        Ok((pod.clone(), took))
    };
    step.during(killed, |(pod, took)| {
        format!(
            "{pod}; {GOES_ON} more records {:.1} s later",
            took.as_secs_f64()
        )
    })
    .await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Deletes the pod of Kafka or PostgreSQL, which comes back with its data.
pub async fn server_deleted(
    pipeline: &Pipeline<'_>,
    pod: &str,
    steps: &Steps,
) -> anyhow::Result<()> {
    let step = steps.begin("server");
    let deleted = async {
        kubectl(pipeline.cluster(), &["delete", "pod", pod]).await?;
        pipeline.moves_by(GOES_ON).await
    };
    step.during(deleted, |took| {
        format!(
            "{pod} deleted; {GOES_ON} more records {:.1} s later",
            took.as_secs_f64()
        )
    })
    .await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Takes the operator away, kills a processor meanwhile, and brings it back.
pub async fn operator_away(
    pipeline: &Pipeline<'_>,
    period: Duration,
    steps: &Steps,
) -> anyhow::Result<()> {
    let step = steps.begin("operator");
    let deployment = format!("deployment/{RELEASE}");
    let cluster = pipeline.cluster();
    let away = async {
        let scale = |replicas: &'static str| {
            ["-n", NAMESPACE, "scale", &deployment, replicas].map(str::to_owned)
        };
        let ask = async |args: [String; 5]| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            kubectl(cluster, &args).await
        };
        ask(scale("--replicas=0")).await?;
        let since = Instant::now();
        let pods = pipeline.pods("processor").await?;
        let pod = pods.first().context("no processor")?;
        kubectl(
            cluster,
            &["delete", "pod", pod, "--grace-period=0", "--force"],
        )
        .await?;
        while since.elapsed() < period {
            pipeline.moves_by(GOES_ON).await?;
            step.note("away, and events go on");
        }
        ask(scale("--replicas=1")).await?;
        rolled_out(cluster, &deployment).await
    };
    step.during(away, |_| format!("away for {period:?}, events went on"))
        .await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Suspends the pipeline, looks that it rests, and resumes it.
pub async fn suspended(
    pipeline: &Pipeline<'_>,
    plugin: &Plugin,
    steps: &Steps,
) -> anyhow::Result<()> {
    let step = steps.begin("suspend");
    let since = Instant::now();
    let rest = async {
        let (cluster, name) = (pipeline.cluster(), pipeline.name());
        plugin.run(cluster, &["pause", name]).await?;
        pipeline.gone("producer").await?;
        pipeline.gone("processor").await?;
        loop {
            let object = pipeline.object().await?;
            let reason = condition(&object, "Ready").map(|ready| ready["reason"].clone());
            if reason == Some(json!("Suspended")) {
                break;
            }
            pipeline.patience(since, &format!("{reason:?}")).await?;
        }
        let before = pipeline.counts().await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        ensure!(
            before == pipeline.counts().await?,
            "events come in although it is suspended"
        );
        plugin.run(cluster, &["resume", name]).await?;
        pipeline.moves_by(GOES_ON).await
    };
    step.during(rest, |_| "rested, and went on".to_owned())
        .await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Deletes the resource and applies it again: it goes on where it stopped.
pub async fn deleted_and_applied(
    pipeline: &Pipeline<'_>,
    document: &Value,
    steps: &Steps,
) -> anyhow::Result<()> {
    let step = steps.begin("delete");
    let again = async {
        pipeline.delete().await?;
        let before = pipeline.counts().await?.consumed;
        ensure!(
            before > 0,
            "the tables went with the resource, which says Retain"
        );
        pipeline.apply(document).await?;
        pipeline.moves_by(GOES_ON).await?;
        let after = pipeline.counts().await?.consumed;
        ensure!(
            after >= before + GOES_ON,
            "{before} records before, {after} after"
        );
        Ok(before)
    };
    step.during(again, |before| format!("went on after {before} records"))
        .await?;
    pipeline.ready(steps).await.map(|_| ())
}

/// Has Kafka drop records that no processor has read yet, as its retention does after an outage
/// that was too long: the resource names the gap until somebody acknowledges it, and everything
/// else goes on.
pub async fn records_dropped(pipeline: &Pipeline<'_>, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("gap");
    let cluster = pipeline.cluster();
    let operator = format!("deployment/{RELEASE}");
    let lost = async {
        // nobody brings the processors back while records wait and are dropped
        let away = ["-n", NAMESPACE, "scale", &operator, "--replicas=0"];
        kubectl(cluster, &away).await?;
        pipeline.scale_deployment("processor", 0).await?;
        pipeline.gone("processor").await?;
        let next = pipeline.next_offset(0).await?;
        let since = Instant::now();
        let before = pipeline.produced().await?;
        while pipeline.produced().await? < before + GOES_ON {
            pipeline.patience(since, "records wait for nobody").await?;
        }
        pipeline.drop_records(0, next + DROPPED).await?;
        let back = ["-n", NAMESPACE, "scale", &operator, "--replicas=1"];
        kubectl(cluster, &back).await?;
        rolled_out(cluster, &operator).await?;

        let gap = format!(
            "{}/{}/0/{next}-{}",
            pipeline.target(),
            pipeline.topic(),
            next + DROPPED
        );
        let message = data_loss(pipeline, "True").await?;
        ensure!(message.contains(&gap), "no word of {gap}: {message}");
        pipeline.moves_by(GOES_ON).await?;
        pipeline.ready(steps).await?;
        pipeline.annotate(ACKNOWLEDGED_GAPS, &gap).await?;
        data_loss(pipeline, "False").await?;
        Ok(gap)
    };
    step.during(lost, |gap| {
        format!("{gap} was dropped, told by DataLossDetected, and acknowledged; events went on")
    })
    .await?;
    Ok(())
}

/// The message of DataLossDetected, once it has this status.
async fn data_loss(pipeline: &Pipeline<'_>, status: &str) -> anyhow::Result<String> {
    let since = Instant::now();
    loop {
        let object = pipeline.object().await?;
        let found = condition(&object, "DataLossDetected");
        if let Some(found) = found.filter(|found| found["status"] == status) {
            return Ok(found["message"].as_str().unwrap_or_default().to_owned());
        }
        let remark = format!("DataLossDetected is not {status}: {found:?}");
        pipeline.patience(since, &remark).await?;
    }
}

/// Stops the producer by the resource, and waits until everything is in PostgreSQL.
pub async fn producer_off(pipeline: &Pipeline<'_>, steps: &Steps) -> anyhow::Result<()> {
    pipeline
        .patch(&json!({ "spec": { "producer": { "enabled": false } } }))
        .await?;
    drained(pipeline, steps).await
}

/// Waits until the producer is gone and every record of the log has its verdict in PostgreSQL.
async fn drained(pipeline: &Pipeline<'_>, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("drain");
    let since = Instant::now();
    let drained = async {
        pipeline.gone("producer").await?;
        let produced = pipeline.produced().await?;
        loop {
            // positions, since Kafka may have dropped records that were never read
            let reached = pipeline.reached().await?;
            if reached == produced {
                return Ok(produced);
            }
            let remark = format!("{reached} of {produced} records");
            step.note(&remark);
            pipeline.patience(since, &remark).await?;
        }
    };
    step.during(drained, |produced| {
        format!("all {produced} records of the log")
    })
    .await?;
    Ok(())
}

/// Reads the log again and compares it with the tables.
pub async fn audited(
    pipeline: &Pipeline<'_>,
    plugin: &Plugin,
    steps: &Steps,
) -> anyhow::Result<()> {
    let step = steps.begin("audit");
    let audit = ["audit", pipeline.name()];
    let audited = plugin.run(pipeline.cluster(), &audit);
    step.during(audited, |report| {
        // the report's first line is its verdict
        report.lines().next().unwrap_or_default().to_owned()
    })
    .await
    .map(|_| ())
}
