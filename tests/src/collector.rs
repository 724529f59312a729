//! A real OpenTelemetry Collector that takes spans by OTLP over HTTP and prints them: found, or
//! built once from its Go modules.

mod printed;

use std::{
    fs,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::json;

pub use self::printed::CollectedSpan;
use clickstream_tools::{Tool, ensure};

use crate::{ports::free_port, process::Process, run_dir};

const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long spans may take to arrive on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running Collector. Ended on drop.
pub struct Collector {
    process: Process,
    port: u16,
}

impl Collector {
    /// Whether [`Collector::start`] can succeed: the program was built before, or there is a `go`
    /// to build it with.
    #[must_use]
    pub fn can_be_had() -> bool {
        clickstream_tools::collector::can_be_had()
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it ends or does not listen in time, and when the program cannot be had.
    pub async fn start() -> anyhow::Result<Self> {
        let program = tokio::task::spawn_blocking(|| {
            ensure(&[Tool::Setpriv])?;
            clickstream_tools::collector::program()
        })
        .await??;
        let port = free_port()?;
        let dir = run_dir::server_dir("collector")?;
        // JSON is YAML
        let settings = json!({
            "receivers": { "otlp": { "protocols": { "http": { "endpoint": format!("127.0.0.1:{port}") } } } },
            "exporters": { "debug": { "verbosity": "detailed" } },
            "service": {
                "telemetry": { "metrics": { "level": "none" } },
                "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["debug"] } },
            },
        });
        fs::write(dir.join("collector.yaml"), settings.to_string())?;
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(dir.join("collector.yaml"))
            .current_dir(&dir);
        let process = Process::spawn(&command, "collector")?;
        let collector = Self { process, port };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = collector.process.exited()? {
                bail!(
                    "the collector ended ({status}): {}",
                    collector.process.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "the collector does not listen: {}",
                    collector.process.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(collector)
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The Collector's process, to be killed or frozen.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Everything that has arrived so far.
    #[must_use]
    pub fn spans(&self) -> Vec<CollectedSpan> {
        printed::spans(&self.process.log())
    }

    /// Waits until `found` finds what it looks for among the spans that have arrived.
    ///
    /// # Errors
    /// When it never does; the message lists the names of what has arrived.
    pub async fn until<T>(
        &self,
        what: &str,
        found: impl Fn(&[CollectedSpan]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if let Some(found) = found(&spans) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
                return None.with_context(|| {
                    format!("{what} did not arrive; {} spans: {names:?}", names.len())
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
