//! Fetches what a pipeline refers to. Needs the client; decides nothing.

use std::collections::BTreeMap;

use clickstream_pipeline::spec::{PipelineSpec, SecretKeys};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::validate::FetchedSecrets;

/// Reads the Secrets that the spec names, and no others: the operator may `get` Secrets, not list them.
///
/// # Errors
/// What the API server says; a Secret that does not exist is no error.
pub async fn secrets(
    client: &Client,
    namespace: &str,
    spec: &PipelineSpec,
) -> Result<FetchedSecrets, kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let names: Vec<String> = keys(spec).iter().map(|(name, _)| name.to_owned()).collect();
    let fetched = try_join_all(names.into_iter().map(|name| {
        let api = api.clone();
        async move {
            let secret = api.get_opt(&name).await?;
            let data = secret.map(|secret| {
                secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect::<BTreeMap<_, _>>()
            });
            Ok::<_, kube::Error>((name, data))
        }
    }))
    .await?;
    Ok(FetchedSecrets(fetched.into_iter().collect()))
}

/// Every key that anything made from the spec reads.
pub fn keys(spec: &PipelineSpec) -> SecretKeys {
    spec.targets.iter().fold(
        spec.kafka.secret_keys().and(spec.kafka.admin_secret_keys()),
        |keys, target| keys.and(target.migration_secret_keys()),
    )
}
