//! A real browser: Chromium without a window, told what to do over a pipe in its own protocol (the
//! Chrome DevTools Protocol).
//!
//! The pipe (two FIFOs, JSON texts that end with a NUL) needs no port and no WebSocket, and closes
//! with the process.

mod page;
mod wire;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::json;

pub use page::Page;
use wire::Wire;

use clickstream_tools::{Tool, ensure};

use crate::{process::Process, run_dir};

/// How long Chromium may take to answer for the first time, on a machine that is compiling.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// No window, no accelerator, no traffic of its own, nothing remembered. Root needs `--no-sandbox`;
/// only our own pages are opened.
const FLAGS: [&str; 16] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--metrics-recording-only",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];

/// A running Chromium with a profile of its own, gone when dropped.
pub struct Browser {
    wire: Arc<Wire>,
    process: Process,
    program: PathBuf,
}

impl Browser {
    /// Starts Chromium; installs it first where that is possible (Debian, Ubuntu as root).
    ///
    /// # Errors
    /// It is not there, or says nothing within a minute.
    pub async fn start() -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| ensure(&[Tool::Chromium, Tool::Fonts])).await??;
        let program = clickstream_tools::packages::chromium()
            .context("chromium was installed but is not found")?;
        let dir = run_dir::server_dir("chromium")?;
        let (to, from) = (dir.join("to"), dir.join("from"));
        fifo(&to)?;
        fifo(&from)?;
        let wire = Wire::open(&to, &from)?;
        // the protocol wants the pipe at 3 and 4, where only a shell can put it without unsafe code
        let mut command = Command::new("sh");
        command
            .args(["-c", "to=$1 from=$2; shift 2; exec \"$@\" 3<\"$to\" 4>\"$from\"", "sh"])
            .args([&to, &from])
            .arg(&program)
            .args(FLAGS)
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", dir.join("profile").display()))
            // Chromium writes below its home too
            .env("HOME", &dir);
        let process = Process::spawn(&command, "chromium")?;
        let browser = Self {
            wire,
            process,
            program,
        };
        let hello = browser
            .wire
            .call_within(START_TIMEOUT, None, "Browser.getVersion", json!({}));
        if let Err(error) = hello.await {
            bail!(
                "{} does not answer: {error:#}; the end of its log:\n{}",
                browser.program.display(),
                browser.process.log_tail()
            );
        }
        Ok(browser)
    }

    /// A new page, with cookies and storage of its own.
    ///
    /// # Errors
    /// Chromium refuses, or has died.
    pub async fn page(&self) -> anyhow::Result<Page> {
        Page::open(Arc::clone(&self.wire)).await
    }
}

fn fifo(path: &Path) -> anyhow::Result<()> {
    let status = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(path)
        .status()
        .context("cannot run mkfifo")?;
    anyhow::ensure!(status.success(), "mkfifo {}: {status}", path.display());
    Ok(())
}
