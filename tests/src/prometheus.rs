//! Prometheus as a child process that scrapes what a test tells it to, and `promtool`, which judges
//! rules.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use clickstream_tools::{Tool, ensure};

use crate::{ports::free_port, process::Process, run_dir};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// An admin server that Prometheus shall read.
#[derive(Debug, Clone)]
pub struct ScrapeTarget {
    /// Port on loopback.
    pub port: u16,
    /// Labels that every series gets; one that the series brings along wins, as it does where the
    /// Prometheus Operator is told `honorLabels`.
    pub labels: Vec<(String, String)>,
}

/// How Prometheus asks servers that ask for TLS and a token.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// The authority that vouches for them.
    pub ca: PathBuf,
    /// What their certificates are valid for.
    pub server_name: String,
    /// What it shows.
    pub token: String,
}

/// One result of a query: labels and the last value.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Labels, without the metric's name.
    pub labels: serde_json::Map<String, Value>,
    /// `NaN` where a division by zero came out.
    pub value: f64,
}

/// A running Prometheus. Ended on drop.
pub struct Prometheus {
    process: Process,
    port: u16,
    dir: PathBuf,
}

impl Prometheus {
    /// Starts a server that scrapes and evaluates once a second, and waits until it answers.
    /// `rules` is the text of a rule file.
    ///
    /// # Errors
    /// When it ends or does not answer in time (with the end of its log), and when Prometheus
    /// cannot be had.
    pub async fn start(rules: &str) -> anyhow::Result<Self> {
        Self::start_for(rules, None).await
    }

    /// The same for servers that ask for TLS and a token.
    ///
    /// # Errors
    /// As of [`Prometheus::start`].
    pub async fn start_for(rules: &str, guarded: Option<&Guarded>) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| ensure(&[Tool::Prometheus, Tool::Setpriv])).await??;
        let dir = run_dir::server_dir("prometheus")?;
        fs::write(dir.join("rules.yaml"), rules)?;
        fs::write(dir.join("targets.json"), "[]")?;
        // JSON is YAML
        let mut settings = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [dir.join("rules.yaml")],
            "scrape_configs": [{
                "job_name": "testbed",
                "honor_labels": true,
                "file_sd_configs": [{ "files": [dir.join("targets.json")], "refresh_interval": "1s" }],
            }],
        });
        if let Some(guarded) = guarded {
            let scrape = &mut settings["scrape_configs"][0];
            scrape["scheme"] = json!("https");
            scrape["tls_config"] = json!({
                "ca_file": guarded.ca, "server_name": guarded.server_name,
            });
            scrape["authorization"] = json!({ "type": "Bearer", "credentials": guarded.token });
        }
        fs::write(dir.join("prometheus.yml"), settings.to_string())?;
        let port = free_port()?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // an instant query sees a target that has gone for no longer than this
            .arg("--query.lookback-delta=30s")
            .current_dir(&dir);
        let process = Process::spawn(&command, "prometheus")?;
        let prometheus = Self { process, port, dir };
        prometheus.wait_ready().await?;
        Ok(prometheus)
    }

    /// The port to ask at, on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on scrapes these and nothing else.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn scrape(&self, targets: &[ScrapeTarget]) -> anyhow::Result<()> {
        let list: Vec<Value> = targets
            .iter()
            .map(|target| {
                let labels: serde_json::Map<String, Value> = target
                    .labels
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect();
                json!({ "targets": [format!("127.0.0.1:{}", target.port)], "labels": labels })
            })
            .collect();
        // renamed into place: a half-written list would be refused
        let partial = self.dir.join("targets.partial");
        fs::write(&partial, Value::Array(list).to_string())?;
        fs::rename(partial, self.dir.join("targets.json"))?;
        Ok(())
    }

    /// What an expression gives now: a vector's samples, or a scalar as one sample without labels.
    ///
    /// # Errors
    /// When Prometheus does not answer, or refuses the expression (with its message).
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Sample>> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.get(&format!("/api/v1/query?query={query}")).await?;
        let value = |pair: &Value| -> anyhow::Result<f64> {
            let text = pair[1].as_str().context("a sample without a value")?;
            Ok(text.parse()?)
        };
        match data["resultType"].as_str() {
            Some("vector") => data["result"]
                .as_array()
                .context("a vector that is no list")?
                .iter()
                .map(|sample| {
                    let mut labels = sample["metric"].as_object().cloned().unwrap_or_default();
                    labels.remove("__name__");
                    let value = value(&sample["value"])?;
                    Ok(Sample { labels, value })
                })
                .collect(),
            Some("scalar") => Ok(vec![Sample {
                labels: serde_json::Map::new(),
                value: value(&data["result"])?,
            }]),
            other => bail!("{expression} gives a {other:?}, not a vector"),
        }
    }

    /// Names and states (`pending`, `firing`) of the alerts that are not silent.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn alerts(&self) -> anyhow::Result<Vec<(String, String)>> {
        let data = self.get("/api/v1/alerts").await?;
        let alerts = data["alerts"].as_array().context("no list of alerts")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(alerts
            .iter()
            .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["state"])))
            .collect())
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// `data` of an answer of the API.
    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (code, body) = self.request(path).await?;
        let answer: Value = serde_json::from_str(&body)
            .with_context(|| format!("Prometheus answers {code} without JSON: {body}"))?;
        ensure!(
            answer["status"] == "success",
            "Prometheus refuses: {}",
            answer["error"].as_str().unwrap_or(&body)
        );
        Ok(answer["data"].clone())
    }

    /// Status code and body. HTTP/1.0, so that the body comes in one piece and ends with the
    /// connection.
    async fn request(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer).context("an answer that is no text")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).context("no status code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if matches!(self.request("/-/ready").await, Ok((200, _))) {
                return Ok(());
            }
            if let Some(status) = self.process.exited()? {
                bail!(
                    "Prometheus ended while starting ({status}); the end of its log:\n{}",
                    self.log_tail()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "Prometheus does not answer; the end of its log:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Runs `promtool` in a folder; what it prints. Blocks.
///
/// # Errors
/// When it cannot be had, or finds fault (the message holds its output).
pub fn promtool(dir: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    ensure(&[Tool::Prometheus])?;
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(dir)
        .output()
        .context("cannot run promtool")?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "promtool {arguments:?}:\n{text}");
    Ok(text)
}
