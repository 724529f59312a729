//! From another release to this one, under load: every pipeline rolls in its turn, a sick one keeps
//! nobody waiting, a pinned one keeps its pods, and nothing is lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::faults;
use super::plugin::Plugin;
use crate::kind::cluster::Cluster;
use crate::kind::pipeline::{Pipeline, condition};
use crate::kind::stack::{self, Release, kubectl};
use crate::program;
use crate::revision::Revision;
use xtask::args::E2eArgs;
use xtask::images::{self, Recipe, SERVICES, engine};
use xtask::steps::Steps;

/// Events a second of each pipeline: two busy cores carry three of them beside two versions of
/// everything.
const RATE: i64 = 200;

/// The Secret that the sick pipeline's processors sign in with.
const SECRET: &str = "sick-postgres";

/// How long the pinned pods are watched when all others have rolled.
const WATCHED: Duration = Duration::from_secs(20);

/// The three pipelines.
struct Fleet<'c> {
    healthy: Pipeline<'c>,
    pinned: Pipeline<'c>,
    sick: Pipeline<'c>,
}

/// Runs the test on a cluster that has servers, and this release's images in the container engine.
///
/// # Errors
/// Something is not as it should be.
pub async fn test(
    args: &E2eArgs,
    from: &str,
    cluster: &Cluster,
    plugin: &Plugin,
    steps: &Steps,
) -> anyhow::Result<()> {
    let before = build(from, steps).await?;
    let tag = tag(&before);
    let of_before = SERVICES.map(|service| images::name(service, &tag));
    stack::load(cluster, &of_before, steps).await?;
    stack::load(cluster, &args.sources.names(), steps).await?;
    let release = Release::of_another(before.tree(), &tag);
    stack::operator(cluster, &release, steps).await?;

    let secret = kubectl(cluster, &["get", "secret", "postgres", "--output=json"]).await?;
    let good = serde_json::from_str::<Value>(&secret)?["data"].clone();
    sign_in(cluster, &good).await?;
    let documents = documents(&tag)?;
    let [healthy, pinned, sick] = &documents;
    let fleet = Fleet {
        healthy: Pipeline::new(cluster, healthy)?,
        pinned: Pipeline::new(cluster, pinned)?,
        sick: Pipeline::new(cluster, sick)?,
    };
    for (pipeline, document) in fleet.all().into_iter().zip(&documents) {
        pipeline.apply(document).await?;
    }
    for pipeline in fleet.all() {
        pipeline.ready(steps).await?;
        pipeline.moves_by(5 * RATE).await?;
    }
    let mut wrong = good.clone();
    // "wrong"
    wrong["password"] = json!("d3Jvbmc=");
    sign_in(cluster, &wrong).await?;
    fleet.falls_sick(steps).await?;

    let pods = pods(&fleet.pinned).await?;
    stack::operator(cluster, &Release::of(&args.sources), steps).await?;
    fleet.healthy_rolls(&args.sources.tag, steps).await?;
    sign_in(cluster, &good).await?;
    fleet.sick_recovers(&args.sources.tag, steps).await?;
    fleet.pinned_stays(&pods, steps).await?;
    for pipeline in fleet.all() {
        faults::producer_off(pipeline, steps).await?;
        faults::audited(pipeline, plugin, steps).await?;
    }
    Ok(())
}

/// The other release's images, under a tag of their own. Its programs speak no TLS to Kafka, which
/// nothing here uses.
async fn build(from: &str, steps: &Steps) -> anyhow::Result<Revision> {
    let (from, steps) = (from.to_owned(), steps.clone());
    let build = move || {
        let revision = Revision::unpacked(&from)?;
        // a commit's images do not change
        if SERVICES
            .iter()
            .all(|service| engine::has(&images::name(service, &tag(&revision))))
        {
            return Ok(revision);
        }
        let recipe = Recipe {
            tag: tag(&revision),
            tls: false,
            tree: revision.tree().to_owned(),
        };
        images::build(&recipe, &steps)?;
        Ok(revision)
    };
    tokio::task::spawn_blocking(build).await?
}

fn tag(revision: &Revision) -> String {
    format!("from-{}", revision.id())
}

/// The quickstart three times: as it is, pinned to the images with this tag, and with a Secret of
/// its own.
fn documents(tag: &str) -> anyhow::Result<[Value; 3]> {
    let named = |name: &str| {
        let mut document = Pipeline::quickstart()?;
        document["metadata"]["name"] = json!(name);
        let spec = &mut document["spec"];
        spec["topics"] = json!([{ "name": format!("{name}-clicks") }]);
        spec["targets"][0]["schema"] = json!(name);
        spec["processor"] = json!({ "replicas": 1 });
        spec["producer"]["rate"] = json!(RATE);
        anyhow::Ok(document)
    };
    let (healthy, mut pinned, mut sick) = (named("healthy")?, named("pinned")?, named("sick")?);
    pinned["spec"]["image"] = json!(images::name("processor", tag));
    pinned["spec"]["producer"]["image"] = json!(images::name("producer", tag));
    sick["spec"]["targets"][0]["connection"]["secret"]["name"] = json!(SECRET);
    Ok([healthy, pinned, sick])
}

/// What the sick pipeline signs in with from now on.
async fn sign_in(cluster: &Cluster, data: &Value) -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET }, "data": data,
    });
    let mut apply = cluster.kubectl();
    apply.args(["apply", "--filename", "-"]);
    program::fed(&mut apply, &secret.to_string())
        .await
        .map(|_| ())
}

/// The pods of a pipeline, whichever component they are of, as `name uid restarts`.
async fn pods(pipeline: &Pipeline<'_>) -> anyhow::Result<Vec<String>> {
    let selector = format!("--selector=clickstream.dev/pipeline={}", pipeline.name());
    let columns = "--output=jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[0].restartCount} {.metadata.labels.app\\.kubernetes\\.io/component}{\"\\n\"}{end}";
    let said = kubectl(pipeline.cluster(), &["get", "pods", &selector, columns]).await?;
    let serving = |line: &&str| line.ends_with(" processor") || line.ends_with(" producer");
    Ok(said.lines().filter(serving).map(str::to_owned).collect())
}

impl Fleet<'_> {
    const fn all(&self) -> [&Pipeline<'_>; 3] {
        [&self.healthy, &self.pinned, &self.sick]
    }

    /// Its next processor does not come up; the one before goes on.
    async fn falls_sick(&self, steps: &Steps) -> anyhow::Result<()> {
        let step = steps.begin("sick");
        let since = Instant::now();
        let falls = async {
            loop {
                let status = self.sick.deployment().await?["status"].clone();
                if status["unavailableReplicas"].as_i64() > Some(0) {
                    return Ok(status["unavailableReplicas"].clone());
                }
                let remark = "its processors still know the password";
                step.note(remark);
                self.sick.patience(since, remark).await?;
            }
        };
        step.during(falls, |count| {
            format!("{count} processor that PostgreSQL does not let in")
        })
        .await
        .map(|_| ())
    }

    /// While the sick one is sick.
    async fn healthy_rolls(&self, tag: &str, steps: &Steps) -> anyhow::Result<()> {
        let took = rolls(&self.healthy, tag, steps).await?;
        ensure!(!is_ready(&self.sick).await?, "the sick pipeline is Ready");
        self.healthy.moves_by(5 * RATE).await?;
        self.healthy.ready(steps).await?;
        steps.say(&format!(
            "the healthy pipeline has rolled {:.1} s after the operator, and the sick one is still sick",
            took.as_secs_f64()
        ));
        Ok(())
    }

    async fn sick_recovers(&self, tag: &str, steps: &Steps) -> anyhow::Result<()> {
        rolls(&self.sick, tag, steps).await?;
        self.sick.moves_by(5 * RATE).await?;
        self.sick.ready(steps).await.map(|_| ())
    }

    async fn pinned_stays(&self, before: &[String], steps: &Steps) -> anyhow::Result<()> {
        let step = steps.begin("pinned");
        let since = Instant::now();
        let stays = async {
            ensure!(
                before.len() == 2,
                "a processor and a producer, not {before:?}"
            );
            while since.elapsed() < WATCHED {
                let now = pods(&self.pinned).await?;
                ensure!(now == before, "its pods were {before:?}, and are {now:?}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.pinned.moves_by(5 * RATE).await
        };
        step.during(stays, |_| {
            "the same pods as before, and events go on".to_owned()
        })
        .await?;
        self.pinned.ready(steps).await.map(|_| ())
    }
}

async fn is_ready(pipeline: &Pipeline<'_>) -> anyhow::Result<bool> {
    let object = pipeline.object().await?;
    let ready = condition(&object, "Ready").context("no condition Ready")?;
    Ok(ready["status"] == "True")
}

/// Waits until all processors run the image with this tag.
async fn rolls(pipeline: &Pipeline<'_>, tag: &str, steps: &Steps) -> anyhow::Result<Duration> {
    let step = steps.begin("rolls");
    let since = Instant::now();
    let image = json!(images::name("processor", tag));
    let rolls = async {
        loop {
            let deployment = pipeline.deployment().await?;
            let (status, spec) = (&deployment["status"], &deployment["spec"]);
            let whole = status["observedGeneration"] == deployment["metadata"]["generation"]
                && status["updatedReplicas"] == spec["replicas"]
                && status["replicas"] == spec["replicas"];
            if whole && spec["template"]["spec"]["containers"][0]["image"] == image {
                return Ok(since.elapsed());
            }
            let remark = pipeline.remark().await;
            step.note(&remark);
            pipeline.patience(since, &remark).await?;
        }
    };
    step.during(rolls, |_| format!("{} runs {image}", pipeline.name()))
        .await
}
