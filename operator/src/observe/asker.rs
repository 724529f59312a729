//! How processors are asked: in the clear, or by TLS with what the Secrets of their namespace hold.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clickstream_protocol::ADMIN_TLS;
use clickstream_telemetry::client::{Authorities, HttpClient, TrustError};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::guarding::{AUTHORITY, Guarding, server_name};

/// How often the Secrets of a namespace are read again: a pipeline at rest is looked at as often.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// How soon after a pod did not answer: it may have been renewed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Asks processors; clones share what they know.
#[derive(Clone)]
pub struct Asker {
    plain: HttpClient,
    secrets: Client,
    guarding: Option<Guarding>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// The authorities by which pods of a namespace are trusted. Kept for longer than the clients
    /// made of them: after a renewal pods have certificates of the one before for some minutes.
    authorities: Arc<Mutex<HashMap<String, Authorities>>>,
}

struct Known {
    /// `None`: the Secrets could not be used.
    client: Option<HttpClient>,
    read: Instant,
}

impl Asker {
    /// Pods are guarded with these Secrets, if they are.
    pub fn new(secrets: Client, guarding: Option<Guarding>) -> Self {
        Self {
            plain: HttpClient::new(),
            secrets,
            guarding,
            known: Arc::default(),
            authorities: Arc::default(),
        }
    }

    /// The client for pods that are asked in the clear.
    pub const fn plain(&self) -> &HttpClient {
        &self.plain
    }

    /// The client for guarded pods of a namespace, if its Secrets can be used.
    pub async fn guarded(&self, namespace: &str) -> Option<HttpClient> {
        let guarding = self.guarding.as_ref()?;
        if let Some(known) = self.known.lock().get(namespace)
            && known.read.elapsed() < READ_AGAIN
        {
            return known.client.clone();
        }
        let made = self.make(namespace, guarding).await;
        let client = made
            .inspect_err(|error| {
                tracing::warn!(
                    namespace,
                    error = format!("{error:#}"),
                    "processors cannot be asked: the secrets of their metrics"
                );
            })
            .ok();
        let mut known = self.known.lock();
        let read = Instant::now();
        let now = Known {
            client: client.clone(),
            read,
        };
        known.insert(namespace.to_owned(), now);
        client
    }

    /// A guarded pod of this namespace did not answer: the Secrets may have changed.
    pub fn doubt(&self, namespace: &str) {
        let mut known = self.known.lock();
        known.retain(|of, known| of != namespace || known.read.elapsed() < LOOK_AGAIN);
    }

    /// Forgets what would be read again before it is used: of namespaces whose pipelines have gone,
    /// no token stays.
    pub fn close_idle(&self) {
        let mut known = self.known.lock();
        known.retain(|_, known| known.read.elapsed() < READ_AGAIN);
        drop(known);
        let now = Instant::now();
        let mut authorities = self.authorities.lock();
        authorities.retain(|_, authorities| authorities.are_of_use(now));
    }

    async fn make(&self, namespace: &str, guarding: &Guarding) -> anyhow::Result<HttpClient> {
        let authority = self
            .read(namespace, &guarding.certificate, AUTHORITY)
            .await?;
        let name = server_name(namespace);
        let client = self
            .trusting(namespace, &authority, &name)
            .with_context(|| format!("{AUTHORITY} of the secret {}", guarding.certificate))?;
        let Some(token) = &guarding.token else {
            return Ok(client);
        };
        let tokens = self.read(namespace, &token.secret, &token.key).await?;
        let tokens = String::from_utf8(tokens).context("a token that is no text")?;
        let mut lines = tokens.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty());
        let first = first.with_context(|| format!("{token:?} is empty"))?;
        Ok(client.with_token(first)?)
    }

    fn trusting(
        &self,
        namespace: &str,
        authority: &[u8],
        name: &str,
    ) -> Result<HttpClient, TrustError> {
        let mut authorities = self.authorities.lock();
        let of_namespace = authorities.entry(namespace.to_owned()).or_default();
        of_namespace.client(authority, Some(name), Instant::now())
    }

    async fn read(&self, namespace: &str, secret: &str, key: &str) -> anyhow::Result<Vec<u8>> {
        let secrets: Api<Secret> = Api::namespaced(self.secrets.clone(), namespace);
        let found = secrets.get_opt(secret).await?;
        let found = found.with_context(|| format!("there is no secret {secret}"))?;
        let value = found.data.and_then(|mut data| data.remove(key));
        let value = value.with_context(|| format!("the secret {secret} has no {key}"))?;
        Ok(value.0)
    }
}

/// Whether a pod is asked by TLS: a variable of its own says so, since pods of before and after a
/// change of the settings run beside each other. Its probes do not: a mesh makes them its proxy's.
pub fn is_guarded(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    variables.any(|variable| variable.name == ADMIN_TLS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_asked_by_tls_also_where_a_mesh_has_made_its_probes_its_own() {
        let pod = |variable: &str| -> Pod {
            let container = json!({
                "name": "processor",
                "env": [{ "name": variable, "value": "/etc/clickstream/admin" }],
                "readinessProbe": { "httpGet": { "path": "/app-health/processor/readyz", "port": 15020, "scheme": "HTTP" } },
            });
            serde_json::from_value(json!({ "spec": { "containers": [container] } })).unwrap()
        };
        assert!(is_guarded(&pod("CLICKSTREAM_ADMIN_TLS")));
        assert!(!is_guarded(&pod("CLICKSTREAM_ADMIN_LISTEN")));
    }

    #[tokio::test]
    async fn the_token_of_a_namespace_that_nobody_asks_about_is_forgotten() {
        let nobody = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let asker = Asker::new(Client::try_from(nobody).unwrap(), None);
        let now = Instant::now();
        let ages = [
            ("shop", Duration::ZERO),
            ("gone", READ_AGAIN + Duration::from_secs(1)),
        ];
        for (namespace, age) in ages {
            let known = Known {
                client: Some(HttpClient::new()),
                read: now.checked_sub(age).unwrap(),
            };
            asker.known.lock().insert(namespace.to_owned(), known);
        }
        asker.close_idle();
        let known: Vec<String> = asker.known.lock().keys().cloned().collect();
        assert_eq!(known, ["shop"]);
        // a pod that did not answer right after they were read is no reason to read them again
        asker.doubt("shop");
        assert!(asker.known.lock().contains_key("shop"));
    }
}
