//! An API server that fails in the ways that API servers fail: in front of the real one, it
//! answers, loses or holds back single requests, and ends or holds back watches. Plain HTTP on the
//! client's side, so that it knows what it carries.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clickstream_testbed::{KubeApi, unique_name};
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

/// Where the client loses the connection with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Before the API server has seen it.
    Before,
    /// The API server has done it, and its answer is lost.
    After,
}

/// A proxy, until it is dropped.
pub struct ApiProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    upstream: kube::Client,
    orders: Mutex<Orders>,
    conditions: watch::Sender<Conditions>,
    sprung: watch::Sender<bool>,
}

#[derive(Default)]
struct Orders {
    trap: Option<Trap>,
    requests: BTreeMap<u16, usize>,
    writes: Vec<String>,
}

struct Trap {
    part: String,
    nth: usize,
    lost: Lost,
}

#[derive(Clone, Default)]
struct Conditions {
    /// Every request gets this answer.
    status: Option<u16>,
    /// Watches whose path holds this part get no events.
    held: Option<&'static str>,
    /// Watches of earlier epochs have ended.
    epoch: u64,
    /// Watches that are opened are told that they come too late.
    expired: bool,
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl ApiProxy {
    /// A proxy before this API server, with an administrator's rights.
    pub async fn start(api: &KubeApi) -> anyhow::Result<Self> {
        let mut config = api.client_config().await?;
        // what fails is to fail
        config.default_retry = false;
        let shared = Arc::new(Shared {
            upstream: kube::Client::try_from(config)?,
            orders: Mutex::default(),
            conditions: watch::Sender::default(),
            sprung: watch::Sender::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                connections.spawn(async move {
                    let service = service_fn(move |request| carry(Arc::clone(&shared), request));
                    // a client that is killed ends it
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self {
            addr,
            shared,
            accepting,
        })
    }

    /// A kubeconfig that leads here, in a folder that the test's servers use.
    pub fn kubeconfig(&self, api: &KubeApi) -> anyhow::Result<PathBuf> {
        let dir = api
            .kubeconfig_path()
            .parent()
            .unwrap_or_else(|| Path::new("."));
        let path = dir.join(unique_name("kubeconfig"));
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", self.addr) } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(&path, text.to_string())?;
        Ok(path)
    }

    /// Loses the n-th write (from 1) whose path or query holds this part; see [`ApiProxy::sprung`].
    pub fn lose(&self, part: &str, nth: usize, lost: Lost) {
        self.shared.sprung.send_replace(false);
        self.shared.orders.lock().trap = Some(Trap {
            part: part.to_owned(),
            nth,
            lost,
        });
    }

    /// Waits until a write was lost. Its connection stays open, without an answer.
    pub async fn sprung(&self, patience: Duration) -> bool {
        let mut sprung = self.shared.sprung.subscribe();
        tokio::time::timeout(patience, sprung.wait_for(|sprung| *sprung))
            .await
            .is_ok()
    }

    /// Every request gets this answer from now on; `None`: the API server's again.
    pub fn answer_all(&self, status: Option<u16>) {
        self.shared
            .conditions
            .send_modify(|conditions| conditions.status = status);
    }

    /// Watches whose path holds this part get no events any more; `None`: they get what was held
    /// back.
    pub fn hold(&self, part: Option<&'static str>) {
        self.shared
            .conditions
            .send_modify(|conditions| conditions.held = part);
    }

    /// Ends all watches in the middle, and tells those that begin that their version is too old, or
    /// no longer.
    pub fn expire(&self, expired: bool) {
        self.shared.conditions.send_modify(|conditions| {
            conditions.epoch += 1;
            conditions.expired = expired;
        });
    }

    /// Ends all watches in the middle.
    pub fn cut_watches(&self) {
        self.shared
            .conditions
            .send_modify(|conditions| conditions.epoch += 1);
    }

    /// Paths of all writes so far.
    pub fn writes(&self) -> Vec<String> {
        self.shared.orders.lock().writes.clone()
    }

    /// Answers so far with this status.
    pub fn answered(&self, status: u16) -> usize {
        let orders = self.shared.orders.lock();
        orders.requests.get(&status).copied().unwrap_or(0)
    }
}

async fn carry(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let answer = match answer(&shared, request).await {
        Ok(answer) => answer,
        Err(error) => plain(StatusCode::BAD_GATEWAY, format!("{error:#}")),
    };
    *shared
        .orders
        .lock()
        .requests
        .entry(answer.status().as_u16())
        .or_default() += 1;
    Ok(answer)
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> anyhow::Result<Answer> {
    let path = request
        .uri()
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let conditions = shared.conditions.borrow().clone();
    if let Some(status) = conditions.status {
        return Ok(plain(
            StatusCode::from_u16(status)?,
            serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "a burst", "reason": "InternalError", "code": status,
            })
            .to_string(),
        ));
    }
    let is_watch = path.contains("watch=true");
    if is_watch && conditions.expired {
        return Ok(plain(
            StatusCode::OK,
            serde_json::json!({ "type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": "too old resource version", "reason": "Expired", "code": 410,
            } })
            .to_string()
                + "\n",
        ));
    }
    let lost = note(shared, request.method(), &path);
    if lost == Some(Lost::Before) {
        return nothing(shared).await;
    }
    let (parts, body) = request.into_parts();
    let mut forward = Request::builder().method(parts.method).uri(&path);
    for (name, value) in &parts.headers {
        if !["host", "connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            forward = forward.header(name, value);
        }
    }
    let body = body.collect().await?.to_bytes();
    let reply = shared
        .upstream
        .send(forward.body(Body::from(body))?)
        .await
        .context("the api server")?;
    let (mut parts, body) = reply.into_parts();
    for name in ["connection", "transfer-encoding", "content-length"] {
        parts.headers.remove(name);
    }
    if lost == Some(Lost::After) {
        body.collect().await?;
        return nothing(shared).await;
    }
    let body = if is_watch {
        events(shared, path, conditions.epoch, body)
    } else {
        body.boxed_unsync()
    };
    Ok(Response::from_parts(parts, body))
}

/// A watch's events, for as long as it lives and when they are not held back.
fn events(
    shared: &Arc<Shared>,
    path: String,
    epoch: u64,
    body: Body,
) -> UnsyncBoxBody<Bytes, kube::Error> {
    let conditions = shared.conditions.subscribe();
    let mut ended = shared.conditions.subscribe();
    let stream = body.into_data_stream().then(move |piece| {
        let mut conditions = conditions.clone();
        let path = path.clone();
        async move {
            let free =
                |conditions: &Conditions| conditions.held.is_none_or(|part| !path.contains(part));
            // whoever has dropped the sender has dropped the proxy
            let _ = conditions.wait_for(free).await;
            piece
        }
    });
    let ended = async move {
        let _ = ended.wait_for(|conditions| conditions.epoch != epoch).await;
    };
    StreamBody::new(stream.take_until(Box::pin(ended)).map_ok(Frame::data)).boxed_unsync()
}

/// Keeps a write's path, and says whether it is the one to lose.
fn note(shared: &Shared, method: &Method, path: &str) -> Option<Lost> {
    if ![Method::PATCH, Method::POST, Method::PUT, Method::DELETE].contains(method) {
        return None;
    }
    let mut orders = shared.orders.lock();
    orders.writes.push(path.to_owned());
    let trap = orders.trap.as_mut()?;
    if !path.contains(&trap.part) {
        return None;
    }
    trap.nth -= 1;
    if trap.nth > 0 {
        return None;
    }
    let lost = trap.lost;
    orders.trap = None;
    Some(lost)
}

async fn nothing(shared: &Shared) -> anyhow::Result<Answer> {
    shared.sprung.send_replace(true);
    std::future::pending().await
}

fn plain(status: StatusCode, body: String) -> Answer {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/json"),
    );
    answer
}
