//! Child processes obey, and nothing outlives the process that started it.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clickstream_testbed::{Postgres, PostgresOptions, Process, build_binary};

const SOON: Duration = Duration::from_secs(30);
/// Set for the copy of this test binary that is killed.
const VICTIM: &str = "TESTBED_VICTIM";

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

async fn until(what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    while !done() {
        if Instant::now() >= deadline {
            bail!("waited too long for {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The state letter of a process (`T` is stopped), or `None` when it is gone.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ")
        .next()?
        .chars()
        .next()
        .filter(|state| *state != 'Z')
}

#[tokio::test]
async fn output_environment_and_status_are_kept() -> anyhow::Result<()> {
    let mut command = shell("echo out $WORD; echo err >&2; exit 3");
    command.env("WORD", "given");
    let process = Process::spawn(&command, "speaks")?;
    let status = process.wait(SOON).await?;
    assert_eq!(status.code(), Some(3));
    assert_eq!(process.log(), "out given\nerr\n");
    Ok(())
}

#[tokio::test]
async fn signals_arrive() -> anyhow::Result<()> {
    let terminated = Process::spawn(&shell("exec sleep 600"), "sleeps")?;
    terminated.stop_signal()?;
    assert_eq!(state(terminated.pid()), Some('T'));
    terminated.continue_signal()?;
    until("it to go on", || state(terminated.pid()) == Some('S')).await?;
    terminated.terminate()?;
    assert_eq!(terminated.wait(SOON).await?.signal(), Some(15));
    assert!(
        terminated.terminate().is_err(),
        "one that has ended cannot be signalled"
    );

    let killed = Process::spawn(&shell("exec sleep 600"), "sleeps")?;
    assert_eq!(killed.kill()?.signal(), Some(9));
    Ok(())
}

#[tokio::test]
async fn a_wait_that_ends_too_early_shows_the_log() -> anyhow::Result<()> {
    let process = Process::spawn(&shell("echo ready; exec sleep 600"), "sleeps")?;
    until("the first line", || process.log().contains("ready")).await?;
    let error = process
        .wait(Duration::from_millis(50))
        .await
        .err()
        .context("still runs")?;
    assert!(error.to_string().contains("ready"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_process_is_gone() -> anyhow::Result<()> {
    let process = Process::spawn(&shell("exec sleep 600"), "sleeps")?;
    let pid = process.pid();
    assert!(state(pid).is_some());
    drop(process);
    assert_eq!(state(pid), None);
    Ok(())
}

/// Not a test of its own: what `nothing_outlives_a_killed_process` kills.
#[tokio::test]
async fn victim() -> anyhow::Result<()> {
    let Some(report) = std::env::var_os(VICTIM) else {
        return Ok(());
    };
    let frozen = Process::spawn(&shell("exec sleep 600"), "sleeps")?;
    frozen.stop_signal()?;
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let client = postgres.connect("postgres").await?;
    let backend: i32 = client
        .query_one("select pg_backend_pid()", &[])
        .await?
        .get(0);
    let data: String = client.query_one("show data_directory", &[]).await?.get(0);
    std::fs::write(&report, format!("{} {backend} {data}\n", frozen.pid()))?;
    std::future::pending().await
}

#[tokio::test]
async fn nothing_outlives_a_killed_process() -> anyhow::Result<()> {
    let report = std::env::temp_dir().join(clickstream_testbed::unique_name("victim"));
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, &report);
    let victim = Process::spawn(&command, "victim")?;
    let told = || std::fs::read_to_string(&report).unwrap_or_default();
    until("the victim's servers", || told().ends_with('\n'))
        .await
        .with_context(|| victim.log())?;
    let told = told();
    let mut told = told.split_whitespace();
    let frozen: u32 = told.next().context("pid")?.parse()?;
    let backend: u32 = told.next().context("pid")?.parse()?;
    let data = PathBuf::from(told.next().context("folder")?);
    std::fs::remove_file(&report)?;
    assert!(state(frozen).is_some() && state(backend).is_some() && data.exists());

    victim.kill()?;
    until("the frozen process to be gone", || state(frozen).is_none()).await?;
    until("PostgreSQL's backend to be gone", || {
        state(backend).is_none()
    })
    .await?;
    let run_dir = data
        .parent()
        .and_then(Path::parent)
        .context("folder of the run")?;
    until("the data to be gone", || !run_dir.exists()).await
}

#[tokio::test]
async fn a_binary_of_the_workspace_is_built_once_and_runs() -> anyhow::Result<()> {
    let build = || build_binary("clickstream-producer");
    let path = tokio::task::spawn_blocking(build).await??;
    let built = Instant::now();
    assert_eq!(tokio::task::spawn_blocking(build).await??, path);
    assert!(
        built.elapsed() < Duration::from_secs(1),
        "the second time must not ask cargo"
    );
    let process = Process::spawn(Command::new(path).arg("--help"), "help")?;
    assert!(process.wait(SOON).await?.success());
    assert!(process.log().contains("Usage"), "{}", process.log());
    Ok(())
}
