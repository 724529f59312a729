//! What all pods of a pipeline have in common: no token, no privilege, no writable root, Secrets key by key.

use clickstream_api::mesh::without_sidecar;
use clickstream_pipeline::spec::{PodSettings, SecretKeys};
pub use clickstream_protocol::ADMIN_PORT_NAME;
use serde_json::{Map, Value, json};

use super::{Child, Kind};
use crate::controller::Settings;

/// The port with probes, status and metrics.
pub const ADMIN_PORT: u16 = 8080;
/// Where the pods find the document.
const DOCUMENT: &str = "/etc/clickstream/pipeline.yaml";
/// Where the pods find Secrets, as `<secret>/<key>`.
const SECRETS: &str = "/etc/clickstream/secrets";

/// A pod's one container, and what is around it.
pub struct PodParts<'p> {
    /// Name of the container.
    pub container: &'static str,
    /// Its image.
    pub image: &'p str,
    /// Arguments of its binary.
    pub args: Vec<String>,
    /// Environment beside that of [`template`].
    pub env: Vec<Value>,
    /// CPU and memory when the spec gives none.
    pub default_resources: Value,
    /// Whether it serves probes.
    pub served: bool,
    /// Name of the ServiceAccount; `None`: the namespace's default one, without its token.
    pub service_account: Option<&'p str>,
    /// Name of the ConfigMap with the document.
    pub config_map: &'p str,
    /// What it reads.
    pub secrets: &'p SecretKeys,
    /// What the spec says about its pods.
    pub settings: PodSettings<'p>,
    /// Labels; the spec's are added.
    pub labels: &'p Map<String, Value>,
    /// Annotations; the spec's are added.
    pub annotations: Map<String, Value>,
    /// Whether it is to end, which a mesh's proxy beside it would keep it from.
    pub ends: bool,
    /// Fields of the pod's spec beside these.
    pub extra: Value,
}

/// The pod template.
pub fn template(parts: PodParts<'_>, settings: &Settings) -> Value {
    let mut labels = parts.labels.clone();
    labels.extend(text_map(parts.settings.labels));
    let mut annotations = parts.annotations;
    annotations.extend(text_map(parts.settings.annotations));
    if parts.ends {
        without_sidecar(&mut labels, &mut annotations);
    }

    let mut env = vec![
        json!({ "name": "CLICKSTREAM_PIPELINE", "value": DOCUMENT }),
        json!({ "name": "CLICKSTREAM_SECRETS_DIR", "value": SECRETS }),
        json!({ "name": "CLICKSTREAM_LOG_FORMAT", "value": "json" }),
    ];
    env.extend(parts.env);
    let mut container = json!({
        "name": parts.container,
        "image": parts.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": parts.args,
        "resources": resources(parts.settings, parts.default_resources),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(parts.secrets),
    });
    if parts.served {
        env.push(
            json!({ "name": "CLICKSTREAM_ADMIN_LISTEN", "value": format!("[::]:{ADMIN_PORT}") }),
        );
        container["ports"] =
            json!([{ "name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP" }]);
        container["livenessProbe"] = probe("/livez", 10, 6);
        container["readinessProbe"] = probe("/readyz", 2, 2);
    }
    container["env"] = Value::Array(env);

    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // which user, and which group, is the image's to say, or the namespace's where a platform gives each its own
        "securityContext": {
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [container],
        "volumes": volumes(parts.config_map, parts.secrets),
    });
    if let Some(account) = parts.service_account {
        spec["serviceAccountName"] = json!(account);
    }
    let wanted = parts.settings;
    if !wanted.node_selector.is_empty() {
        spec["nodeSelector"] = json!(wanted.node_selector);
    }
    if !wanted.tolerations.is_empty() {
        spec["tolerations"] = json!(wanted.tolerations);
    }
    if let Some(affinity) = wanted.affinity {
        spec["affinity"] = affinity.clone();
    }
    if !wanted.topology_spread_constraints.is_empty() {
        spec["topologySpreadConstraints"] = json!(wanted.topology_spread_constraints);
    }
    if let Some(class) = wanted.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    let pull_secrets: Vec<_> = settings
        .image_pull_secrets
        .iter()
        .map(String::as_str)
        .chain(
            wanted
                .image_pull_secrets
                .iter()
                .map(|secret| secret.name.as_str()),
        )
        .map(|name| json!({ "name": name }))
        .collect();
    if !pull_secrets.is_empty() {
        spec["imagePullSecrets"] = json!(pull_secrets);
    }
    if let (Value::Object(spec), Value::Object(extra)) = (&mut spec, parts.extra) {
        spec.extend(extra);
    }
    if parts.served
        && let Some(guarding) = &settings.guarding
    {
        guarding.of_pod(&mut spec);
    }
    json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": spec })
}

/// The identity of the pods: one without rights and without a token.
pub fn service_account(name: &str, labels: &Map<String, Value>) -> Child {
    Child {
        kind: Kind::ServiceAccount,
        name: name.to_owned(),
        body: json!({ "metadata": { "labels": labels }, "automountServiceAccountToken": false }),
    }
}

fn text_map(
    map: &std::collections::BTreeMap<String, String>,
) -> impl Iterator<Item = (String, Value)> {
    map.iter().map(|(key, value)| (key.clone(), json!(value)))
}

fn resources(settings: PodSettings<'_>, default: Value) -> Value {
    match settings.resources {
        Some(wanted) => json!(wanted),
        None => default,
    }
}

fn probe(path: &str, period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": ADMIN_PORT_NAME, "scheme": "HTTP" },
        "periodSeconds": period_seconds,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    })
}

/// Only the keys that the spec names are mounted. A key that is absent is left out: not every shape of Secret has all of them.
/// Whatever user the pod runs as may read them: nobody else is in it.
fn volumes(config_map: &str, secrets: &SecretKeys) -> Value {
    let mut volumes = vec![json!({ "name": "pipeline", "configMap": { "name": config_map } })];
    volumes.extend(secrets.iter().enumerate().map(|(index, (secret, keys))| {
        let items: Vec<_> = keys.map(|key| json!({ "key": key, "path": key })).collect();
        json!({
            "name": format!("secret-{index}"),
            "secret": { "secretName": secret, "optional": true, "defaultMode": 0o444, "items": items },
        })
    }));
    Value::Array(volumes)
}

fn mounts(secrets: &SecretKeys) -> Value {
    let mut mounts = vec![json!({
        "name": "pipeline",
        "mountPath": DOCUMENT,
        "subPath": super::config_map::KEY,
        "readOnly": true,
    })];
    mounts.extend(secrets.iter().enumerate().map(|(index, (secret, _))| {
        json!({
            "name": format!("secret-{index}"),
            "mountPath": format!("{SECRETS}/{secret}"),
            "readOnly": true,
        })
    }));
    Value::Array(mounts)
}
