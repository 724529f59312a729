//! PostgreSQL as a child process: crashed, frozen and started again on the same data.

use std::{
    fs,
    os::unix::fs::chown,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio_postgres::{Config, NoTls};

use clickstream_tools::{Relative, Tool, artifacts, ensure, packages};

use crate::{
    loopback,
    ports::free_port,
    process::{Guard, Process},
    run_dir,
};

/// The user `nobody`, as which root starts PostgreSQL: it refuses to run as root.
const NOBODY: u32 = 65534;
/// Longest time to answer, crash recovery on a busy machine included (it takes 0.1 s otherwise).
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Which PostgreSQL to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PostgresVersion {
    /// The oldest that is supported; Debian's packages.
    V15,
    /// The newest; binaries from Maven Central, without `psql` and `pg_dump`.
    #[default]
    V18,
}

/// What a PostgreSQL server shall be like.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Which release.
    pub version: PostgresVersion,
    /// Where the data is; it is kept and used again. Every parent folder must be searchable when
    /// root starts the server. `None`: a folder that goes away.
    pub data_dir: Option<PathBuf>,
    /// `None`: a free one.
    pub port: Option<u16>,
    /// Server settings that replace or complete the testbed's (`postgresql.conf`).
    pub settings: Vec<(String, String)>,
    /// Whether commits wait for the disk. Off by default: killed processes lose nothing without it,
    /// only a crashed machine does. Benchmarks need it on.
    pub fsync: bool,
}

/// A running PostgreSQL server with the superuser `postgres` and no password. Stopped on drop.
pub struct Postgres {
    launch: Launch,
    process: Mutex<Process>,
}

#[derive(Debug)]
struct Launch {
    bin: PathBuf,
    dir: PathBuf,
    keep_data: bool,
    port: u16,
    settings: Vec<(String, String)>,
    run_as: Option<u32>,
}

impl Postgres {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time (with the end of its log), and when PostgreSQL
    /// cannot be had.
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        // a port can be taken between looking for it and binding it
        for _ in 0..3 {
            let wanted = options.clone();
            let launch = tokio::task::spawn_blocking(move || prepare(wanted)).await??;
            let process = Mutex::new(spawn(&launch)?);
            let postgres = Self { launch, process };
            match postgres.wait_ready().await {
                Ok(()) => return Ok(postgres),
                Err(error)
                    if options.port.is_none()
                        && postgres.log_tail().contains("Address already in use") =>
                {
                    tracing::warn!(%error, "postgresql lost its port to another process, starting again");
                }
                Err(error) => return Err(error),
            }
        }
        bail!("PostgreSQL found its port taken three times in a row")
    }

    /// The address of a database, for the superuser.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@{}/{database}",
            loopback::at(self.launch.port)
        )
    }

    /// The host to connect to.
    #[must_use]
    pub fn host(&self) -> &'static str {
        loopback::host()
    }

    /// The port to connect to; it stays the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// Creates a database; see [`crate::unique_name`].
    ///
    /// # Errors
    /// When PostgreSQL refuses, for example because it exists.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let client = self.connect("postgres").await?;
        let quoted = name.replace('"', "\"\"");
        client
            .batch_execute(&format!("create database \"{quoted}\""))
            .await
            .with_context(|| format!("cannot create database {name}"))
    }

    /// A connection as superuser. Its driver runs as a task of the calling runtime.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub async fn connect(&self, database: &str) -> anyhow::Result<tokio_postgres::Client> {
        self.connect_with(self.url(database).parse()?).await
    }

    /// A connection as `role`, which needs no password here.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub async fn connect_as(
        &self,
        role: &str,
        database: &str,
    ) -> anyhow::Result<tokio_postgres::Client> {
        let mut config: Config = self.url(database).parse()?;
        config.user(role);
        self.connect_with(config).await
    }

    async fn connect_with(&self, config: Config) -> anyhow::Result<tokio_postgres::Client> {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection of the testbed ended");
            }
        });
        Ok(client)
    }

    /// SIGKILL to the server and every process of it at once, as a machine that loses power (but
    /// not its disk's cache).
    ///
    /// # Errors
    /// When the system refuses to signal.
    pub fn kill(&self) -> anyhow::Result<()> {
        let process = self.process.lock();
        if process.exited()?.is_some() {
            return Ok(());
        }
        // a frozen server starts no further processes; one left behind would hold the shared memory
        // and prevent a start
        process.signal(Signal::STOP)?;
        let children = children(process.pid());
        process.kill()?;
        for child in &children {
            child.signal(Signal::KILL);
        }
        for child in &children {
            if !child.has_ended_within(STOP_TIMEOUT) {
                bail!("process {} of PostgreSQL survives SIGKILL", child.pid());
            }
            run_dir::forget_frozen(child.pid());
        }
        Ok(())
    }

    /// An immediate shutdown (`pg_ctl stop -m immediate`: no checkpoint, connections cut), then a
    /// start with crash recovery.
    ///
    /// # Errors
    /// When the server does not stop or does not come back.
    pub async fn restart_immediate(&self) -> anyhow::Result<()> {
        self.end(Signal::QUIT).await?;
        self.start_again().await
    }

    /// A fast shutdown (`pg_ctl stop -m fast`: transactions rolled back, checkpoint).
    ///
    /// # Errors
    /// When the server has ended already or does not stop.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.end(Signal::INT).await
    }

    /// Starts the server on the same data and port, after [`Postgres::kill`] or [`Postgres::stop`].
    ///
    /// # Errors
    /// When it still runs, or does not answer in time.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        {
            let mut process = self.process.lock();
            if process.exited()?.is_none() {
                bail!(
                    "PostgreSQL on port {} still runs; stop or kill it first",
                    self.launch.port
                );
            }
            *process = spawn(&self.launch)?;
        }
        self.wait_ready().await
    }

    /// SIGSTOP to the server and every process of it: it hangs with its connections open.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn stop_signal(&self) -> anyhow::Result<()> {
        let process = self.process.lock();
        process.stop_signal()?;
        for child in children(process.pid()) {
            run_dir::note_frozen(child.pid())?;
            child.signal(Signal::STOP);
        }
        Ok(())
    }

    /// SIGCONT after [`Postgres::stop_signal`].
    ///
    /// # Errors
    /// When the server has ended.
    pub fn continue_signal(&self) -> anyhow::Result<()> {
        let process = self.process.lock();
        for child in children(process.pid()) {
            child.signal(Signal::CONT);
            run_dir::forget_frozen(child.pid());
        }
        process.continue_signal()
    }

    /// The last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.lock().log_tail()
    }

    async fn end(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.lock().signal(signal)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.process.lock().exited()?.is_none() {
            if Instant::now() >= deadline {
                bail!(
                    "PostgreSQL did not stop within {STOP_TIMEOUT:?}; the end of its log:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let answer = match self.connect("postgres").await {
                Ok(client) => client.batch_execute("select 1").await.map_err(Into::into),
                Err(error) => Err(error),
            };
            let Err(error) = answer else { return Ok(()) };
            // the lock must be free again before the log is read
            let ended = self.process.lock().exited()?;
            if let Some(status) = ended {
                bail!(
                    "PostgreSQL ended while starting ({status}); the end of its log:\n{}",
                    self.log_tail()
                );
            }
            if Instant::now() >= deadline {
                let log = self.log_tail();
                return Err(error).with_context(|| {
                    format!("PostgreSQL does not answer; the end of its log:\n{log}")
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // an immediate shutdown frees the System V segment that a killed server leaves behind on
        // this machine (4096 of them, and no server starts any more); it takes milliseconds
        self.continue_signal().ok();
        {
            let process = self.process.lock();
            let server = Relative::open(process.pid());
            if process.signal(Signal::QUIT).is_ok()
                && let Some(server) = server
            {
                server.has_ended_within(Duration::from_secs(5));
            }
        }
        self.kill().ok();
        if !self.launch.keep_data && !run_dir::is_kept() {
            fs::remove_dir_all(self.launch.dir.join("data")).ok();
        }
    }
}

/// Binaries, a port and an initialised data folder. Blocks.
fn prepare(options: PostgresOptions) -> anyhow::Result<Launch> {
    let bin = match options.version {
        PostgresVersion::V15 => {
            ensure(&[Tool::Postgres15, Tool::Setpriv])?;
            PathBuf::from(packages::POSTGRES_15_BIN)
        }
        PostgresVersion::V18 => {
            ensure(&[Tool::Setpriv])?;
            artifacts::postgres_18_bin()?
        }
    };
    let keep_data = options.data_dir.is_some();
    let dir = options
        .data_dir
        .map_or_else(|| run_dir::server_dir("postgres"), Ok)?;
    let port = options.port.map_or_else(free_port, Ok)?;
    let run_as = rustix::process::geteuid().is_root().then_some(NOBODY);
    let defaults = [
        ("listen_addresses", loopback::host().to_owned()),
        ("unix_socket_directories", String::new()),
        ("port", port.to_string()),
        ("max_connections", "200".to_owned()),
        ("log_line_prefix", "%m [%p] %a ".to_owned()),
        ("fsync", if options.fsync { "on" } else { "off" }.to_owned()),
    ];
    let mut settings: Vec<(String, String)> = defaults
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    settings.extend(options.settings);
    let launch = Launch {
        bin,
        dir,
        keep_data,
        port,
        settings,
        run_as,
    };
    init_db(&launch)?;
    Ok(launch)
}

fn init_db(launch: &Launch) -> anyhow::Result<()> {
    let data = launch.dir.join("data");
    if data.join("PG_VERSION").exists() {
        return Ok(());
    }
    fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    if let Some(id) = launch.run_as {
        chown(&data, Some(id), Some(id))?;
    }
    let mut command = Command::new(launch.bin.join("initdb"));
    command
        .args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
            "-D",
        ])
        .arg(&data);
    let log = launch.dir.join("initdb.log");
    let initdb = Process::spawn_guarded(&command, "initdb", log, guard(launch, "KILL"))?;
    let status = initdb.join()?;
    if !status.success() {
        bail!("initdb failed ({status}):\n{}", initdb.log_tail());
    }
    Ok(())
}

fn spawn(launch: &Launch) -> anyhow::Result<Process> {
    let mut command = Command::new(launch.bin.join("postgres"));
    command
        .arg("-D")
        .arg(launch.dir.join("data"))
        .current_dir("/");
    for (key, value) in &launch.settings {
        command.arg("-c").arg(format!("{key}={value}"));
    }
    // when this process dies the server makes an immediate shutdown: its own processes end with it,
    // and its shared memory is freed
    Process::spawn_guarded(
        &command,
        "PostgreSQL",
        launch.dir.join("log"),
        guard(launch, "QUIT"),
    )
}

fn guard(launch: &Launch, on_parent_death: &'static str) -> Guard {
    Guard {
        on_parent_death,
        run_as: launch.run_as,
    }
}

/// The processes that `pid` has started and that still run.
fn children(pid: u32) -> Vec<Relative> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = listed
        .split_whitespace()
        .filter_map(|child| child.parse().ok());
    pids.filter_map(Relative::open).collect()
}
