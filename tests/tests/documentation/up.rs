//! `cargo xtask up`, as the quickstart has it, with programs of the test's profile and for seconds.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::ensure;
use clickstream_testbed::{Process, build_binary, server_dir};

/// Two servers, two processors and an audit, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// Three visits of one morning, with a line that is no request.
const ACCESS_LOG: &str = r#"192.0.2.7 - - [10/Mar/2026:08:00:01 +0000] "GET / HTTP/1.1" 200 512 "https://www.example.com/" "Mozilla/5.0"
192.0.2.7 - - [10/Mar/2026:08:00:09 +0000] "GET /prices HTTP/1.1" 200 733 "https://shop.example/" "Mozilla/5.0"
198.51.100.4 - - [10/Mar/2026:08:01:30 +0000] "GET / HTTP/1.1" 200 512 "-" "Mozilla/5.0"
not a request
2001:db8::17 - - [10/Mar/2026:08:02:00 +0000] "GET /about HTTP/1.1" 200 99 "-" "Mozilla/5.0"
"#;

#[tokio::test]
async fn the_pipeline_comes_up_with_one_command_and_ends_with_a_clean_audit() -> anyhow::Result<()>
{
    let dir = server_dir("lab")?;
    let programs = dir.join("programs");
    fs::create_dir(&programs)?;
    let mut built = Vec::new();
    for name in [
        "clickstream-lab",
        "clickstream-processor",
        "clickstream-producer",
    ] {
        built.push(tokio::task::spawn_blocking(move || build_binary(name)).await??);
    }
    let [lab, services @ ..] = &built[..] else {
        unreachable!("three programs were built");
    };
    for service in services {
        fs::copy(
            service,
            programs.join(service.file_name().unwrap_or_default()),
        )?;
    }
    let log = dir.join("access.log");
    fs::write(&log, ACCESS_LOG)?;

    up(lab, &programs, &["--for", "5s", "--rate", "500"]).await?;
    let replayed = ["--replay", &log.display().to_string()];
    up(lab, &programs, &replayed).await
}

async fn up(lab: &Path, programs: &Path, args: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(lab);
    command.arg("up").args(args).arg("--binaries").arg(programs);
    let process = Process::spawn(&command, "up")?;
    let status = process.wait(PATIENCE).await?;
    let said = process.log();
    ensure!(status.success(), "up {args:?}: {status}: {said}");
    ensure!(
        said.contains("audit"),
        "up {args:?} says nothing of an audit: {said}"
    );
    Ok(())
}
