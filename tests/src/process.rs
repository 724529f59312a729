//! Child processes that can be killed, frozen and read, and that never outlive this process.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::run_dir;

/// How often a running child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(10);

/// A running program with its output in a file. Killed on drop, and by the kernel when this process
/// ends.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
}

/// How a child is started, beyond its command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    /// What the kernel sends when this process ends: `KILL`, or a gentler signal for servers that
    /// have to clean up after themselves.
    pub(crate) on_parent_death: &'static str,
    /// The user (and group) id to run as; needs root.
    pub(crate) run_as: Option<u32>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            on_parent_death: "KILL",
            run_as: None,
        }
    }
}

impl Process {
    /// Starts `command` (program, arguments, environment and working directory are taken; its
    /// streams are not) with stdout and stderr in a log file named after `log_name`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: &Command, log_name: &str) -> anyhow::Result<Self> {
        let log = run_dir::log_file(log_name)?;
        Self::spawn_guarded(command, log_name, log, Guard::default())
    }

    /// As [`Process::spawn`], appending to `log`.
    pub(crate) fn spawn_guarded(
        command: &Command,
        name: &str,
        log: PathBuf,
        guard: Guard,
    ) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut guarded = guarded(command, guard);
        guarded
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let child = spawn_from_lasting_thread(guarded).with_context(|| {
            format!(
                "cannot start {name} with setpriv (package util-linux): {}",
                command.get_program().display()
            )
        })?;
        Ok(Self {
            name: name.to_owned(),
            pid: child.id(),
            log,
            child: Mutex::new(child),
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// SIGKILL, and waits for the end. A process that has already ended is no error.
    ///
    /// # Errors
    /// When the system refuses to signal or to wait.
    pub fn kill(&self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.lock();
        child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        let status = child.wait()?;
        run_dir::forget_frozen(self.pid);
        Ok(status)
    }

    /// SIGTERM: asks for an orderly end; see [`Process::wait`].
    ///
    /// # Errors
    /// When the process has already ended.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGSTOP: freezes the process, with its connections open.
    ///
    /// # Errors
    /// When the process has already ended.
    pub fn stop_signal(&self) -> anyhow::Result<()> {
        run_dir::note_frozen(self.pid)?;
        self.signal(Signal::STOP)
    }

    /// SIGCONT: lets a frozen process go on.
    ///
    /// # Errors
    /// When the process has already ended.
    pub fn continue_signal(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)?;
        run_dir::forget_frozen(self.pid);
        Ok(())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When the process still runs after `timeout`; the message holds the end of its log.
    pub async fn wait(&self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} still runs after {timeout:?}; the end of its log:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for the end of a short program. Blocks.
    pub(crate) fn join(&self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.lock().wait()?)
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn exited(&self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.lock().try_wait()?)
    }

    /// Everything the process has written to stdout and stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Where the log is.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log, for error messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // under the lock: until the child is reaped, which needs the lock too, its id cannot belong
        // to another process
        let mut child = self.child.lock();
        if let Some(status) = child.try_wait()? {
            bail!("{} has already ended ({status})", self.name);
        }
        let pid = raw_pid(self.pid).context("not a process id")?;
        kill_process(pid, signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))?;
        if signal == Signal::STOP {
            // the signal is on its way only; whoever freezes a process wants it frozen
            let frozen = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid), frozen)?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

fn raw_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// `command` behind `setpriv`, which sets the signal of the parent's death (and the user) and then
/// becomes the program: the id stays the same.
fn guarded(command: &Command, guard: Guard) -> Command {
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", guard.on_parent_death]);
    if let Some(id) = guard.run_as {
        guarded
            .arg(format!("--reuid={id}"))
            .arg(format!("--regid={id}"))
            .arg("--clear-groups");
    }
    guarded
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        guarded.current_dir(dir);
    }
    guarded
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// The kernel takes the *thread* that spawned a child for its parent: a server started by a test's
/// thread would die with that test. So one thread, which ends with the process, spawns them all.
fn spawn_from_lasting_thread(command: Command) -> anyhow::Result<Child> {
    static SPAWNER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::sync_channel::<Order>(1);
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                reply.send(command.spawn()).ok();
            }
        });
        orders
    });
    let (reply, answer) = mpsc::sync_channel(1);
    spawner
        .send((command, reply))
        .ok()
        .context("the spawning thread is gone")?;
    Ok(answer.recv().context("the spawning thread is gone")??)
}
