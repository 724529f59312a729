//! A pipeline whose processors and producer are scraped by a real Prometheus, as a PodMonitor or a
//! scrape file would have it.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::{Process, Prometheus, ScrapeTarget, build_binary, free_port};

use crate::stack::{Stack, StackOptions};

/// How often Prometheus is asked for what a test waits for: it scrapes and evaluates once a second.
pub const LOOK: Duration = Duration::from_millis(200);

/// How long an alert or a panel may take: scrapes, windows of seconds, and a machine that has other
/// things to do.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A pipeline under Prometheus.
pub struct Scene {
    /// Topic, database and document.
    pub stack: Stack,
    /// What scrapes.
    pub prometheus: Prometheus,
    targets: parking_lot::Mutex<Vec<ScrapeTarget>>,
}

impl Scene {
    /// A pipeline with heartbeats, and a Prometheus with these rules.
    pub async fn new(options: StackOptions, rules: &str) -> anyhow::Result<Self> {
        let stack = Stack::new(options).await?;
        // heartbeats are for topics that are the pipeline's own; no operator is here to make them,
        // and none is needed
        let document = fs::read_to_string(&stack.document)?;
        let document = document.replace("    management: External\n", "")
            + "  heartbeat:\n    enabled: true\n    interval: 1s\n";
        fs::write(&stack.document, document)?;
        Ok(Self {
            stack,
            prometheus: Prometheus::start(rules).await?,
            targets: parking_lot::Mutex::default(),
        })
    }

    /// Starts a processor and has it scraped.
    pub fn processor(&self, pod: &str) -> anyhow::Result<Process> {
        self.processor_with(pod, &[])
    }

    /// The same with more of an environment.
    pub fn processor_with(&self, pod: &str, more: &[(&str, &str)]) -> anyhow::Result<Process> {
        let port = free_port()?;
        let listen = format!("127.0.0.1:{port}");
        let mut environment = vec![("CLICKSTREAM_ADMIN_LISTEN", listen.as_str())];
        environment.extend(more);
        let process = self
            .stack
            .start_from(&self.stack.document, pod, &environment)?;
        self.scrape(port, &[("pod", pod), ("target", "main")])?;
        Ok(process)
    }

    /// Starts a producer and has it scraped; `args` are more options of `generate`.
    pub async fn producer(&self, rate: u64, args: &[&str]) -> anyhow::Result<Process> {
        let binary = tokio::task::spawn_blocking(|| build_binary("clickstream-producer")).await??;
        let port = free_port()?;
        let mut command = Command::new(binary);
        command
            .args(["generate", "--bootstrap-servers"])
            .arg(self.stack.kafka.bootstrap_servers())
            .args(["--topic", &self.stack.topic, "--rate", &rate.to_string()])
            .args(args)
            .env("CLICKSTREAM_ADMIN_LISTEN", format!("127.0.0.1:{port}"));
        let process = Process::spawn(&command, "producer")?;
        self.scrape(port, &[("pod", "producer")])?;
        Ok(process)
    }

    /// Waits until Prometheus has read everything that it is told to: it hears of targets in steps
    /// of five seconds, and what was counted before its first look is no increase to it.
    pub async fn scraped(&self) -> anyhow::Result<()> {
        let targets = self.targets.lock().clone();
        let begun = Instant::now();
        loop {
            let up = self.prometheus.query("up == 1").await?;
            let is_up = |target: &ScrapeTarget| {
                let instance = format!("127.0.0.1:{}", target.port);
                up.iter()
                    .any(|sample| sample.labels["instance"] == instance.as_str())
            };
            if targets.iter().all(is_up) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "not all of {targets:?} are up: {up:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until an alert fires.
    pub async fn fires(&self, alert: &str) -> anyhow::Result<()> {
        fires(&self.prometheus, alert).await
    }

    /// Waits until an alert does not fire any more.
    pub async fn resolves(&self, alert: &str) -> anyhow::Result<()> {
        resolves(&self.prometheus, alert).await
    }

    /// Adds what listens here to what is scraped, with the labels that a PodMonitor would add.
    fn scrape(&self, port: u16, labels: &[(&str, &str)]) -> anyhow::Result<()> {
        let pipeline = self.stack.topic.replace('_', "-");
        let labels = [("namespace", "test"), ("pipeline", pipeline.as_str())]
            .iter()
            .chain(labels)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut targets = self.targets.lock();
        targets.push(ScrapeTarget { port, labels });
        self.prometheus.scrape(&targets)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        fs::remove_file(&self.stack.document).ok();
    }
}

/// Waits until an alert fires.
pub async fn fires(prometheus: &Prometheus, alert: &str) -> anyhow::Result<()> {
    let firing = |alerts: &[(String, String)]| {
        alerts
            .iter()
            .any(|(name, state)| name == alert && state == "firing")
    };
    until(prometheus, &format!("{alert} fires"), firing).await
}

/// Waits until an alert does not fire any more.
pub async fn resolves(prometheus: &Prometheus, alert: &str) -> anyhow::Result<()> {
    let silent = |alerts: &[(String, String)]| !alerts.iter().any(|(name, _)| name == alert);
    until(prometheus, &format!("{alert} is resolved"), silent).await
}

async fn until(
    prometheus: &Prometheus,
    what: &str,
    wanted: impl Fn(&[(String, String)]) -> bool,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let alerts = prometheus.alerts().await?;
        if wanted(&alerts) {
            eprintln!("{what} after {:.1?}", begun.elapsed());
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "never happened: {what}; alerts are {alerts:?}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until every expression gives data, and names those that never do.
pub async fn all_give_data(
    prometheus: &Prometheus,
    mut expressions: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let mut missing = Vec::new();
        for (place, expression) in expressions {
            let samples = prometheus
                .query(&expression)
                .await
                .with_context(|| place.clone())?;
            // a division of nothing by nothing is no data
            if samples.iter().all(|sample| sample.value.is_nan()) {
                missing.push((place, expression));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "no data for {missing:#?}");
        expressions = missing;
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for the second while the first, which never ends by itself, goes on.
pub async fn while_that_goes_on(
    first: impl Future<Output = anyhow::Result<()>>,
    second: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        ended = first => ended,
        done = second => done,
    }
}

/// PromQL as Grafana would send it: everything chosen, half a minute for rates.
pub fn filled_in(expression: &str) -> String {
    ["namespace", "pipeline", "target"]
        .iter()
        .fold(expression.to_owned(), |text, variable| {
            text.replace(&format!("${variable}"), ".*")
        })
        .replace("$__rate_interval", "30s")
        .replace("$__range", "5m")
        .replace("$__interval", "15s")
}

/// What a query variable asks for: `label_values(metric, label)` as an expression.
pub fn label_values(query: &str) -> Option<String> {
    let inner = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (metric, label) = inner.rsplit_once(", ")?;
    Some(filled_in(&format!("count by ({label}) ({metric})")))
}
