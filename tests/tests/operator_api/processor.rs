//! A processor in place of a real one: a pod on loopback whose `/status` says what a test wants it
//! to say.

use std::sync::Arc;

use clickstream_testbed::loopback;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{pods::run_behind_a_pod, stage::Stage};

/// A pod of a pipeline's processors that answers the operator.
pub struct Processor<'s> {
    stage: &'s Stage,
    name: String,
    said: Arc<Mutex<Value>>,
    server: JoinHandle<()>,
}

impl Drop for Processor<'_> {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl<'s> Processor<'s> {
    /// Makes the pod that the Deployment would make, once there is one.
    pub async fn start(
        stage: &'s Stage,
        pipeline: &str,
        name: &str,
        status: Value,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((loopback::of_pods(), 0)).await?;
        let port = listener.local_addr()?.port();
        let said = Arc::new(Mutex::new(status));
        let server = tokio::spawn(serve(listener, Arc::clone(&said)));
        run_behind_a_pod(stage, pipeline, name, port).await?;
        Ok(Self {
            stage,
            name: name.to_owned(),
            said,
            server,
        })
    }

    /// Says this from now on, and wakes the operator.
    pub async fn says(&self, status: Value) -> anyhow::Result<()> {
        *self.said.lock() = status;
        let stirred = json!({ "metadata": { "annotations": {
            "test/stirred": clickstream_testbed::unique_name("at"),
        } } });
        self.stage
            .all::<Pod>()
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(&stirred))
            .await?;
        Ok(())
    }

    /// Takes the pod away.
    pub async fn goes(self) -> anyhow::Result<()> {
        self.stage
            .all::<Pod>()
            .delete(&self.name, &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }
}

/// A processor that runs, with these partitions of a topic and nothing behind.
pub fn running(topic: &str, partitions: &[i32]) -> Value {
    let partitions: Vec<_> = partitions
        .iter()
        .map(|partition| {
            json!({
                "topic": topic, "partition": partition, "epoch": 1, "lag": 0,
                "counters": { "consumed": 7, "accepted": 7, "duplicate": 0, "rejected": 0, "late": 0 },
            })
        })
        .collect();
    json!({ "state": "running", "partitions": partitions })
}

async fn serve(listener: TcpListener, said: Arc<Mutex<Value>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let text = said.lock().to_string();
        // one that went away meanwhile asks again
        let _ = answer(stream, &text).await;
    }
}

async fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
