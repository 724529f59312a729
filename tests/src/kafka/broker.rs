//! One broker: its folder, its settings and its process.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clickstream_tools::kafka::Installation;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::{POLL, START_TIMEOUT, kafka_uuid};
use crate::{
    loopback,
    process::{Guard, Process},
    run_dir,
};

/// Everything that distinguishes one broker from another.
#[derive(Debug)]
pub(super) struct Launch {
    /// Node id, from 1.
    pub(super) id: usize,
    pub(super) dir: PathBuf,
    pub(super) keep_data: bool,
    pub(super) port: u16,
    pub(super) controller_port: u16,
    /// `id@host:port` of every controller, separated by commas.
    pub(super) voters: String,
    pub(super) cluster_id: String,
    pub(super) cluster_size: usize,
    /// Listeners beside the plaintext one.
    pub(super) listeners: Vec<String>,
    /// Largest heap in MiB.
    pub(super) heap_mb: u32,
    pub(super) rack: Option<&'static str>,
    pub(super) settings: Vec<(String, String)>,
}

/// A Kafka broker that can be killed, frozen and started again on the same data.
pub struct Broker {
    launch: Launch,
    installation: Installation,
    process: Mutex<Process>,
}

impl Broker {
    pub(super) fn start(installation: &Installation, launch: Launch) -> anyhow::Result<Self> {
        prepare(installation, &launch)
            .with_context(|| format!("cannot prepare {}", launch.dir.display()))?;
        let process = spawn(installation, &launch)?;
        Ok(Self {
            launch,
            installation: installation.clone(),
            process: Mutex::new(process),
        })
    }

    /// The node id: the index plus one.
    #[must_use]
    pub fn id(&self) -> usize {
        self.launch.id
    }

    /// The port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// SIGKILL, as a machine that loses power (but not its disk's cache).
    ///
    /// # Errors
    /// When the system refuses to signal.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.process.lock().kill().map(|_| ())
    }

    /// SIGSTOP: the broker hangs with its connections open.
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn stop_signal(&self) -> anyhow::Result<()> {
        self.process.lock().stop_signal()
    }

    /// SIGCONT after [`Broker::stop_signal`].
    ///
    /// # Errors
    /// When the broker has ended.
    pub fn continue_signal(&self) -> anyhow::Result<()> {
        self.process.lock().continue_signal()
    }

    /// Kills the broker if it runs and starts it on the same data and ports, without waiting for
    /// it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock();
        process.kill()?;
        *process = spawn(&self.installation, &self.launch)?;
        Ok(())
    }

    /// As [`Broker::start_again`], and waits until the broker takes requests. A lone broker of
    /// three does not before another one is up.
    ///
    /// # Errors
    /// When it ends instead, or does not answer within 90 s.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.start_again()?;
        self.wait_listening(Instant::now() + START_TIMEOUT).await
    }

    /// One of Kafka's own programs; arguments are to follow.
    pub(super) fn tool(&self, class: &str) -> Command {
        let mut command = self.installation.java();
        command.arg(class);
        command
    }

    /// The last lines of the broker's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.lock().log_tail()
    }

    /// The broker opens its port for clients when it has caught up with the cluster's metadata, so
    /// a connection means that it is up.
    pub(super) async fn wait_listening(&self, deadline: Instant) -> anyhow::Result<()> {
        while TcpStream::connect(loopback::at(self.launch.port))
            .await
            .is_err()
        {
            // the lock must be free again before the log is read
            let ended = self.process.lock().exited()?;
            if let Some(status) = ended {
                bail!(
                    "Kafka broker {} ended while starting ({status}); the end of its log:\n{}",
                    self.launch.id,
                    self.log_tail()
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "Kafka broker {} does not listen; the end of its log:\n{}",
                    self.launch.id,
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) fn lost_its_port(&self) -> bool {
        self.log_tail().contains("Address already in use")
    }

    pub(super) fn terminate(&self) {
        // one that has already ended needs no signal
        self.process.lock().terminate().ok();
    }

    pub(super) async fn wait_ended(&self, timeout: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + timeout;
        while self.process.lock().exited()?.is_none() {
            if Instant::now() >= deadline {
                return self.kill();
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill().ok();
        if !self.launch.keep_data && !run_dir::is_kept() {
            fs::remove_dir_all(self.launch.dir.join("data")).ok();
        }
    }
}

fn prepare(installation: &Installation, launch: &Launch) -> anyhow::Result<()> {
    let data = launch.dir.join("data");
    fs::create_dir_all(&data)?;
    // ports may differ from the last time
    fs::write(
        launch.dir.join("server.properties"),
        server_properties(launch, &data),
    )?;
    fs::write(launch.dir.join("log4j2.properties"), LOGGING)?;
    let ids = data.join("meta.properties");
    if !ids.exists() {
        fs::copy(
            installation.bootstrap_checkpoint(),
            data.join("bootstrap.checkpoint"),
        )?;
        let (cluster, node, directory) = (&launch.cluster_id, launch.id, kafka_uuid());
        fs::write(
            ids,
            format!("version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id={directory}\n"),
        )?;
    }
    Ok(())
}

const LOGGING: &str = "\
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %-5p %c{1} %m%n
";

fn server_properties(launch: &Launch, data: &Path) -> String {
    let (replicas, in_sync) = (
        launch.cluster_size.to_string(),
        launch.cluster_size.div_ceil(2).to_string(),
    );
    let mut listeners = vec![
        format!("PLAINTEXT://{}", loopback::at(launch.port)),
        format!("CONTROLLER://{}", loopback::at(launch.controller_port)),
    ];
    listeners.extend(launch.listeners.iter().cloned());
    let ours = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", launch.id.to_string()),
        ("controller.quorum.voters", launch.voters.clone()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listeners", listeners.join(",")),
        // what Kafka takes for granted only as long as no listener is encrypted
        (
            "listener.security.protocol.map",
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL".to_owned(),
        ),
        ("log.dirs", data.display().to_string()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("default.replication.factor", replicas.clone()),
        ("min.insync.replicas", in_sync.clone()),
        // few partitions of internal topics: each costs time at start and at every restart
        ("offsets.topic.num.partitions", "3".to_owned()),
        ("offsets.topic.replication.factor", replicas.clone()),
        ("transaction.state.log.num.partitions", "3".to_owned()),
        ("transaction.state.log.replication.factor", replicas),
        ("transaction.state.log.min.isr", in_sync),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
        // tests of rebalances use short sessions
        ("group.min.session.timeout.ms", "1000".to_owned()),
        // a killed broker loses its partitions after this; 9 s otherwise
        ("broker.session.timeout.ms", "6000".to_owned()),
        ("broker.heartbeat.interval.ms", "1000".to_owned()),
        // records with old timestamps stay unless a topic says otherwise; then they go within a
        // second, not within 5 min
        ("log.retention.ms", "-1".to_owned()),
        ("log.retention.check.interval.ms", "1000".to_owned()),
        // 128 MiB otherwise, a third of the heap
        ("log.cleaner.dedupe.buffer.size", (8 << 20).to_string()),
    ];
    let mut settings: BTreeMap<&str, &str> = ours
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    settings.extend(launch.rack.map(|rack| ("broker.rack", rack)));
    settings.extend(
        launch
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    );
    settings
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}

fn spawn(installation: &Installation, launch: &Launch) -> anyhow::Result<Process> {
    let mut command = installation.java();
    command
        .arg(format!("-Xmx{}m", launch.heap_mb))
        .args(["-Djava.awt.headless=true", "-Dkafka.logs.dir=."])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            launch.dir.join("log4j2.properties").display()
        ))
        .arg("kafka.Kafka")
        .arg(launch.dir.join("server.properties"))
        .current_dir(&launch.dir);
    Process::spawn_guarded(
        &command,
        &format!("Kafka broker {}", launch.id),
        launch.dir.join("log"),
        Guard::default(),
    )
}
