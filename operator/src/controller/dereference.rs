//! Fetches what a pipeline refers to. Needs the client; decides nothing.

use std::{collections::BTreeMap, sync::Arc};

use clickstream_pipeline::spec::{PipelineSpec, SecretKeys};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use super::{
    context::Context,
    secrets::{Version, version},
    validate::{FetchedSecrets, SecretFacts},
};
use crate::crd::ClickstreamPipeline;

/// What is known of the Secrets that a pipeline names. They are read if they have changed, or the
/// spec has; then the values are there as well, for this reconcile.
///
/// # Errors
/// What the API server says; a Secret that does not exist is no error.
pub async fn secrets(
    pipeline: &ClickstreamPipeline,
    context: &Context,
) -> Result<(Arc<SecretFacts>, Option<FetchedSecrets>), kube::Error> {
    let uid = pipeline.uid().unwrap_or_default();
    let namespace = pipeline.namespace().unwrap_or_default();
    let keys = keys(&pipeline.spec);
    let names: Vec<String> = keys.iter().map(|(name, _)| name.to_owned()).collect();
    let of = SecretFacts::inputs(&pipeline.spec);
    if let Some(versions) = context.secrets.named(&uid, pipeline, &names)
        && let Some(facts) = context.memories.secrets(&uid, &of, &versions)
    {
        return Ok((facts, None));
    }
    let read = read(&context.client, &namespace, &keys).await?;
    let mut versions = Vec::new();
    let mut values = BTreeMap::new();
    for (name, version, data) in read {
        context
            .secrets
            .read(&uid, &namespace, &name, version.clone());
        versions.push(version);
        values.insert(name, data);
    }
    let values = FetchedSecrets(values);
    let facts = Arc::new(SecretFacts::of(&pipeline.spec, &values));
    let kept = (of, versions, Arc::clone(&facts));
    context.memories.keep_secrets(&uid, kept);
    Ok((facts, Some(values)))
}

/// Reads Secrets with their values, whether or not they have changed.
///
/// # Errors
/// What the API server says; a Secret that does not exist is no error.
pub async fn values(
    client: &Client,
    namespace: &str,
    keys: &SecretKeys,
) -> Result<FetchedSecrets, kube::Error> {
    let read = read(client, namespace, keys).await?;
    let values = read.into_iter().map(|(name, _, data)| (name, data));
    Ok(FetchedSecrets(values.collect()))
}

type Read = (String, Version, Option<BTreeMap<String, Vec<u8>>>);

/// Reads these Secrets, and no others: the operator may `get` Secrets, not list them.
async fn read(
    client: &Client,
    namespace: &str,
    keys: &SecretKeys,
) -> Result<Vec<Read>, kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let names: Vec<String> = keys.iter().map(|(name, _)| name.to_owned()).collect();
    try_join_all(names.into_iter().map(|name| {
        let api = api.clone();
        async move {
            let secret = api.get_opt(&name).await?;
            let version = secret.as_ref().and_then(|found| version(&found.metadata));
            let data = secret.map(|secret| {
                let data = secret.data.unwrap_or_default().into_iter();
                data.map(|(key, value)| (key, value.0)).collect()
            });
            Ok((name, version, data))
        }
    }))
    .await
}

/// Every key that anything made from the spec reads.
pub fn keys(spec: &PipelineSpec) -> SecretKeys {
    spec.targets.iter().fold(
        spec.kafka.secret_keys().and(spec.kafka.admin_secret_keys()),
        |keys, target| keys.and(target.migration_secret_keys()),
    )
}

/// Asks for the versions of Secrets that are due. Ends when it is dropped.
pub async fn follow(context: Arc<Context>) {
    context.secrets.follow(&context.client).await;
}
