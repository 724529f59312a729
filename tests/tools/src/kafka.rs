//! Kafka's programs, and what makes them start fast.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use crate::{
    Relative,
    artifacts::{self, KAFKA},
    packages::{self, Tool},
};

/// Kafka's classes, loaded and verified: a broker is up in half the time.
const CLASSES: &str = "classes.jsa";

/// Longest time for a broker to listen, and to end, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// How often it is asked whether the broker listens.
const POLL: Duration = Duration::from_millis(50);

/// An id as Kafka writes them: 16 bytes in base64url. It belongs to the cluster that is formatted
/// once to see what formatting writes, and to no other.
const CLUSTER_ID: &str = "Y2xpY2tzdHJlYW0tdGVzdA";

/// Where Kafka's programs are.
#[derive(Debug, Clone)]
pub struct Installation {
    jars: PathBuf,
    /// What has to be made once for this release.
    prepared: PathBuf,
}

impl Installation {
    /// Finds or makes the installation. Blocks, the first time for seconds.
    ///
    /// # Errors
    /// Java, Maven or Kafka cannot be had, or Kafka does not run.
    pub fn find() -> anyhow::Result<Self> {
        packages::ensure(&[Tool::Java, Tool::Setpriv])?;
        let jars = artifacts::kafka_jars()?;
        let name = format!("kafka-{KAFKA}-prepared");
        let prepared = artifacts::cached(&artifacts::cache_dir(), &name, &[], |target| {
            let port = format(&jars, target)?;
            archive_classes(&jars, target, port)?;
            Ok(fs::remove_dir_all(target.join("data"))?)
        })?;
        Ok(Self { jars, prepared })
    }

    /// What formatting writes besides ids: the same for every cluster of this release. Copying it
    /// saves a JVM (about 2 s) for each broker.
    #[must_use]
    pub fn bootstrap_checkpoint(&self) -> PathBuf {
        self.prepared.join("bootstrap.checkpoint")
    }

    /// `java` with Kafka's classes; a main class and arguments are to follow.
    #[must_use]
    pub fn java(&self) -> Command {
        let archive = self.prepared.join(CLASSES);
        // a JVM other than the one that wrote the archive does without it
        let option = archive
            .exists()
            .then(|| format!("-XX:SharedArchiveFile={}", archive.display()));
        java(Command::new("java"), &self.jars, option)
    }
}

fn java(mut java: Command, jars: &Path, option: Option<String>) -> Command {
    // one collector thread and the quick compiler only, which suits short lives on few cores
    java.args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
    ]);
    java.args(option).arg("-cp").arg(jars.join("*"));
    java
}

/// Formats the folder `data` for one broker, whose port is returned, and leaves the part that
/// others need in `target`.
fn format(jars: &Path, target: &Path) -> anyhow::Result<u16> {
    let data = target.join("data");
    let (port, controller) = two_free_ports()?;
    let settings = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         log.dirs={}\n",
        data.display()
    );
    let settings_path = target.join("server.properties");
    fs::write(&settings_path, settings)?;
    let mut format = java(Command::new("java"), jars, None);
    format
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
        .arg(settings_path);
    artifacts::run(&mut format)?;
    fs::copy(
        data.join("bootstrap.checkpoint"),
        target.join("bootstrap.checkpoint"),
    )?;
    Ok(port)
}

/// Two different loopback ports that were free a moment ago.
fn two_free_ports() -> anyhow::Result<(u16, u16)> {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).context("no free loopback port");
    let (one, two) = (listen()?, listen()?);
    Ok((one.local_addr()?.port(), two.local_addr()?.port()))
}

/// Runs a broker on the formatted folder until it listens, then has it write down its classes.
fn archive_classes(jars: &Path, target: &Path, port: u16) -> anyhow::Result<()> {
    let archive = target.join(CLASSES);
    let log_path = target.join("log");
    let log = File::create(&log_path)?;
    // setpriv: the broker ends with this process, however that ends
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL", "--", "java"]);
    let mut broker = java(
        guarded,
        jars,
        Some(format!("-XX:ArchiveClassesAtExit={}", archive.display())),
    )
    .args(["-Xmx384m", "kafka.Kafka", "server.properties"])
    .current_dir(target)
    .stdin(Stdio::null())
    .stdout(log.try_clone()?)
    .stderr(log)
    .spawn()
    .context("cannot start Kafka with setpriv (package util-linux)")?;
    let running = Relative::open(broker.id()).context("Kafka ended at once")?;
    let deadline = Instant::now() + TIMEOUT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if running.has_ended_within(POLL) || Instant::now() >= deadline {
            broker.kill().ok();
            broker.wait()?;
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            bail!("Kafka, run once to archive its classes, did not start:\n{log}");
        }
    }
    running.signal(Signal::TERM);
    if !running.has_ended_within(TIMEOUT) {
        broker.kill()?;
    }
    broker.wait()?;
    Ok(())
}
