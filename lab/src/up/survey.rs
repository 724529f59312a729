//! What is about to be replayed, said before anything is started.

use std::path::Path;

use crate::document;
use anyhow::ensure;
use tokio::process::Command;
use xtask::args::UpArgs;
use xtask::steps::Steps;

/// The pace of a replay that names none.
pub const SPEED: &str = "max";

/// The producer's arguments for the logs: files, form, names and pace.
pub fn logs(args: &UpArgs) -> Vec<String> {
    let mut logs = Vec::new();
    let speed = args.speed.clone().unwrap_or_else(|| SPEED.to_owned());
    for (option, value) in [
        ("--speed", &Some(speed)),
        ("--format", &args.format),
        ("--map", &args.map),
    ] {
        if let Some(value) = value {
            logs.extend([option.to_owned(), value.clone()]);
        }
    }
    logs.extend(args.replay.iter().map(|file| file.display().to_string()));
    logs
}

/// Reads the logs and says how many events they hold, of which period, what the pipeline will make
/// of them, and how long their replay takes; nothing where no log is replayed.
///
/// # Errors
/// A log cannot be read, or holds no event.
pub async fn tell(args: &UpArgs, producer: &Path, steps: &Steps) -> anyhow::Result<()> {
    if args.replay.is_empty() {
        return Ok(());
    }
    let step = steps.begin("log");
    // its rules say what is rejected and what is late
    let pipeline = document::path(args.pipeline.as_deref());
    let survey = async {
        let output = Command::new(producer)
            .arg("survey")
            .arg("--pipeline")
            .arg(pipeline)
            .args(logs(args))
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "the logs cannot be replayed: {said}"
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    step.during(survey, String::clone).await.map(|_| ())
}
