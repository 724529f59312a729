//! What runs on the cluster: the quickstart's servers, and the operator from its chart.

use std::path::{Path, PathBuf};

use super::cluster::{Cluster, Configuration};
use crate::program;
use clickstream_tools::workspace_root;
use xtask::args::Sources;
use xtask::images::{self, engine};
use xtask::steps::Steps;

/// The namespace of the operator.
pub const NAMESPACE: &str = "clickstream-system";

/// The Helm release, and with it the operator's Deployment.
pub const RELEASE: &str = "clickstream-operator";

/// The chart's folder, in every release.
const CHART: &str = "charts/clickstream-operator";

/// A chart, and its values that differ from its defaults.
#[derive(Clone, Debug)]
pub struct Release {
    /// The chart's folder.
    chart: PathBuf,
    /// Of text, however much they look like numbers.
    texts: Vec<String>,
    /// Of whatever type they look like.
    values: Vec<String>,
}

impl Release {
    /// With the images of these sources.
    #[must_use]
    pub fn of(sources: &Sources) -> Self {
        Self {
            chart: workspace_root().join(CHART),
            texts: tags(&sources.tag),
            values: vec![
                // the images are loaded into the nodes, and in no registry
                "image.local=true".to_owned(),
                // the cluster is this program's own
                "watchAllNamespaces=true".to_owned(),
            ],
        }
    }

    /// Another release, by the values that every release knows.
    #[must_use]
    pub fn of_another(tree: &Path, tag: &str) -> Self {
        Self {
            chart: tree.join(CHART),
            texts: tags(tag),
            values: Vec::new(),
        }
    }

    /// With another value.
    #[must_use]
    pub fn with(mut self, path: &str, value: &str) -> Self {
        self.values.push(format!("{path}={value}"));
        self
    }
}

/// The values for images with this tag.
fn tags(tag: &str) -> Vec<String> {
    let images = [
        "image",
        "pipelines.processor.image",
        "pipelines.producer.image",
        "console.image",
    ];
    images.map(|image| format!("{image}.tag={tag}")).to_vec()
}

/// Builds our images, unless that is not wished for.
///
/// # Errors
/// The build fails, or an image is missing that shall not be built.
pub async fn build(sources: &Sources, steps: &Steps) -> anyhow::Result<()> {
    let (sources, steps) = (sources.clone(), steps.clone());
    let build = move || {
        if let Some(recipe) = sources.recipe() {
            return images::build(&recipe, &steps).map(|_| ());
        }
        for name in sources.names() {
            anyhow::ensure!(
                engine::has(&name),
                "--no-build: the container engine has no {name}; `cargo xtask images` builds it"
            );
        }
        Ok(())
    };
    tokio::task::spawn_blocking(build).await?
}

/// The cluster itself, with the images that the environment names.
///
/// # Errors
/// It cannot be created.
pub async fn create(
    cluster: &Cluster,
    configuration: &Configuration,
    steps: &Steps,
) -> anyhow::Result<()> {
    let step = steps.begin("cluster");
    step.during(cluster.create(configuration), |how| {
        format!("{} {how}", cluster.context())
    })
    .await?;
    let step = steps.begin("archives");
    step.during(cluster.load_archives(), |count| {
        format!("{count} image archives loaded")
    })
    .await?;
    Ok(())
}

/// Kafka, PostgreSQL and Adminer, until they answer.
///
/// # Errors
/// They do not come up; the message holds what the cluster says.
pub async fn servers(cluster: &Cluster, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("servers");
    let servers = async {
        kubectl(cluster, &["apply", "-k", "manifests/quickstart"]).await?;
        for server in [
            "statefulset/postgres",
            "statefulset/kafka",
            "deployment/adminer",
        ] {
            step.note(server);
            let waited = kubectl(cluster, &["rollout", "status", server, "--timeout=300s"]).await;
            if let Err(error) = waited {
                anyhow::bail!("{error:#}\n{}", state(cluster).await);
            }
        }
        Ok(())
    };
    step.during(servers, |()| {
        "Kafka, PostgreSQL and Adminer answer".to_owned()
    })
    .await
}

/// Copies our images into the cluster.
///
/// # Errors
/// The container engine does not have them.
pub async fn load(cluster: &Cluster, images: &[String], steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("load");
    step.during(cluster.load(images), |()| images.join(", "))
        .await
}

/// The operator, until it is ready. One that runs already is restarted: its image may have changed
/// under the same name.
///
/// # Errors
/// It does not become ready; the message holds what the cluster says.
pub async fn operator(cluster: &Cluster, release: &Release, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("operator");
    let install = async {
        let mut helm = cluster.helm();
        helm.args(["upgrade", "--install", RELEASE])
            .arg(&release.chart)
            .args(["--namespace", NAMESPACE, "--create-namespace"])
            .args(["--wait", "--timeout", "180s"])
            .arg("--set-string")
            .arg(release.texts.join(","));
        for value in &release.values {
            helm.arg("--set").arg(value);
        }
        let deployment = format!("deployment/{RELEASE}");
        let in_place = ["-n", NAMESPACE, "get", &deployment];
        let was_there = kubectl(cluster, &in_place).await.is_ok();
        let installed = program::output(&mut helm).await;
        if let Err(error) = installed {
            anyhow::bail!("{error:#}\n{}", state(cluster).await);
        }
        if was_there {
            kubectl(
                cluster,
                &["-n", NAMESPACE, "rollout", "restart", &deployment],
            )
            .await?;
        }
        rolled_out(cluster, &deployment).await
    };
    step.during(install, |_| format!("release {RELEASE} in {NAMESPACE}"))
        .await?;
    Ok(())
}

/// Waits until all pods of one of the operator's Deployments are of its newest version.
///
/// # Errors
/// They do not come up within two minutes.
pub async fn rolled_out(cluster: &Cluster, deployment: &str) -> anyhow::Result<String> {
    let status = ["rollout", "status", deployment, "--timeout=120s"];
    kubectl(cluster, &[&["-n", NAMESPACE][..], &status].concat()).await
}

/// `kubectl` with these arguments, its output.
///
/// # Errors
/// It fails; the message holds what it said.
pub async fn kubectl(cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
    program::output(cluster.kubectl().args(args)).await
}

/// What the cluster says about pods, recent events and the operator, for error messages.
pub async fn state(cluster: &Cluster) -> String {
    let operator = format!("deployment/{RELEASE}");
    let questions: [&[&str]; 4] = [
        &[
            "get",
            "pods",
            "--all-namespaces",
            "--field-selector=metadata.namespace!=kube-system",
        ],
        &["describe", "clickstreampipelines"],
        &["get", "events", "--sort-by=.lastTimestamp"],
        &["-n", NAMESPACE, "logs", &operator, "--tail=25"],
    ];
    let mut said = String::new();
    for question in questions {
        // what cannot be asked is left out: this is a remark to another error
        if let Ok(answer) = kubectl(cluster, question).await {
            let lines: Vec<&str> = answer.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            said.push_str(&format!(
                "$ kubectl {}\n{}\n",
                question.join(" "),
                last.join("\n")
            ));
        }
    }
    said
}
