//! A Kubernetes API, a broker and an operator; Jobs succeed and Deployments come up as soon as they
//! are seen.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickstream_protocol::{
    labels::PIPELINE,
    migration::{MigrationReport, SCHEMA_VERSION},
};
use clickstream_testbed::{Kafka, KafkaOptions, KubeApi, Process, free_port, kubelet};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::{WatchStreamExt as _, conditions, wait, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::users::SignIn;
use crate::bench::metrics;

/// Where all pipelines are.
const NAMESPACE: &str = "bench";
/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a migration of an empty schema reports.
fn report() -> String {
    let report = MigrationReport {
        schema_version: Some(SCHEMA_VERSION),
        consumer_group: Some("bench".to_owned()),
        ..MigrationReport::default()
    };
    json!(report).to_string()
}
/// Requests for creation at the same time, as from a deployment tool.
const AT_ONCE: usize = 32;
/// Pause after a watch that failed.
const AGAIN: Duration = Duration::from_millis(100);

/// When a pipeline's Deployment was first seen, and when the pipeline was first Ready.
#[derive(Clone, Copy, Default)]
struct Seen {
    applied: Option<Instant>,
    ready: Option<Instant>,
}

type Log = Arc<watch::Sender<HashMap<String, Seen>>>;

/// All of it, until it is dropped.
pub struct Cluster {
    // first of all, so that it does not complain about the others' end
    operator: Process,
    api: KubeApi,
    kafka: Kafka,
    client: Client,
    /// Where brokers are asked for a password; `None`: they ask for none.
    sign_in: Option<SignIn>,
    /// The operator's own metrics.
    metrics: u16,
    log: Log,
    players: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for player in &self.players {
            player.abort();
        }
    }
}

impl Cluster {
    /// Starts everything.
    ///
    /// # Errors
    /// One of them cannot be started.
    pub async fn start(program: &Path, users: Option<&[String]>) -> anyhow::Result<Self> {
        let mut kafka = KafkaOptions {
            heap_mb: 768,
            ..KafkaOptions::default()
        };
        let sign_in = users
            .map(|users| SignIn::add_to(&mut kafka, users))
            .transpose()?;
        let (api, kafka) = tokio::try_join!(KubeApi::start(), Kafka::start(kafka))?;
        let client = api.client().await?;
        install(&client, program).await?;
        api.create_namespace(NAMESPACE).await?;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": "postgres" },
            "stringData": { "host": "127.0.0.1", "dbname": "d", "username": "u", "password": "p" },
        }))?;
        Api::namespaced(client.clone(), NAMESPACE)
            .create(&PostParams::default(), &secret)
            .await?;
        if let Some(sign_in) = &sign_in {
            let secrets = Api::namespaced(client.clone(), NAMESPACE);
            sign_in.put_secrets(&secrets, AT_ONCE).await?;
        }
        let log = Log::default();
        let players = vec![
            tokio::spawn(end_jobs(client.clone())),
            tokio::spawn(bring_up(client.clone(), Arc::clone(&log))),
            tokio::spawn(follow(client.clone(), Arc::clone(&log))),
        ];
        let metrics = free_port()?;
        let mut command = Command::new(program);
        command
            .arg("run")
            .env("KUBECONFIG", api.kubeconfig_path())
            .env("CLICKSTREAM_PROCESSOR_IMAGE", "clickstream/processor:0.1.0")
            .env("CLICKSTREAM_PRODUCER_IMAGE", "clickstream/producer:0.1.0")
            .env("CLICKSTREAM_ADMIN_LISTEN", format!("127.0.0.1:{metrics}"))
            .env("POD_NAME", "bench");
        Ok(Self {
            operator: Process::spawn(&command, "operator")?,
            api,
            kafka,
            client,
            sign_in,
            metrics,
            log,
            players,
        })
    }

    /// The operator's process.
    pub fn operator(&self) -> &Process {
        &self.operator
    }

    /// Creates a pipeline with one topic of one partition and one target.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create(&self, name: &str) -> anyhow::Result<()> {
        let kafka = match &self.sign_in {
            Some(sign_in) => sign_in.as_user(name),
            None => json!({ "bootstrapServers": self.kafka.bootstrap_servers() }),
        };
        let pipeline = json!({
            "apiVersion": "clickstream.dev/v1alpha1",
            "kind": "ClickstreamPipeline",
            "metadata": { "name": name },
            "spec": {
                "kafka": kafka,
                "topics": [{ "name": format!("{name}-clicks"), "partitions": 1 }],
                "targets": [{ "schema": name.replace('-', "_"), "connection": { "secret": { "name": "postgres" } } }],
            },
        });
        pipelines(&self.client)
            .create(&PostParams::default(), &serde_json::from_value(pipeline)?)
            .await?;
        Ok(())
    }

    /// Creates many.
    ///
    /// # Errors
    /// As [`Cluster::create`].
    pub async fn create_all(&self, names: &[String]) -> anyhow::Result<()> {
        stream::iter(names)
            .map(|name| self.create(name))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// When a pipeline's processors were applied, the last of its children.
    ///
    /// # Errors
    /// They are not, for minutes.
    pub async fn applied(&self, name: &str) -> anyhow::Result<Instant> {
        self.last(&[name.to_owned()], |seen| seen.applied).await
    }

    /// The same of the last of many.
    ///
    /// # Errors
    /// As [`Cluster::applied`].
    pub async fn all_applied(&self, names: &[String]) -> anyhow::Result<Instant> {
        self.last(names, |seen| seen.applied).await
    }

    /// When the last of these was Ready.
    ///
    /// # Errors
    /// Some are not, for minutes.
    pub async fn all_ready(&self, names: &[String]) -> anyhow::Result<Instant> {
        self.last(names, |seen| seen.ready).await
    }

    async fn last(
        &self,
        names: &[String],
        what: impl Fn(&Seen) -> Option<Instant>,
    ) -> anyhow::Result<Instant> {
        let mut changes = self.log.subscribe();
        loop {
            let (count, last) = {
                let seen = changes.borrow_and_update();
                let mut instants = names.iter().filter_map(|name| what(seen.get(name)?));
                let first = instants.next();
                let rest: Vec<_> = instants.collect();
                let count = rest.len() + usize::from(first.is_some());
                (count, rest.into_iter().chain(first).max())
            };
            if let (true, Some(last)) = (count == names.len(), last) {
                return Ok(last);
            }
            if tokio::time::timeout(PATIENCE, changes.changed())
                .await
                .is_err()
            {
                bail!(
                    "{count} of {} after two minutes without any change; the end of the operator's log:\n{}",
                    names.len(),
                    self.operator.log_tail()
                );
            }
            // not at each of thousands
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Requests that wanted to write so far, whoever sent them, but for the API server's own
    /// leases.
    ///
    /// # Errors
    /// The API server's metrics cannot be read.
    pub async fn writes(&self) -> anyhow::Result<u64> {
        let request = kube::core::Request::new("/metrics").list(&ListParams::default())?;
        let text = self.client.request_text(request).await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with("apiserver_request_total{"))
            .filter(|line| {
                ["APPLY", "PATCH", "POST", "PUT", "DELETE"]
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
                    && !line.contains("resource=\"leases\"")
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .map(|count| count as u64)
            .sum())
    }

    /// Requests that the operator has sent so far, whatever became of them; watches that begin
    /// again count too.
    ///
    /// # Errors
    /// Its metrics cannot be read.
    pub async fn requests(&self) -> anyhow::Result<f64> {
        let text = metrics::read(self.metrics).await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with("rest_client_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Threads and open files of the operator.
    ///
    /// # Errors
    /// The operator has ended.
    pub fn threads_and_files(&self) -> anyhow::Result<(usize, usize)> {
        let count = |what: &str| -> anyhow::Result<usize> {
            Ok(fs::read_dir(format!("/proc/{}/{what}", self.operator.pid()))?.count())
        };
        Ok((count("task")?, count("fd")?))
    }

    /// Waits until nothing was written for this long.
    ///
    /// # Errors
    /// There is no such time within ten minutes.
    pub async fn rest(&self, long: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE * 5;
        let mut last = (self.writes().await?, Instant::now());
        while last.1.elapsed() < long {
            if Instant::now() > deadline {
                bail!("the operator does not come to rest");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.writes().await?;
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Kills kube-apiserver, and starts it again after a while; returns when it answers.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn restart_api(&self, away: Duration) -> anyhow::Result<()> {
        self.api.kill()?;
        tokio::time::sleep(away).await;
        self.api.start_again().await
    }
}

fn pipelines(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("clickstream.dev", "v1alpha1", "ClickstreamPipeline");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clickstreampipelines");
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// The definition as the operator prints it.
async fn install(client: &Client, program: &Path) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(program)
        .arg("crd")
        .output()
        .await
        .with_context(|| format!("cannot run {}", program.display()))?;
    let definition: CustomResourceDefinition = serde_yaml::from_slice(&output.stdout)?;
    let name = definition.name_any();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .patch(
            &name,
            &PatchParams::apply("bench"),
            &Patch::Apply(&definition),
        )
        .await?;
    let established = wait::await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(PATIENCE, established)
        .await
        .context("the definition is not established")??;
    Ok(())
}

/// Every migration succeeds at once, with the report that the operator waits for.
async fn end_jobs(client: Client) {
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let mut changes = Box::pin(watcher(jobs, watcher::Config::default()).applied_objects());
    while let Some(job) = changes.next().await {
        let Ok(job) = job else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let client = client.clone();
        beside(async move { kubelet::end_job(&client, &job, 0, &report()).await });
    }
}

/// Every Deployment is complete at once.
async fn bring_up(client: Client, log: Log) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let mut changes = Box::pin(watcher(deployments, watcher::Config::default()).applied_objects());
    while let Some(deployment) = changes.next().await {
        let Ok(deployment) = deployment else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        if let Some(pipeline) = deployment.labels().get(PIPELINE) {
            note(&log, pipeline, |seen| &mut seen.applied);
        }
        let client = client.clone();
        beside(async move { kubelet::bring_up(&client, &deployment).await });
    }
}

/// Notes which pipelines are Ready.
async fn follow(client: Client, log: Log) {
    let mut changes =
        Box::pin(watcher(pipelines(&client), watcher::Config::default()).applied_objects());
    while let Some(pipeline) = changes.next().await {
        let Ok(pipeline) = pipeline else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let is_ready = pipeline.data["status"]["conditions"]
            .as_array()
            .is_some_and(|conditions| {
                conditions
                    .iter()
                    .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            });
        if is_ready {
            note(&log, &pipeline.name_any(), |seen| &mut seen.ready);
        }
    }
}

fn note(log: &Log, pipeline: &str, what: impl Fn(&mut Seen) -> &mut Option<Instant>) {
    let now = Instant::now();
    log.send_if_modified(|seen| {
        let seen = what(seen.entry(pipeline.to_owned()).or_default());
        let is_first = seen.is_none();
        seen.get_or_insert(now);
        is_first
    });
}

/// Beside the watch, as kubelets and controllers do it; what fails is seen again with the next
/// change.
fn beside(work: impl Future<Output = Result<(), kube::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = work.await {
            eprintln!("{error}");
        }
    });
}
