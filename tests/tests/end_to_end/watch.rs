//! Waiting for what a process says: in its log, at its admin server, by its end.

use std::{path::Path, time::Instant};

use anyhow::ensure;
use clickstream_telemetry::client::{GetError, HttpClient};
use clickstream_testbed::{Process, free_port, loopback};

use crate::stack::{LOOK, PATIENCE, Stack};

/// More than any page of a processor has.
const LARGEST: usize = 16 << 20;

/// A processor with its admin server.
pub struct Watched {
    pub process: Process,
    pub port: u16,
}

/// Waits until the log holds `text`.
pub async fn logged(process: &Process, text: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !process.log().contains(text) {
        ensure!(
            Instant::now() < deadline,
            "never logged: {text}\n{}",
            process.log_tail()
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Asks for an orderly end and expects it to succeed.
pub async fn end(process: &Process) -> anyhow::Result<()> {
    process.terminate()?;
    let status = process.wait(PATIENCE).await?;
    ensure!(status.success(), "{status}: {}", process.log_tail());
    Ok(())
}

impl Stack {
    /// Starts a processor with an admin server on a free port.
    pub fn start_watched(&self, name: &str) -> anyhow::Result<Watched> {
        self.start_watched_with(name, &[])
    }

    /// The same with more environment.
    pub fn start_watched_with(&self, name: &str, env: &[(&str, &str)]) -> anyhow::Result<Watched> {
        self.watched(&self.document, name, env)
    }

    /// The same with another document.
    pub fn start_watched_from(&self, document: &Path, name: &str) -> anyhow::Result<Watched> {
        self.watched(document, name, &[])
    }

    fn watched(
        &self,
        document: &Path,
        name: &str,
        env: &[(&str, &str)],
    ) -> anyhow::Result<Watched> {
        let port = free_port()?;
        let listen = loopback::at(port).to_string();
        let listen = [("CLICKSTREAM_ADMIN_LISTEN", listen.as_str())];
        let process = self.start_from(document, name, &[&listen[..], env].concat())?;
        Ok(Watched { process, port })
    }
}

impl Watched {
    /// Status code and body of a page of the admin server, as soon as it answers.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://{}{path}", loopback::at(self.port)).parse()?;
        let client = HttpClient::new();
        let answer = loop {
            match client.ask(&url).await {
                Err(GetError::Connect(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                answer => break answer?,
            }
        };
        let code = answer.status().as_u16();
        let body = answer.body(LARGEST).await?;
        Ok((code, String::from_utf8(body.to_vec())?))
    }

    /// Waits until a page holds `text`; its status code.
    pub async fn shows(&self, path: &str, text: &str) -> anyhow::Result<u16> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, body) = self.get(path).await?;
            if body.contains(text) {
                return Ok(code);
            }
            ensure!(
                Instant::now() < deadline,
                "{path} never showed {text}: {body}\n{}",
                self.process.log_tail()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}
