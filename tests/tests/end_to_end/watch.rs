//! Waiting for what a process says: in its log, at its admin server, by its end.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Process, free_port};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::stack::{LOOK, PATIENCE, Stack};

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
        let listen = format!("127.0.0.1:{port}");
        let listen = [("CLICKSTREAM_ADMIN_LISTEN", listen.as_str())];
        let process = self.start_from(document, name, &[&listen[..], env].concat())?;
        Ok(Watched { process, port })
    }
}

impl Watched {
    /// Status code and body of a page of the admin server, as soon as it answers.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: processor\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).context("no status code")?.parse()?;
        Ok((code, body.to_owned()))
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
