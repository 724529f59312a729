//! An API server with one pipeline in trouble: everything in it that may not leave the cluster is
//! planted.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::stand_in;

/// A password that is planted wherever one could be.
pub const SECRET: &str = "hunter2-Planted-Q9";
/// An event, planted wherever one could be.
pub const EVENT: &str = r#"{"event_id":"018f3a52-0000-7000-8000-00000000beef","user_id":"planted@example.com","url":"/planted-path"}"#;

/// What guarded pods want to be shown.
pub const TOKEN: &str = "a-token-of-thirty-two-characters";

/// A server on loopback.
pub struct Api {
    state: Arc<Played>,
    kubeconfig: PathBuf,
}

#[derive(Default)]
struct Played {
    asked: Mutex<Vec<String>>,
    /// Answers of pods so far; the log's end moves with it.
    looks: AtomicUsize,
    /// Parts that may not be seen.
    forbidden: Mutex<Vec<&'static str>>,
    /// Pods that have come since.
    late: AtomicUsize,
    /// Whether pods are asked by TLS, and want a token.
    guarded: AtomicBool,
}

impl Api {
    /// Starts a server that knows one pipeline, `shop/web`.
    pub async fn start() -> Self {
        let state = Arc::new(Played::default());
        let router = Router::new()
            .route("/version", get(version))
            .route(
                "/apis/clickstream.dev/v1alpha1/namespaces/shop/clickstreampipelines/{name}",
                get(pipeline),
            )
            .route("/api/v1/namespaces/shop/pods", get(pods))
            .route("/api/v1/namespaces/shop/pods/{name}/log", get(log))
            .route(
                "/api/v1/namespaces/shop/pods/{name}/proxy/{what}",
                get(proxy),
            )
            .route("/api/v1/namespaces/shop/events", get(events))
            .route("/api/v1/namespaces/shop/secrets/scrape", get(scrape))
            .route("/api/v1/namespaces/shop/configmaps", get(config_maps))
            .route("/api/v1/namespaces/shop/{kind}", get(nothing))
            .route(
                "/apis/{group}/{version}/namespaces/shop/{kind}",
                get(nothing),
            )
            .layer(middleware::from_fn_with_state(Arc::clone(&state), noted))
            .with_state(Arc::clone(&state));
        let kubeconfig = stand_in::serve(router).await;
        Self { state, kubeconfig }
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// Every path that was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Paths with this in them may not be seen.
    pub fn forbids(&self, part: &'static str) {
        self.state.forbidden.lock().unwrap().push(part);
    }

    /// Pods are asked by TLS from now on, and want a token.
    pub fn guards(&self) {
        self.state.guarded.store(true, Ordering::Relaxed);
    }

    /// Another pod comes.
    pub fn scales(&self) {
        self.state.late.store(1, Ordering::Relaxed);
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        std::fs::remove_file(&self.kubeconfig).ok();
    }
}

async fn noted(State(played): State<Arc<Played>>, request: Request, next: Next) -> Response {
    let path = request.uri().to_string();
    played.asked.lock().unwrap().push(path.clone());
    let forbidden = played.forbidden.lock().unwrap().clone();
    if forbidden.iter().any(|part| path.contains(part)) {
        let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "you may not" });
        return (StatusCode::FORBIDDEN, Json(status)).into_response();
    }
    next.run(request).await
}

fn list(kind: &str, items: &[Value]) -> Json<Value> {
    Json(json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": items }))
}

async fn version() -> Json<Value> {
    Json(json!({
        "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "linux/amd64",
    }))
}

async fn pipeline(Path(name): Path<String>) -> Response {
    if name != "web" {
        let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found" });
        return (StatusCode::NOT_FOUND, Json(status)).into_response();
    }
    let applied = format!("{{\"password\":\"{SECRET}\"}}");
    Json(json!({
        "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1",
            "managedFields": [{ "manager": SECRET }],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": applied,
                "example.com/token": SECRET,
                "clickstream.dev/restart-at": "2026-11-29T20:00:00Z",
            },
        },
        "spec": {
            "kafka": { "bootstrapServers": "kafka:9092" },
            "targets": [{ "connection": { "secret": { "name": "postgres" } } }],
            "processor": { "env": [{ "name": "OTEL_EXPORTER_OTLP_HEADERS", "value": SECRET }] },
        },
        "status": { "conditions": [{
            "type": "DatabaseReady", "status": "False", "reason": "MigrationFailed", "lastTransitionTime": "2026-11-29T20:00:00Z",
            "message": format!("cannot reach postgres://clicks:{SECRET}@db:5432/analytics"),
        }] },
    }))
    .into_response()
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": { "clickstream.dev/pipeline": "web", "clickstream.dev/target": "default", "app.kubernetes.io/component": "processor" },
            "annotations": { "vault.hashicorp.com/role": SECRET },
        },
        "spec": { "containers": [
            {
                "name": "processor",
                "env": [{ "name": "HTTPS_PROXY", "value": format!("http://u:{SECRET}@proxy:3128") }, { "name": "CLICKSTREAM_TARGET", "value": "default" }],
                "ports": [{ "name": "admin", "containerPort": 8080 }],
            },
            { "name": "istio-proxy", "env": [{ "name": "TOKEN", "value": SECRET }] },
        ] },
        "status": { "phase": "Running", "containerStatuses": [
            { "name": "processor", "ready": true, "restartCount": 1, "image": "registry/processor:1", "imageID": "sha256:1", "state": { "running": {} } },
            { "name": "istio-proxy", "ready": true, "restartCount": 0, "image": "istio", "imageID": "", "state": { "running": {} } },
        ] },
    })
}

fn guard(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let container = &mut spec["containers"][0];
    container["readinessProbe"] =
        json!({ "httpGet": { "path": "/readyz", "port": "admin", "scheme": "HTTPS" } });
    container["env"] = json!([
        { "name": "CLICKSTREAM_ADMIN_TLS", "value": "/etc/clickstream/admin" },
        { "name": "CLICKSTREAM_ADMIN_TOKENS", "value": "/etc/clickstream/admin-tokens" },
    ]);
    container["volumeMounts"] =
        json!([{ "name": "secret-1", "mountPath": "/etc/clickstream/admin-tokens" }]);
    spec["volumes"] = json!([{ "name": "secret-1", "secret": { "secretName": "scrape" } }]);
}

async fn scrape() -> Json<Value> {
    // base64 of the token and of one that comes after it
    let next = "MC1hLXRva2VuLXRoYXQtbm8tcG9kLWhhcy1yZWFkLXlldAo="; // one that pods do not know yet
    let tokens = "YS10b2tlbi1vZi10aGlydHktdHdvLWNoYXJhY3RlcnMKdGhlLW5leHQtb25lLW9mLXRoZW0K";
    Json(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "scrape" }, "data": { "next": next, "of-prometheus": tokens },
    }))
}

async fn pods(State(played): State<Arc<Played>>) -> Json<Value> {
    let mut all = vec![pod("web-0"), pod("web-1")];
    if played.guarded.load(Ordering::Relaxed) {
        all.iter_mut().for_each(guard);
    }
    if played.late.load(Ordering::Relaxed) > 0 {
        all.push(pod("web-2"));
    }
    list("PodList", &all)
}

async fn log(Path(name): Path<String>, uri: Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let asked = |key: &str| {
        let mut pairs = pairs.clone();
        pairs
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    };
    if asked("container") != Some("processor") {
        return EVENT.to_owned();
    }
    let at = |second: u32| format!("2026-11-29T20:00:{second:02}.000000000Z");
    if asked("previous") == Some("true") {
        return format!(
            "{} {{\"timestamp\":\"t\",\"level\":\"ERROR\",\"message\":\"the run before\"}}\n",
            at(0)
        );
    }
    let first = if name == "web-0" { 1 } else { 2 };
    let record = json!({ "timestamp": "t", "level": "WARN", "message": "odd", "record": EVENT, "url": format!("postgres://u:{SECRET}@db/x") });
    format!(
        "{} {{\"timestamp\":\"t\",\"level\":\"INFO\",\"message\":\"first of {name}\"}}\n{} {record}\n{} {EVENT}\n{} error: password={SECRET} refused\n",
        at(first),
        at(first + 2),
        at(first + 4),
        at(first + 6),
    )
}

async fn proxy(
    State(played): State<Arc<Played>>,
    Path((name, what)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut name = name.as_str();
    if played.guarded.load(Ordering::Relaxed) {
        let Some(by_tls) = name.strip_prefix("https:") else {
            return (StatusCode::BAD_GATEWAY, "no TLS").into_response();
        };
        name = by_tls;
        // the API server has taken `Authorization` away by now
        let shown = headers.get("x-clickstream-token");
        if shown.is_none_or(|token| token != TOKEN) {
            return (StatusCode::UNAUTHORIZED, "a token is needed").into_response();
        }
    }
    let look = i64::try_from(played.looks.fetch_add(1, Ordering::Relaxed) / 2).unwrap();
    if what == "metrics" {
        return "clickstream_records_total{partition=\"0\"} 7\n".into_response();
    }
    if name != "web-0:8080" {
        return (StatusCode::SERVICE_UNAVAILABLE, "no route to host").into_response();
    }
    Json(json!({ "state": "running", "partitions": [
        { "topic": "clicks", "partition": 0, "epoch": 3, "lag": 5, "next_offset": 100 + look * 50, "state": "owned", "oldest_unprocessed_seconds": 2.4 },
        { "topic": "clicks", "partition": 1, "epoch": 3, "lag": 70_000, "next_offset": 7, "state": "owned" },
    ], "halted": [{ "topic": "clicks", "partition": 2, "reason": format!("password={SECRET}") }] }))
    .into_response()
}

async fn events() -> Json<Value> {
    let event = |name: &str, message: String| {
        json!({
            "metadata": { "name": "e", "namespace": "shop" }, "type": "Warning", "reason": "Failed", "message": message,
            "involvedObject": { "kind": "Pod", "name": name }, "lastTimestamp": "2026-11-29T20:00:00Z",
        })
    };
    list(
        "EventList",
        &[
            event("web-0", format!("Error: token={SECRET} for image")),
            event("somebody-else", "of another pipeline".to_owned()),
        ],
    )
}

async fn config_maps() -> Json<Value> {
    let document = format!(
        "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nspec:\n  kafka:\n    bootstrapServers: kafka:9092\n    password: {SECRET}\n"
    );
    list(
        "ConfigMapList",
        &[
            json!({ "metadata": { "name": "web-default" }, "data": { "pipeline.yaml": document, "notes": SECRET } }),
        ],
    )
}

async fn nothing() -> Json<Value> {
    list("List", &[])
}
