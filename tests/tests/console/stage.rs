//! A pipeline with a console in front of it, and a browser that looks at it.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{
    PostgresVersion, Process,
    browser::{Browser, Page},
    build_binary, free_port, shared, unique_name,
};
use serde_json::Value;

use crate::stack::{Stack, StackOptions};

/// How long the page may take to show something.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A pipeline, a role that may only read, and one processor.
pub struct Stage {
    pub stack: Stack,
    pub reader: String,
    pub processor_admin: u16,
    pub processor: Process,
}

impl Stage {
    /// Topic, tables, role and processor of this test's own, on the shared servers.
    pub async fn new() -> anyhow::Result<Self> {
        let reader = unique_name("reader");
        let postgres = shared::postgres(PostgresVersion::V18).await?;
        let admin = postgres.connect("postgres").await?;
        admin
            .batch_execute(&format!("create role {reader} login"))
            .await?;
        let stack = Stack::new(StackOptions {
            spec: "  events: { bots: Mark }\n".to_owned(),
            target: format!("    rawReaders: [{reader}]\n"),
            ..StackOptions::default()
        })
        .await?;
        let processor_admin = free_port()?;
        let listen = format!("127.0.0.1:{processor_admin}");
        let processor = stack.start_with("processor", &[("CLICKSTREAM_ADMIN_LISTEN", &listen)])?;
        Ok(Self {
            stack,
            reader,
            processor_admin,
            processor,
        })
    }

    /// Events of the past, `rate` a second, the last of them dated now; waits until they are
    /// stored.
    pub async fn history(&self, events: u64, rate: u64, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(producer().await?);
        command
            .args(["generate", "--as-fast-as-possible", "--bootstrap-servers"])
            .arg(self.stack.kafka.bootstrap_servers())
            .args(["--topic", &self.stack.topic, "--count", &events.to_string()])
            .args(["--rate", &rate.to_string()])
            .args(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        self.stack.drained().await
    }

    /// A console on this port of loopback.
    pub async fn console(&self, port: u16) -> anyhow::Result<Process> {
        let listen = format!("127.0.0.1:{port}");
        self.console_with(&["--listen", &listen], self.stack.postgres.port())
            .await
    }

    /// A console with these arguments, that finds PostgreSQL at another port (a proxy's).
    pub async fn console_with(&self, args: &[&str], postgres_port: u16) -> anyhow::Result<Process> {
        let mut command = Command::new(program().await?);
        command
            .arg("run")
            .args(args)
            .args(["--database", &self.url(postgres_port)])
            .arg("--processors")
            .arg(format!("http://127.0.0.1:{}", self.processor_admin));
        Process::spawn(&command, "console")
    }

    /// The database, for the reading role.
    pub fn url(&self, port: u16) -> String {
        format!(
            "postgresql://{}@127.0.0.1:{port}/{}",
            self.reader, self.stack.database
        )
    }

    /// One number of the tables.
    pub async fn count(&self, query: &str) -> anyhow::Result<i64> {
        self.stack.count(query).await
    }
}

/// The producer's program.
pub async fn producer() -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(|| build_binary("clickstream-producer")).await?
}

/// The console's program.
pub async fn program() -> anyhow::Result<PathBuf> {
    tokio::task::spawn_blocking(|| build_binary("clickstream-console")).await?
}

/// Opens the page of a console, which may still be starting, and waits until it is live.
pub async fn open(browser: &Browser, port: u16) -> anyhow::Result<Page> {
    let page = browser.page().await?;
    visit(&page, &format!("http://127.0.0.1:{port}/")).await?;
    page.wait_for(
        "document.querySelector('#state').dataset.state === 'live'",
        PATIENCE,
    )
    .await?;
    Ok(page)
}

/// Goes to an address as soon as somebody answers there.
pub async fn visit(page: &Page, url: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match page.goto(url).await {
            Ok(()) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A text of the page.
pub async fn text(page: &Page, selector: &str) -> anyhow::Result<String> {
    let found = page
        .eval(&format!(
            "document.querySelector({}).textContent",
            Value::from(selector)
        ))
        .await?;
    found.as_str().map(str::to_owned).context("no text")
}

/// Waits until a part of the page holds a text.
pub async fn shows(page: &Page, selector: &str, wanted: &str) -> anyhow::Result<()> {
    let (selector, wanted) = (Value::from(selector), Value::from(wanted));
    page.wait_for(
        &format!("document.querySelector({selector}).textContent.includes({wanted})"),
        PATIENCE,
    )
    .await?;
    Ok(())
}

/// A number as the page writes it.
pub fn written(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Fails when something went wrong in the page, or it asked anybody but the console.
pub fn is_clean(page: &Page, port: u16) -> anyhow::Result<()> {
    let errors = page.errors();
    ensure!(errors.is_empty(), "errors in the page: {errors:?}");
    let asked = page.asked();
    ensure!(
        asked == [format!("http://127.0.0.1:{port}")],
        "asked {asked:?}"
    );
    Ok(())
}
