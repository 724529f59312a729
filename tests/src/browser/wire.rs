//! The protocol's pipe: questions with numbers, answers, and events in between.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::unix::pipe,
    sync::oneshot,
    task::JoinHandle,
};

/// How long an answer may take; scripts that wait for something say how long themselves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is told about events of a page.
pub(super) type Listener = Box<dyn Fn(&str, &Value) + Send + Sync>;

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Value>>,
    listeners: HashMap<String, Listener>,
}

pub(super) struct Wire {
    to: tokio::sync::Mutex<pipe::Sender>,
    next: AtomicU64,
    state: Arc<Mutex<State>>,
    reading: JoinHandle<()>,
}

impl Wire {
    pub(super) fn open(to: &Path, from: &Path) -> anyhow::Result<Arc<Self>> {
        // for reading and writing: neither end has to wait for the other to be opened
        let mut options = pipe::OpenOptions::new();
        options.read_write(true).unchecked(false);
        let sender = options.open_sender(to).context("the pipe to chromium")?;
        let receiver = options
            .open_receiver(from)
            .context("the pipe from chromium")?;
        let state = Arc::new(Mutex::new(State::default()));
        let reading = tokio::spawn(read(receiver, Arc::clone(&state)));
        Ok(Arc::new(Self {
            to: tokio::sync::Mutex::new(sender),
            next: AtomicU64::new(1),
            state,
            reading,
        }))
    }

    pub(super) fn listen(&self, session: &str, listener: Listener) {
        self.state
            .lock()
            .listeners
            .insert(session.to_owned(), listener);
    }

    pub(super) async fn call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> anyhow::Result<Value> {
        self.call_within(ANSWER_TIMEOUT, session, method, parameters)
            .await
    }

    pub(super) async fn call_within(
        &self,
        timeout: Duration,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> anyhow::Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut question = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            question["sessionId"] = session.into();
        }
        let (told, answer) = oneshot::channel();
        self.state.lock().waiting.insert(id, told);
        let mut text = serde_json::to_vec(&question)?;
        text.push(0);
        self.to.lock().await.write_all(&text).await?;
        let answered = tokio::time::timeout(timeout, answer).await;
        self.state.lock().waiting.remove(&id);
        let mut answer = answered
            .with_context(|| format!("no answer to {method} within {timeout:?}"))?
            .context("chromium's pipe is closed")?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(receiver: pipe::Receiver, state: Arc<Mutex<State>>) {
    let mut reader = BufReader::new(receiver);
    let mut text = Vec::new();
    while let Ok(read) = reader.read_until(0, &mut text).await {
        if read == 0 {
            return;
        }
        text.pop();
        if let Ok(message) = serde_json::from_slice::<Value>(&text) {
            take(&state, message);
        }
        text.clear();
    }
}

fn take(state: &Mutex<State>, message: Value) {
    let mut state = state.lock();
    if let Some(id) = message["id"].as_u64() {
        if let Some(waiting) = state.waiting.remove(&id) {
            // whoever asked may have given up
            waiting.send(message).ok();
        }
    } else if let (Some(session), Some(method)) =
        (message["sessionId"].as_str(), message["method"].as_str())
        && let Some(listener) = state.listeners.get(session)
    {
        listener(method, &message["params"]);
    }
}
