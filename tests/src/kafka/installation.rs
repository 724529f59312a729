//! Kafka's programs, and what makes them start fast.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::bail;

use super::START_TIMEOUT;
use crate::{
    artifacts::{self, KAFKA},
    install::{self, Tool},
    ports::free_port,
    process::{Guard, Process, Relative},
};

/// Where Kafka's programs are.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    jars: PathBuf,
    /// What has to be made once for this release.
    prepared: PathBuf,
}

impl Installation {
    /// Finds or makes the installation. Blocks, the first time for seconds.
    pub(super) fn find() -> anyhow::Result<Self> {
        install::ensure(&[Tool::Java, Tool::Setpriv])?;
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
    pub(super) fn bootstrap_checkpoint(&self) -> PathBuf {
        self.prepared.join("bootstrap.checkpoint")
    }

    /// `java` with Kafka's classes; a main class and arguments are to follow.
    pub(super) fn java(&self) -> Command {
        let archive = self.prepared.join(CLASSES);
        // a JVM other than the one that wrote the archive does without it
        let option = archive
            .exists()
            .then(|| format!("-XX:SharedArchiveFile={}", archive.display()));
        java(&self.jars, option)
    }
}

/// Kafka's classes, loaded and verified: a broker is up in half the time.
const CLASSES: &str = "classes.jsa";

/// An id as Kafka writes them: 16 bytes in base64url, 22 characters of which the last holds 2 bits
/// only (hexadecimal digits are base64url too).
pub(super) fn kafka_uuid() -> String {
    format!("{}A", &uuid::Uuid::new_v4().simple().to_string()[..21])
}

fn java(jars: &Path, option: Option<String>) -> Command {
    let mut java = Command::new("java");
    // one collector thread and the quick compiler only, which suits short lives on few cores
    java.args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
    ]);
    java.args(option).arg("-cp").arg(jars.join("*"));
    java
}

/// Formats the folder `data` for one broker, whose port is returned, and leaves the part that others
/// need in `target`.
fn format(jars: &Path, target: &Path) -> anyhow::Result<u16> {
    let data = target.join("data");
    let (port, controller) = (free_port()?, free_port()?);
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
    let mut format = java(jars, None);
    format
        .args([
            "kafka.tools.StorageTool",
            "format",
            "-t",
            &kafka_uuid(),
            "-c",
        ])
        .arg(settings_path);
    artifacts::run(&mut format)?;
    fs::copy(
        data.join("bootstrap.checkpoint"),
        target.join("bootstrap.checkpoint"),
    )?;
    Ok(port)
}

/// Runs a broker on the formatted folder until it is up and has it write down its classes.
fn archive_classes(jars: &Path, target: &Path, port: u16) -> anyhow::Result<()> {
    let archive = target.join(CLASSES);
    let mut command = java(
        jars,
        Some(format!("-XX:ArchiveClassesAtExit={}", archive.display())),
    );
    command
        .args(["-Xmx384m", "kafka.Kafka", "server.properties"])
        .current_dir(target);
    let name = "Kafka, for its classes";
    let broker = Process::spawn_guarded(&command, name, target.join("log"), Guard::default())?;
    let deadline = Instant::now() + START_TIMEOUT;
    let running = Relative::open(broker.pid());
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = running
            .as_ref()
            .is_none_or(|it| it.has_ended_within(Duration::from_millis(50)));
        if ended || Instant::now() >= deadline {
            bail!(
                "{name}, did not start; the end of its log:\n{}",
                broker.log_tail()
            );
        }
    }
    broker.terminate()?;
    if let Some(running) = running {
        running.has_ended_within(START_TIMEOUT);
    }
    Ok(())
}
