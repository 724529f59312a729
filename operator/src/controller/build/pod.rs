//! What all pods of a pipeline have in common: no token, no privilege, no writable root, Secrets
//! key by key. What a `podTemplate` says goes beside it, never over it.

use std::collections::BTreeMap;

use clickstream_api::mesh::without_sidecar;
use clickstream_pipeline::spec::{PodSettings, PodTemplateSpec, SecretKeys};
pub use clickstream_protocol::ADMIN_PORT_NAME;
use clickstream_protocol::annotations::ACCOUNT_HASH;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    Child, Kind,
    config_map::{KEY, Read},
    guard,
};
use crate::settings::Settings;

/// The port with probes, status and metrics.
pub const ADMIN_PORT: u16 = 8080;
/// Where the pods find the document.
const DOCUMENT: &str = "/etc/clickstream/pipeline.yaml";
/// The folder with the document where it may change: Kubernetes brings a change into a folder, and
/// never into a single file.
const FOLDER: &str = "/etc/clickstream/pipeline";
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
    /// Name of the ServiceAccount unless the spec names one; `None`: the namespace's default one,
    /// without its token.
    pub service_account: Option<&'p str>,
    /// Name of the ConfigMap with the document.
    pub config_map: &'p str,
    /// When it reads the document.
    pub document: Read,
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
    let wanted = &parts.settings.template;
    let mut labels: Map<_, _> = text_map(&wanted.labels).collect();
    labels.extend(parts.labels.clone());
    let mut annotations: Map<_, _> = text_map(&wanted.annotations).collect();
    annotations.extend(parts.annotations);
    if wanted.service_account_name.is_none() && !wanted.service_account_annotations.is_empty() {
        let said = json!(wanted.service_account_annotations).to_string();
        let hash = crate::hash::short_hash(&Sha256::digest(said));
        annotations.insert(ACCOUNT_HASH.to_owned(), json!(hash));
    }
    if parts.ends {
        without_sidecar(&mut labels, &mut annotations);
    }

    let mut env = vec![
        json!({ "name": "CLICKSTREAM_PIPELINE", "value": place(parts.document) }),
        json!({ "name": "CLICKSTREAM_SECRETS_DIR", "value": SECRETS }),
        json!({ "name": "CLICKSTREAM_LOG_FORMAT", "value": "json" }),
    ];
    env.extend(parts.env);
    let mut container = json!({
        "name": parts.container,
        "image": parts.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": parts.args,
        "resources": resources(&parts.settings, parts.default_resources),
        "securityContext": over(wanted.container_security_context.as_ref(), json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        })),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": both(mounts(parts.document, parts.secrets), &wanted.volume_mounts),
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
    // a variable that refers to another one comes after it, and ours may refer to a person's
    let theirs = wanted.env.iter().filter(|variable| {
        let is_ours = |ours: &Value| ours["name"] == variable["name"];
        !env.iter().any(is_ours)
    });
    container["env"] = theirs.chain(&env).cloned().collect();
    if !wanted.env_from.is_empty() {
        container["envFrom"] = json!(wanted.env_from);
    }

    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        // which user, and which group, is the image's to say, or the namespace's where a platform
        // gives each its own
        "securityContext": over(wanted.security_context.as_ref(), json!({
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        })),
        "containers": [container],
        "volumes": both(volumes(parts.config_map, parts.secrets), &wanted.volumes),
    });
    let account = wanted.service_account_name.as_deref();
    if let Some(account) = account.or(parts.service_account) {
        spec["serviceAccountName"] = json!(account);
    }
    for (field, value) in placing(wanted) {
        spec[field] = value;
    }
    let mut pull_secrets: Vec<_> = settings
        .image_pull_secrets
        .iter()
        .map(String::as_str)
        .collect();
    for secret in &wanted.image_pull_secrets {
        if !pull_secrets.contains(&secret.name.as_str()) {
            pull_secrets.push(&secret.name);
        }
    }
    let pull_secrets: Vec<_> = pull_secrets
        .iter()
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
        guard::pod(guarding, &mut spec);
    }
    json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": spec })
}

/// Where pods run, and whom they find from there: fields of a pod that are taken as they are.
fn placing(wanted: &PodTemplateSpec) -> impl Iterator<Item = (&'static str, Value)> {
    let list = |values: &[Value]| (!values.is_empty()).then(|| json!(values));
    let name = |name: &Option<String>| name.as_ref().map(|name| json!(name));
    let nodes = &wanted.node_selector;
    [
        ("nodeSelector", (!nodes.is_empty()).then(|| json!(nodes))),
        ("tolerations", list(&wanted.tolerations)),
        ("affinity", wanted.affinity.clone()),
        (
            "topologySpreadConstraints",
            list(&wanted.topology_spread_constraints),
        ),
        ("priorityClassName", name(&wanted.priority_class_name)),
        ("runtimeClassName", name(&wanted.runtime_class_name)),
        ("schedulerName", name(&wanted.scheduler_name)),
        ("hostAliases", list(&wanted.host_aliases)),
        ("dnsConfig", wanted.dns_config.clone()),
    ]
    .into_iter()
    .filter_map(|(field, value)| Some((field, value?)))
}

fn both(mut ours: Vec<Value>, wanted: &[Value]) -> Vec<Value> {
    ours.extend_from_slice(wanted);
    ours
}

/// What people say of a security context beside what we do: `validate` has refused what would
/// loosen it.
fn over(wanted: Option<&Value>, ours: Value) -> Value {
    match (wanted, ours) {
        (Some(Value::Object(wanted)), Value::Object(mut ours)) => {
            ours.extend(wanted.clone());
            Value::Object(ours)
        }
        (_, ours) => ours,
    }
}

/// The identity of the pods: one without rights and without a token. There is one also where the
/// spec names another: pods of before may still have it.
pub fn service_account(name: &str, labels: &Map<String, Value>, wanted: &PodTemplateSpec) -> Child {
    let mut metadata = json!({ "labels": labels });
    if !wanted.service_account_annotations.is_empty() {
        metadata["annotations"] = json!(wanted.service_account_annotations);
    }
    Child {
        kind: Kind::ServiceAccount,
        name: name.to_owned(),
        body: json!({ "metadata": metadata, "automountServiceAccountToken": false }),
    }
}

fn text_map(map: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    map.iter().map(|(key, value)| (key.clone(), json!(value)))
}

fn resources(settings: &PodSettings<'_>, default: Value) -> Value {
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

/// Only the keys that the spec names are mounted. A key that is absent is left out: not every shape
/// of Secret has all of them. Whatever user the pod runs as may read them: nobody else is in it.
fn volumes(config_map: &str, secrets: &SecretKeys) -> Vec<Value> {
    let mut volumes = vec![json!({ "name": "pipeline", "configMap": { "name": config_map } })];
    volumes.extend(secrets.iter().enumerate().map(|(index, (secret, keys))| {
        let items: Vec<_> = keys.map(|key| json!({ "key": key, "path": key })).collect();
        json!({
            "name": format!("secret-{index}"),
            "secret": { "secretName": secret, "optional": true, "defaultMode": 0o444, "items": items },
        })
    }));
    volumes
}

/// Where the pod finds its document.
fn place(document: Read) -> String {
    match document {
        Read::Once => DOCUMENT.to_owned(),
        Read::Again => format!("{FOLDER}/{KEY}"),
    }
}

fn mounts(document: Read, secrets: &SecretKeys) -> Vec<Value> {
    let mut mounts = vec![match document {
        Read::Once => json!({
            "name": "pipeline",
            "mountPath": DOCUMENT,
            "subPath": KEY,
            "readOnly": true,
        }),
        Read::Again => json!({ "name": "pipeline", "mountPath": FOLDER, "readOnly": true }),
    }];
    mounts.extend(secrets.iter().enumerate().map(|(index, (secret, _))| {
        json!({
            "name": format!("secret-{index}"),
            "mountPath": format!("{SECRETS}/{secret}"),
            "readOnly": true,
        })
    }));
    mounts
}
