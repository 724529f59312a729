//! The few requests of an audit, answered.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::stand_in;

/// What the Job's pod does next.
#[derive(Clone, Copy, Debug)]
pub enum PodStage {
    /// There is none yet.
    Absent,
    /// It waits for this reason.
    Waiting(&'static str),
    /// It runs, and its log is this; a log of a running pod breaks off at its end.
    Running(&'static str),
    /// It has ended with this code and this log.
    Ended(i32, &'static str),
}

/// A server on loopback.
pub struct Api {
    state: Arc<Played>,
    kubeconfig: PathBuf,
}

struct Played {
    targets: Vec<String>,
    stages: Mutex<Vec<PodStage>>,
    now: Mutex<Option<PodStage>>,
    jobs: Mutex<Vec<Value>>,
    deleted: Mutex<Vec<String>>,
    asked: watch::Sender<usize>,
}

impl Api {
    /// Starts a server that knows one pipeline, `shop/web`, with these targets.
    pub async fn start(targets: &[&str]) -> Self {
        let state = Arc::new(Played {
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
            stages: Mutex::default(),
            now: Mutex::default(),
            jobs: Mutex::default(),
            deleted: Mutex::default(),
            asked: watch::Sender::new(0),
        });
        let router = Router::new()
            .route(
                "/apis/apps/v1/namespaces/shop/deployments",
                get(deployments),
            )
            .route("/apis/batch/v1/namespaces/shop/jobs", post(create))
            .route(
                "/apis/batch/v1/namespaces/shop/jobs/{name}",
                delete(remove).get(absent),
            )
            .route("/api/v1/namespaces/shop/pods", get(pods))
            .route("/api/v1/namespaces/shop/pods/{name}/log", get(log))
            .with_state(Arc::clone(&state));
        let kubeconfig = stand_in::serve(router).await;
        Self { state, kubeconfig }
    }

    /// What the pod does, one look after the other; the last of them for ever, or until the Job is
    /// removed.
    pub fn plays(&self, stages: &[PodStage]) {
        *self.state.stages.lock().unwrap() = stages.to_vec();
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// Jobs that were made.
    pub fn jobs(&self) -> Vec<Value> {
        self.state.jobs.lock().unwrap().clone()
    }

    /// Names of Jobs that were removed.
    pub fn deleted(&self) -> Vec<String> {
        self.state.deleted.lock().unwrap().clone()
    }

    /// Waits until pods have been asked for so often.
    pub async fn asked_for_pods(&self, times: usize) {
        let mut asked = self.state.asked.subscribe();
        asked.wait_for(|asked| *asked >= times).await.unwrap();
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        std::fs::remove_file(&self.kubeconfig).ok();
    }
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": {}, "items": items })
}

async fn deployments(State(played): State<Arc<Played>>) -> Json<Value> {
    let deployment = |target: &String| {
        json!({
            "metadata": { "name": target, "labels": { "clickstream.dev/pipeline": "web", "clickstream.dev/target": target } },
            "spec": { "selector": {}, "template": { "spec": { "containers": [{ "name": "processor" }] } } },
        })
    };
    let items: Vec<_> = played.targets.iter().map(deployment).collect();
    Json(list("DeploymentList", &items))
}

async fn create(State(played): State<Arc<Played>>, Json(mut job): Json<Value>) -> Json<Value> {
    let mut jobs = played.jobs.lock().unwrap();
    let prefix = job["metadata"]["generateName"].as_str().unwrap().to_owned();
    job["metadata"]["name"] = json!(format!("{prefix}{}", jobs.len() + 1));
    jobs.push(job.clone());
    Json(job)
}

async fn remove(State(played): State<Arc<Played>>, Path(name): Path<String>) -> Json<Value> {
    played.deleted.lock().unwrap().push(name);
    let mut stages = played.stages.lock().unwrap();
    if stages.len() > 1 {
        stages.remove(0);
    }
    Json(json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" }))
}

async fn absent() -> Response {
    let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found" });
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}

async fn pods(State(played): State<Arc<Played>>) -> Json<Value> {
    let stage = {
        let mut stages = played.stages.lock().unwrap();
        let stage = stages[0];
        // an end stays until the Job is removed
        if stages.len() > 1 && !matches!(stage, PodStage::Ended(..)) {
            stages.remove(0);
        }
        stage
    };
    *played.now.lock().unwrap() = Some(stage);
    played.asked.send_modify(|asked| *asked += 1);
    let state = match stage {
        PodStage::Absent => return Json(list("PodList", &[])),
        PodStage::Waiting(reason) => json!({ "waiting": { "reason": reason } }),
        PodStage::Running(_) => json!({ "running": {} }),
        PodStage::Ended(code, _) => {
            json!({ "terminated": { "exitCode": code, "reason": "Error" } })
        }
    };
    let container = json!({ "name": "audit", "ready": false, "restartCount": 0, "image": "i", "imageID": "", "state": state });
    let pod =
        json!({ "metadata": { "name": "p" }, "status": { "containerStatuses": [container] } });
    Json(list("PodList", &[pod]))
}

async fn log(State(played): State<Arc<Played>>) -> &'static str {
    // from the beginning, whatever was asked for: the API counts from whole seconds on
    match *played.now.lock().unwrap() {
        Some(PodStage::Running(log) | PodStage::Ended(_, log)) => log,
        _ => "",
    }
}
