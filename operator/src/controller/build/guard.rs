//! What lets only some ask the pods of pipelines: a certificate, and tokens, out of Secrets that
//! have the same names in every namespace. Pods read both again when they change, so neither is a
//! part of what rolls them.

use clickstream_protocol::{ADMIN_TLS, ADMIN_TOKENS};
use serde_json::{Value, json};

use super::Child;
use crate::guarding::{AUTHORITY, Guarding, server_name};

/// Where a pod finds its certificate.
const CERTIFICATE: &str = "/etc/clickstream/admin";
/// Where it finds the tokens, a file for each key of their Secret.
const TOKENS: &str = "/etc/clickstream/admin-tokens";

/// Makes the one container of a pod serve by TLS, and ask for a token.
pub fn pod(guarding: &Guarding, spec: &mut Value) {
    let file = |key: &str| json!({ "key": key, "path": key });
    let certificate = json!({
        "secretName": guarding.certificate,
        "defaultMode": 0o444,
        "items": [file("tls.crt"), file("tls.key")],
    });
    mount(spec, CERTIFICATE, &certificate);
    let mut env = vec![json!({ "name": ADMIN_TLS, "value": CERTIFICATE })];
    if let Some(token) = &guarding.token {
        // whole: each of its keys is good, so that one can take the place of another
        let tokens = json!({ "secretName": token.secret, "defaultMode": 0o444 });
        mount(spec, TOKENS, &tokens);
        env.push(json!({ "name": ADMIN_TOKENS, "value": TOKENS }));
    }
    let container = &mut spec["containers"][0];
    list(container, "env").extend(env);
    for probe in ["livenessProbe", "readinessProbe"] {
        container[probe]["httpGet"]["scheme"] = json!("HTTPS");
    }
}

/// Mounts a Secret, under the next of the names that no volume of a person's can have.
fn mount(spec: &mut Value, path: &str, secret: &Value) {
    let of_secrets = list(spec, "volumes").iter().filter(|volume| {
        let name = volume["name"].as_str().unwrap_or_default();
        name.starts_with("secret-")
    });
    let name = format!("secret-{}", of_secrets.count());
    list(spec, "volumes").push(json!({ "name": name, "secret": secret }));
    list(&mut spec["containers"][0], "volumeMounts")
        .push(json!({ "name": name, "mountPath": path, "readOnly": true }));
}

/// Makes Prometheus come by TLS, and show the token.
pub fn monitor(guarding: &Guarding, monitor: &mut Child, namespace: &str) {
    for endpoint in list(&mut monitor.body["spec"], "podMetricsEndpoints") {
        endpoint["scheme"] = json!("https");
        endpoint["tlsConfig"] = json!({
            "ca": { "secret": { "name": guarding.certificate, "key": AUTHORITY } },
            "serverName": server_name(namespace),
        });
        if let Some(token) = &guarding.token {
            endpoint["authorization"] = json!({
                "type": "Bearer",
                "credentials": { "name": token.secret, "key": token.key },
            });
        }
    }
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
            "volumes": [{ "name": "pipeline" }, { "name": "secret-0" }, { "name": "mine" }],
        })
    }

    #[test]
    fn a_guarded_pod_serves_by_tls_and_reads_certificate_and_tokens_as_files() {
        let guarding = Guarding::new("tls", "scrape", "token").unwrap().unwrap();
        let mut pod = pod();
        super::pod(&guarding, &mut pod);
        let container = &pod["containers"][0];
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS");
        }
        let names: Vec<_> = container["env"].as_array().unwrap().iter().collect();
        assert_eq!(
            names[1..],
            [
                &json!({ "name": "CLICKSTREAM_ADMIN_TLS", "value": "/etc/clickstream/admin" }),
                &json!({ "name": "CLICKSTREAM_ADMIN_TOKENS", "value": "/etc/clickstream/admin-tokens" }),
            ]
        );
        let names: Vec<_> = container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| mount["name"].clone())
            .collect();
        assert_eq!(names, ["secret-1", "secret-2"]);
        let volumes = pod["volumes"].as_array().unwrap();
        assert_eq!(volumes[3]["name"], "secret-1");
        let certificate = &volumes[3]["secret"];
        assert_eq!(certificate["secretName"], "tls");
        // the authority's own key would be none of a pod's business, were it there
        assert_eq!(certificate["items"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            volumes[4],
            json!({ "name": "secret-2", "secret": { "secretName": "scrape", "defaultMode": 0o444 } })
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
            super::monitor(guarding, &mut monitor, "shop");
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
}
