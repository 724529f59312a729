//! A stage for one test: a namespace of the shared API server, an operator that watches nothing
//! else and has the rights that the chart gives it there, and a player for the parts that a cluster
//! would have: it ends Jobs and brings Deployments up.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clickstream_operator::crd::ClickstreamPipeline;
use clickstream_processor::migrate::known_version;
use clickstream_testbed::{
    Kafka, KubeApi, Process, build_binary, kubelet, loopback, shared, unique_name,
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Event, Pod, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::rights::Rights;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition that nobody signals is looked at.
pub const LOOK: Duration = Duration::from_millis(50);

/// What the player does with a Job.
#[derive(Clone, Debug, PartialEq)]
pub enum Migrations {
    /// Ends it well, with this report.
    Succeed,
    /// Ends it with this last line.
    Fail(&'static str),
    /// Ends it well, with that report.
    Report(Value),
}

/// One test's part of the cluster.
pub struct Stage {
    /// The API server, shared by all tests.
    pub api: &'static KubeApi,
    /// The broker, shared by all tests.
    pub kafka: &'static Kafka,
    /// Talks to the API as an administrator.
    pub client: Client,
    /// The test's namespace.
    pub namespace: String,
    /// The operator's program.
    pub binary: PathBuf,
    /// The operator's user.
    pub rights: Rights,
    player: Option<JoinHandle<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(player) = self.player.take() {
            player.abort();
        }
    }
}

impl Stage {
    /// A namespace in which migrations do as told and Deployments come up.
    pub async fn new(migrations: Migrations) -> anyhow::Result<Self> {
        Self::on(shared::kube_api().await?, migrations).await
    }

    /// The same on an API server of the test's own.
    pub async fn on(api: &'static KubeApi, migrations: Migrations) -> anyhow::Result<Self> {
        let client = api.client().await?;
        install(&client, &clickstream_operator::crd::crd()).await?;
        let namespace = unique_name("stage").replace('_', "-");
        api.create_namespace(&namespace).await?;
        let rights = Rights::of_nobody(api, &client).await?;
        rights.grant(&namespace).await?;
        let mut stage = Self {
            api,
            kafka: shared::kafka().await?,
            client,
            namespace,
            binary: build_binary("clickstream-operator")?,
            rights,
            player: None,
        };
        stage.play(migrations);
        stage.postgres_secret("p").await?;
        Ok(stage)
    }

    /// Changes what the player does.
    pub fn play(&mut self, migrations: Migrations) {
        self.stop_playing();
        self.player = Some(tokio::spawn(play(
            self.client.clone(),
            self.namespace.clone(),
            migrations,
        )));
    }

    /// Ends the player: Jobs and Deployments stay as they are from now on.
    pub fn stop_playing(&mut self) {
        if let Some(player) = self.player.take() {
            player.abort();
        }
    }

    /// Starts an operator for this namespace alone.
    pub fn operator(&self) -> anyhow::Result<Process> {
        self.operator_with(&[])
    }

    /// The same with more options.
    pub fn operator_with(&self, options: &[&str]) -> anyhow::Result<Process> {
        self.operator_by(&self.rights.kubeconfig, options)
    }

    /// The same with more environment.
    pub fn operator_in(&self, env: &[(&str, &str)]) -> anyhow::Result<Process> {
        let mut command = self.operator_command(&self.rights.kubeconfig, &[]);
        command.envs(env.iter().copied());
        Process::spawn(&command, "operator")
    }

    /// The same as another user, or by another way.
    pub fn operator_by(
        &self,
        kubeconfig: &std::path::Path,
        options: &[&str],
    ) -> anyhow::Result<Process> {
        Process::spawn(&self.operator_command(kubeconfig, options), "operator")
    }

    fn operator_command(&self, kubeconfig: &std::path::Path, options: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--namespaces", &self.namespace])
            .args(options)
            .env("KUBECONFIG", kubeconfig)
            .env("CLICKSTREAM_PROCESSOR_IMAGE", "clickstream/processor:0.1.0")
            .env("CLICKSTREAM_PRODUCER_IMAGE", "clickstream/producer:0.1.0")
            // soon enough for a test
            .env("CLICKSTREAM_SECRETS_INTERVAL", "2")
            .env(
                "RUST_LOG",
                "info,clickstream_operator=debug,kube_runtime=warn",
            )
            .env("POD_NAME", unique_name("operator"));
        command
    }

    /// Makes or replaces the Secret of the target, with this password.
    pub async fn postgres_secret(&self, password: &str) -> anyhow::Result<()> {
        let entries = [
            ("host", loopback::host()),
            ("dbname", "analytics"),
            ("username", "u"),
            ("password", password),
        ];
        self.create_secret("postgres", &entries).await
    }

    /// Makes or replaces a Secret.
    pub async fn create_secret(&self, name: &str, entries: &[(&str, &str)]) -> anyhow::Result<()> {
        let data: BTreeMap<_, _> = entries.iter().copied().collect();
        let secret: Secret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": name, "namespace": self.namespace },
            "stringData": data,
        }))?;
        self.all::<Secret>()
            .patch(
                name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(&secret),
            )
            .await?;
        Ok(())
    }

    /// The smallest pipeline, with changes to its spec merged in.
    pub fn pipeline(&self, name: &str, topic: &str, changes: Value) -> Value {
        let mut pipeline = json!({
            "apiVersion": "clickstream.dev/v1alpha1",
            "kind": "ClickstreamPipeline",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": {
                "kafka": { "bootstrapServers": self.kafka.bootstrap_servers() },
                "topics": [{ "name": topic, "partitions": 3 }],
                "targets": [{ "connection": { "secret": { "name": "postgres" } } }],
            },
        });
        merge(&mut pipeline["spec"], &changes);
        pipeline
    }

    /// Applies a pipeline as kubectl would.
    pub async fn apply(&self, pipeline: &Value) -> Result<ClickstreamPipeline, kube::Error> {
        let name = pipeline["metadata"]["name"].as_str().unwrap_or_default();
        self.all::<ClickstreamPipeline>()
            .patch(
                name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(pipeline),
            )
            .await
    }

    /// Objects of a kind in this namespace.
    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pipeline, once it is as wanted.
    pub async fn pipeline_when(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&ClickstreamPipeline) -> bool,
    ) -> anyhow::Result<ClickstreamPipeline> {
        let begun = Instant::now();
        loop {
            let found = self.all::<ClickstreamPipeline>().get_opt(name).await?;
            if let Some(found) = &found
                && wanted(found)
            {
                return Ok(found.clone());
            }
            if begun.elapsed() > PATIENCE {
                bail!(
                    "{name}: not {what}: {:#?}",
                    found.and_then(|found| found.status)
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A pipeline, once a condition has this status and reason.
    pub async fn condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<ClickstreamPipeline> {
        self.pipeline_when(name, &format!("{kind}={status} ({reason})"), |pipeline| {
            let is_current = pipeline
                .status
                .as_ref()
                .and_then(|status| status.observed_generation)
                == pipeline.metadata.generation;
            is_current
                && condition(pipeline, kind).is_some_and(|(found, why, _)| {
                    found == status && (reason.is_empty() || why == reason)
                })
        })
        .await
    }

    /// Children of a kind that a pipeline has, once there are so many.
    pub async fn children<K>(&self, pipeline: &str, count: usize) -> anyhow::Result<Vec<K>>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let selector =
            ListParams::default().labels(&format!("clickstream.dev/pipeline={pipeline}"));
        let begun = Instant::now();
        loop {
            let found = self.all::<K>().list(&selector).await?.items;
            if found.len() == count {
                return Ok(found);
            }
            if begun.elapsed() > PATIENCE {
                bail!(
                    "{} of {pipeline}: {} instead of {count}",
                    K::kind(&()),
                    found.len()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Deletes a pipeline and waits until it is gone.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.all::<ClickstreamPipeline>()
            .delete(name, &DeleteParams::default())
            .await?;
        let begun = Instant::now();
        while self
            .all::<ClickstreamPipeline>()
            .get_opt(name)
            .await?
            .is_some()
        {
            if begun.elapsed() > PATIENCE {
                bail!("{name} is still there");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Deletes a pipeline's children, as the garbage collector would.
    pub async fn sweep(&self, pipeline: &str) -> anyhow::Result<()> {
        use k8s_openapi::api::{
            core::v1::{ConfigMap, Service, ServiceAccount},
            policy::v1::PodDisruptionBudget,
        };
        let of = ListParams::default().labels(&format!("clickstream.dev/pipeline={pipeline}"));
        let now = DeleteParams::background();
        self.all::<Deployment>()
            .delete_collection(&now, &of)
            .await?;
        self.all::<Job>().delete_collection(&now, &of).await?;
        self.all::<ConfigMap>().delete_collection(&now, &of).await?;
        self.all::<ServiceAccount>()
            .delete_collection(&now, &of)
            .await?;
        self.all::<PodDisruptionBudget>()
            .delete_collection(&now, &of)
            .await?;
        self.all::<Service>().delete_collection(&now, &of).await?;
        self.all::<Pod>()
            .delete_collection(&now.grace_period(0), &of)
            .await?;
        Ok(())
    }

    /// Reasons of the Events about a pipeline.
    pub async fn events(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let events = self.all::<Event>().list(&ListParams::default()).await?;
        Ok(events
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .filter_map(|event| event.reason)
            .collect())
    }
}

/// Status, reason and message of a condition.
pub fn condition(pipeline: &ClickstreamPipeline, kind: &str) -> Option<(String, String, String)> {
    let found = pipeline
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
    ))
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

/// Installs a definition and waits until the API serves it.
pub async fn install(client: &Client, definition: &CustomResourceDefinition) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = definition.name_any();
    definitions
        .patch(
            &name,
            &PatchParams::apply("test").force(),
            &Patch::Apply(definition),
        )
        .await?;
    let established = kube::runtime::conditions::is_crd_established();
    tokio::time::timeout(
        PATIENCE,
        kube::runtime::wait::await_condition(definitions, &name, established),
    )
    .await
    .context("the definition is not established")??;
    Ok(())
}

/// What controllers and kubelets would do.
async fn play(client: Client, namespace: String, migrations: Migrations) {
    loop {
        // an API server that a test has stopped is waited for
        let _ = play_jobs(&client, &namespace, &migrations).await;
        let _ = play_deployments(&client, &namespace).await;
        tokio::time::sleep(LOOK).await;
    }
}

async fn play_jobs(
    client: &Client,
    namespace: &str,
    migrations: &Migrations,
) -> Result<(), kube::Error> {
    let (exit_code, message) = match migrations {
        Migrations::Succeed => (
            0,
            json!({ "schemaVersion": known_version(), "consumerGroup": "default.shop.main.test", "topics": [], "missingReaders": [] }).to_string(),
        ),
        Migrations::Fail(line) => (1, format!("{{\"level\":\"INFO\"}}\nerror: {line}\n")),
        Migrations::Report(report) => (0, report.to_string()),
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    // those of the operator; other Jobs are for the tests that make them
    let migrations_only = ListParams::default().labels("app.kubernetes.io/component=migration");
    for job in jobs.list(&migrations_only).await? {
        kubelet::end_job(client, &job, exit_code, &message).await?;
    }
    Ok(())
}

async fn play_deployments(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    for deployment in deployments.list(&ListParams::default()).await? {
        kubelet::bring_up(client, &deployment).await?;
    }
    Ok(())
}
