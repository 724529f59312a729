//! What lets only some ask the pods of pipelines: a certificate, and tokens, out of Secrets that have the same names in every
//! namespace. Pods read both again when they change, so neither is a part of what rolls them.

use std::fmt;

use anyhow::ensure;
use serde_json::{Value, json};

use super::Child;

/// Where a pod finds them.
const FOLDER: &str = "/etc/clickstream/admin";
/// The file with the tokens there.
const TOKENS: &str = "tokens";
/// The key of the authority that vouches for the certificate.
pub const AUTHORITY: &str = "ca.crt";

/// The Secrets that the pods of each namespace are guarded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarding {
    /// Holds `tls.crt`, `tls.key` and `ca.crt`, as cert-manager writes them.
    pub certificate: String,
    /// Who reads `/status` and `/metrics` has to know it; `None`: everybody who reaches the port may.
    pub token: Option<TokenKey>,
}

/// A key of a Secret with tokens, one a line: the first is what the operator and Prometheus show.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Name of the Secret.
    pub secret: String,
    /// The key.
    pub key: String,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.secret, self.key)
    }
}

impl Guarding {
    /// From names of Secrets; an empty one is none.
    ///
    /// # Errors
    /// A token without a certificate would be shown in the clear.
    pub fn new(certificate: &str, token: &str, key: &str) -> anyhow::Result<Option<Self>> {
        if certificate.is_empty() {
            ensure!(
                token.is_empty(),
                "--metrics-token-secret takes --metrics-tls-secret: a token in the clear is everybody's"
            );
            return Ok(None);
        }
        let token = (!token.is_empty()).then(|| TokenKey {
            secret: token.to_owned(),
            key: key.to_owned(),
        });
        Ok(Some(Self {
            certificate: certificate.to_owned(),
            token,
        }))
    }

    /// Makes the one container of a pod serve by TLS, and ask for a token.
    pub fn of_pod(&self, spec: &mut Value) {
        let files = |keys: &[(&str, &str)]| -> Vec<Value> {
            let file = |(key, path): &(&str, &str)| json!({ "key": key, "path": path });
            keys.iter().map(file).collect()
        };
        let secret = |name: &str, keys: &[(&str, &str)]| json!({ "secret": { "name": name, "items": files(keys) } });
        let mut sources = vec![secret(
            &self.certificate,
            &[("tls.crt", "tls.crt"), ("tls.key", "tls.key")],
        )];
        let mut env = vec![json!({ "name": "CLICKSTREAM_ADMIN_TLS", "value": FOLDER })];
        if let Some(token) = &self.token {
            sources.push(secret(&token.secret, &[(&token.key, TOKENS)]));
            let file = format!("{FOLDER}/{TOKENS}");
            env.push(json!({ "name": "CLICKSTREAM_ADMIN_TOKENS", "value": file }));
        }
        // the next of the names that no volume of a person's can have
        let of_secrets = list(spec, "volumes").iter().filter(|volume| {
            let name = volume["name"].as_str().unwrap_or_default();
            name.starts_with("secret-")
        });
        let name = format!("secret-{}", of_secrets.count());
        list(spec, "volumes").push(json!({
            "name": name,
            "projected": { "defaultMode": 0o444, "sources": sources },
        }));
        let container = &mut spec["containers"][0];
        list(container, "volumeMounts")
            .push(json!({ "name": name, "mountPath": FOLDER, "readOnly": true }));
        list(container, "env").extend(env);
        for probe in ["livenessProbe", "readinessProbe"] {
            container[probe]["httpGet"]["scheme"] = json!("HTTPS");
        }
    }

    /// Makes Prometheus come by TLS, and show the token.
    pub fn of_monitor(&self, monitor: &mut Child, namespace: &str) {
        for endpoint in list(&mut monitor.body["spec"], "podMetricsEndpoints") {
            endpoint["scheme"] = json!("https");
            endpoint["tlsConfig"] = json!({
                "ca": { "secret": { "name": self.certificate, "key": AUTHORITY } },
                "serverName": server_name(namespace),
            });
            if let Some(token) = &self.token {
                endpoint["authorization"] = json!({
                    "type": "Bearer",
                    "credentials": { "name": token.secret, "key": token.key },
                });
            }
        }
    }
}

/// What the certificate of a namespace's pods is valid for: pods are asked by addresses that come and go, and no authority puts
/// those into a certificate.
pub fn server_name(namespace: &str) -> String {
    format!("clickstream-metrics.{namespace}.svc")
}

fn list<'l>(object: &'l mut Value, field: &str) -> &'l mut Vec<Value> {
    let list = &mut object[field];
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut().expect("made a list just before")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use super::*;
    use crate::controller::build::Kind;

    fn pod() -> Value {
        json!({
            "containers": [{
                "env": [{ "name": "CLICKSTREAM_ADMIN_LISTEN", "value": "[::]:8080" }],
                "livenessProbe": { "httpGet": { "path": "/livez", "scheme": "HTTP" } },
                "readinessProbe": { "httpGet": { "path": "/readyz", "scheme": "HTTP" } },
                "volumeMounts": [],
            }],
            "volumes": [{ "name": "pipeline" }, { "name": "secret-0" }, { "name": "secrets-of-mine" }],
        })
    }

    #[test]
    fn a_guarded_pod_serves_by_tls_and_reads_certificate_and_tokens_as_files() {
        let guarding = Guarding::new("tls", "scrape", "token").unwrap().unwrap();
        let mut pod = pod();
        guarding.of_pod(&mut pod);
        let container = &pod["containers"][0];
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS");
        }
        let names: Vec<_> = container["env"].as_array().unwrap().iter().collect();
        assert_eq!(
            names[1..],
            [
                &json!({ "name": "CLICKSTREAM_ADMIN_TLS", "value": "/etc/clickstream/admin" }),
                &json!({ "name": "CLICKSTREAM_ADMIN_TOKENS", "value": "/etc/clickstream/admin/tokens" }),
            ]
        );
        let volume = &pod["volumes"][3];
        assert_eq!(volume["name"], "secret-1");
        assert_eq!(container["volumeMounts"][0]["name"], "secret-1");
        let sources = &volume["projected"]["sources"];
        assert_eq!(sources[0]["secret"]["name"], "tls");
        // the authority's own key would be none of a pod's business, were it there
        assert_eq!(
            sources[0]["secret"]["items"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(
            sources[1]["secret"],
            json!({ "name": "scrape", "items": [{ "key": "token", "path": "tokens" }] })
        );
    }

    #[test]
    fn prometheus_comes_by_tls_under_a_name_that_every_pod_has() {
        let monitor = |guarding: &Guarding| {
            let mut monitor = Child {
                kind: Kind::PodMonitor,
                name: "web".to_owned(),
                body: json!({ "spec": { "podMetricsEndpoints": [{ "port": "admin" }] } }),
            };
            guarding.of_monitor(&mut monitor, "shop");
            monitor.body["spec"]["podMetricsEndpoints"][0].clone()
        };
        let with_token = monitor(&Guarding::new("tls", "scrape", "key").unwrap().unwrap());
        assert_eq!(
            with_token,
            json!({
                "port": "admin",
                "scheme": "https",
                "tlsConfig": {
                    "ca": { "secret": { "name": "tls", "key": "ca.crt" } },
                    "serverName": "clickstream-metrics.shop.svc",
                },
                "authorization": { "type": "Bearer", "credentials": { "name": "scrape", "key": "key" } },
            })
        );
        let without = monitor(&Guarding::new("tls", "", "key").unwrap().unwrap());
        assert!(without["authorization"].is_null(), "{without}");
    }

    #[test]
    fn nothing_is_guarded_unasked_and_no_token_goes_in_the_clear() {
        assert_eq!(Guarding::new("", "", "token").unwrap(), None);
        let refused = Guarding::new("", "scrape", "token")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("--metrics-tls-secret"), "{refused}");
    }
}
