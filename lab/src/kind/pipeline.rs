//! A pipeline on a cluster: its resource, its pods, and in [`servers`] what Kafka and PostgreSQL
//! know of it.

mod servers;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickstream_pipeline::checkpoint::Counters;
use clickstream_pipeline::spec::ClickstreamPipeline;
use clickstream_protocol::labels;
use serde_json::Value;

use super::cluster::Cluster;
use super::stack::{kubectl, state};
use crate::document::QUICKSTART;
use crate::program;
use clickstream_tools::workspace_root;
use xtask::steps::Steps;

/// From `kubectl apply` to the first row, and to Ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often the cluster is asked again.
const PERIOD: Duration = Duration::from_millis(250);

/// The plural with its group: short names can be somebody else's too.
const PLURAL: &str = "clickstreampipelines.clickstream.dev";

/// A pipeline in the namespace `default`, with one target.
pub struct Pipeline<'a> {
    cluster: &'a Cluster,
    name: String,
    topic: String,
    target: String,
    schema: String,
}

impl<'a> Pipeline<'a> {
    /// The quickstart's document.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn quickstart() -> anyhow::Result<Value> {
        let path = workspace_root().join(QUICKSTART);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_yaml::from_str(&text)?)
    }

    /// The pipeline of a document on a cluster; nothing is applied yet.
    ///
    /// # Errors
    /// The document is none.
    pub fn new(cluster: &'a Cluster, document: &Value) -> anyhow::Result<Self> {
        let read = ClickstreamPipeline::from_yaml(&document.to_string())?;
        let target = read.spec.targets.first().context("no target")?;
        let topic = read.spec.topics.first().context("no topic")?;
        Ok(Self {
            cluster,
            name: read.metadata.name.clone(),
            topic: topic.name.clone(),
            target: target.name.clone(),
            schema: target.schema.clone(),
        })
    }

    /// The schema of its tables.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The cluster that it is on.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.cluster
    }

    /// Applies a document.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, document: &Value) -> anyhow::Result<()> {
        let mut apply = self.cluster.kubectl();
        apply.args(["apply", "--filename", "-"]);
        program::fed(&mut apply, &document.to_string())
            .await
            .map(|_| ())
    }

    /// Changes fields of the resource, by a JSON merge patch.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn patch(&self, change: &Value) -> anyhow::Result<()> {
        let change = change.to_string();
        self.ask(&[
            "patch",
            PLURAL,
            &self.name,
            "--type=merge",
            "--patch",
            &change,
        ])
        .await
        .map(|_| ())
    }

    /// Sets the number of processors by the scale subresource, as `kubectl scale` and autoscalers
    /// do.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn scale(&self, replicas: u32) -> anyhow::Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.ask(&["scale", PLURAL, &self.name, &replicas])
            .await
            .map(|_| ())
    }

    /// Sets the number of pods of a component behind the operator's back, which is away.
    ///
    /// # Errors
    /// There is no such Deployment.
    pub async fn scale_deployment(&self, component: &str, replicas: u32) -> anyhow::Result<()> {
        let mut found = self.children("deployments", component).await?;
        let deployment = found.pop().with_context(|| format!("no {component}"))?;
        let name = deployment["metadata"]["name"].as_str().unwrap_or_default();
        let replicas = format!("--replicas={replicas}");
        self.ask(&["scale", "deployment", name, &replicas])
            .await
            .map(|_| ())
    }

    /// Deletes the resource and waits until it is gone.
    ///
    /// # Errors
    /// It is not gone within two minutes.
    pub async fn delete(&self) -> anyhow::Result<()> {
        self.ask(&["delete", PLURAL, &self.name, "--timeout=120s"])
            .await
            .map(|_| ())
    }

    /// The resource as it is.
    ///
    /// # Errors
    /// It is not there.
    pub async fn object(&self) -> anyhow::Result<Value> {
        let said = self
            .ask(&["get", PLURAL, &self.name, "--output=json"])
            .await?;
        Ok(serde_json::from_str(&said)?)
    }

    /// The processors' Deployment.
    ///
    /// # Errors
    /// There is not exactly one.
    pub async fn deployment(&self) -> anyhow::Result<Value> {
        let mut found = self.children("deployments", "processor").await?;
        let deployment = found.pop().context("no Deployment of processors")?;
        anyhow::ensure!(found.is_empty(), "more than one Deployment of processors");
        Ok(deployment)
    }

    /// Name of the Service in front of one component's pods.
    ///
    /// # Errors
    /// There is none.
    pub async fn service(&self, component: &str) -> anyhow::Result<String> {
        let services = self.children("services", component).await?;
        let name = services.first().map(|service| &service["metadata"]["name"]);
        let name = name.and_then(Value::as_str).map(str::to_owned);
        name.with_context(|| format!("no Service of {component}"))
    }

    /// Names of the pods of one component that are not on their way out.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn pods(&self, component: &str) -> anyhow::Result<Vec<String>> {
        let pods = self.children("pods", component).await?;
        Ok(pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// Waits until no pod of a component is left, those on their way out included.
    ///
    /// # Errors
    /// One is left for too long.
    pub async fn gone(&self, component: &str) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            let pods = self.children("pods", component).await?.len();
            if pods == 0 {
                return Ok(());
            }
            self.patience(since, &format!("{pods} pods of {component} are left"))
                .await?;
        }
    }

    /// Sets an annotation of the resource.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn annotate(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let annotation = format!("{key}={value}");
        self.ask(&["annotate", PLURAL, &self.name, "--overwrite", &annotation])
            .await
            .map(|_| ())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its target.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Name of its topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    async fn children(&self, kind: &str, component: &str) -> anyhow::Result<Vec<Value>> {
        let selector = format!(
            "--selector={}={},{}={component}",
            labels::PIPELINE,
            self.name,
            labels::COMPONENT
        );
        let said = self.ask(&["get", kind, &selector, "--output=json"]).await?;
        let mut list: Value = serde_json::from_str(&said)?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("kubectl get {kind} gives no list"),
        }
    }

    /// Applies a document and waits until an event more than before is in PostgreSQL; how long that
    /// took.
    ///
    /// # Errors
    /// The API server refuses the document, or no event comes in time; the message holds what the
    /// cluster says.
    pub async fn bring_up(&self, document: &Value, steps: &Steps) -> anyhow::Result<Duration> {
        let step = steps.begin("rows");
        let rows = async {
            let before = self.counts().await?.accepted;
            let applied = Instant::now();
            self.apply(document).await?;
            while self.counts().await?.accepted <= before {
                let remark = self.remark().await;
                step.note(&remark);
                self.patience(applied, &remark).await?;
            }
            Ok(applied.elapsed())
        };
        step.during(rows, |took| {
            let seconds = took.as_secs_f64();
            format!("an event is in PostgreSQL {seconds:.1} s after kubectl apply")
        })
        .await
    }

    /// Waits until the resource is Ready as its spec is now.
    ///
    /// # Errors
    /// It is not in time; the message holds what the cluster says.
    pub async fn ready(&self, steps: &Steps) -> anyhow::Result<Duration> {
        let since = Instant::now();
        let step = steps.begin("ready");
        let ready = async {
            while !is_ready(&self.object().await?) {
                let remark = self.remark().await;
                step.note(&remark);
                self.patience(since, &remark).await?;
            }
            Ok(since.elapsed())
        };
        step.during(ready, |_| format!("{} is Ready", self.name))
            .await
    }

    /// Waits until this many more records have their verdict in PostgreSQL.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn moves_by(&self, records: i64) -> anyhow::Result<Duration> {
        let since = Instant::now();
        let from = self.counts_when_there(since).await?.consumed;
        while self.counts_when_there(since).await?.consumed < from + records {
            let remark = self.remark().await;
            self.patience(
                since,
                &format!("{records} more records are not in PostgreSQL; {remark}"),
            )
            .await?;
        }
        Ok(since.elapsed())
    }

    /// PostgreSQL's pod may be the one that was just deleted.
    async fn counts_when_there(&self, since: Instant) -> anyhow::Result<Counters> {
        loop {
            match self.counts().await {
                Ok(counts) => return Ok(counts),
                Err(error) => self.patience(since, &format!("{error:#}")).await?,
            }
        }
    }

    /// Waits a little, unless it has been long enough.
    ///
    /// # Errors
    /// It has; the message holds what the cluster says.
    pub async fn patience(&self, since: Instant, remark: &str) -> anyhow::Result<()> {
        if since.elapsed() >= PATIENCE {
            let state = state(self.cluster).await;
            bail!("after {PATIENCE:?}: {remark}\n{state}");
        }
        tokio::time::sleep(PERIOD).await;
        Ok(())
    }

    /// What the resource says of itself.
    pub async fn remark(&self) -> String {
        match self.object().await {
            Ok(object) => conditions(&object),
            Err(error) => format!("{error:#}"),
        }
    }

    async fn ask(&self, args: &[&str]) -> anyhow::Result<String> {
        kubectl(self.cluster, args).await
    }
}

/// Whether the condition Ready is True for the spec as it is.
fn is_ready(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && condition(object, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// A condition of a resource, by its type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Conditions that hold back, else Ready, in a line.
fn conditions(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(ready) = condition(object, "Ready") else {
        return "no status yet".to_owned();
    };
    format!(
        "Ready={} {}: {}",
        text(&ready["status"]),
        text(&ready["reason"]),
        text(&ready["message"])
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(observed: u32, ready: &str) -> Value {
        json!({
            "metadata": { "generation": 2 },
            "status": {
                "observedGeneration": observed,
                "conditions": [
                    { "type": "TopicsReady", "status": "True" },
                    { "type": "Ready", "status": ready, "reason": "Because", "message": "it is so" },
                ],
            },
        })
    }

    #[test]
    fn ready_counts_for_the_newest_spec_only() {
        assert!(is_ready(&object(2, "True")));
        assert!(!is_ready(&object(1, "True")));
        assert!(!is_ready(&object(2, "False")));
        assert!(!is_ready(&json!({ "metadata": { "generation": 1 } })));
    }

    #[test]
    fn a_remark_says_why_it_is_not_ready() {
        assert_eq!(
            conditions(&object(1, "False")),
            "Ready=False Because: it is so"
        );
        assert_eq!(conditions(&json!({})), "no status yet");
    }
}
