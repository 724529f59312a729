//! The way to the cluster, and what its refusals mean to a person.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clickstream_api::ClickstreamPipeline;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::args::Global;

/// A person waits for the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the plugin writes as.
pub const FIELD_MANAGER: &str = "kubectl-clickstream";

/// A cluster, and where in it to look.
pub struct Access {
    /// Asks its API.
    pub client: Client,
    /// The namespace of the flags, or else of the context.
    pub namespace: String,
}

/// Finds the cluster as kubectl does.
///
/// # Errors
/// There is no kubeconfig, or it does not say where the cluster is.
pub async fn connect(global: &Global) -> anyhow::Result<Access> {
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match (&global.kubeconfig, &global.context) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file)
                .with_context(|| format!("--kubeconfig {}", file.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        // without a kubeconfig this also finds the cluster around a pod
        (None, None) => Config::infer()
            .await
            .context("no cluster is known: set KUBECONFIG, or name a file with --kubeconfig")?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = global
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    Ok(Access {
        client: Client::try_from(config)?,
        namespace,
    })
}

/// The resource as the API describes it.
pub fn resource() -> ApiResource {
    ApiResource::erase::<ClickstreamPipeline>(&())
}

impl Access {
    /// Pipelines of the namespace, untyped: one that a newer operator knows more about is shown all
    /// the same.
    pub fn pipelines(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource())
    }

    /// One pipeline.
    ///
    /// # Errors
    /// It is not there, or may not be seen.
    pub async fn pipeline(&self, name: &str) -> anyhow::Result<DynamicObject> {
        self.pipelines()
            .get(name)
            .await
            .map_err(|error| self.explained(error, name))
    }

    /// What an answer about one pipeline means.
    pub fn explained(&self, error: kube::Error, name: &str) -> anyhow::Error {
        match error {
            kube::Error::Api(status) if status.code == 404 && !status.reason.is_empty() => {
                anyhow!(
                    "there is no pipeline {name} in namespace {}",
                    self.namespace
                )
            }
            error => explained(error),
        }
    }

    /// Pipelines of every namespace.
    pub fn all_pipelines(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource())
    }
}

/// Whether somebody is not allowed to do something.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// What an answer of the API means.
pub fn explained(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 404 && status.reason.is_empty() => anyhow!(
            "the cluster does not know the kind ClickstreamPipeline: install the operator, or apply manifests/crd"
        ),
        kube::Error::Api(status) if status.code == 403 && !status.message.is_empty() => {
            anyhow!(
                "{}; docs/plugin.md says which role each command needs",
                status.message
            )
        }
        kube::Error::Api(status) if status.message.is_empty() => {
            anyhow!("the API server answers {} {}", status.code, status.reason)
        }
        kube::Error::Api(status) => anyhow!("{}", status.message),
        kube::Error::Auth(error) => anyhow!("cannot sign in: {error}"),
        error => anyhow!("the API server cannot be reached: {}", innermost(&error)),
    }
}

/// The deepest cause: what lies above it are names of layers.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    cause
}
