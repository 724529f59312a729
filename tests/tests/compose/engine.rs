//! The container engine, by its command line.

use anyhow::{Context as _, bail};
use tokio::process::Command;

/// Images of others, as compose.yaml names them. Grafana's is not among them: where it cannot be
/// had, the rest is tried without it.
const IMAGES: [&str; 4] = [
    "apache/kafka:4.1.1",
    "postgres:18",
    "adminer:5",
    "prom/prometheus:v3.0.0",
];
/// Grafana's image.
pub const GRAFANA: &str = "grafana/grafana:12.2.0";

/// `docker`, or what CLICKSTREAM_DOCKER names; arguments to follow.
pub fn docker() -> Command {
    Command::new(std::env::var_os("CLICKSTREAM_DOCKER").unwrap_or_else(|| "docker".into()))
}

/// What a command writes to standard output.
///
/// # Errors
/// It fails; the message holds both of its streams.
pub async fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {shown}"))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let err = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}\n{out}{err}", output.status);
    }
    Ok(out)
}

/// Whether the stack can be run here: an engine answers, and it has the images of others or can get
/// them. Where both are, continuous integration (the variable CI) has to have Compose too.
///
/// # Errors
/// Something is missing that must not be.
pub async fn is_at_hand() -> anyhow::Result<bool> {
    let version = ["version", "--format", "{{.Server.Version}}"];
    if let Err(error) = output(docker().args(version)).await {
        eprintln!("skipped: no container engine answers: {error:#}");
        return Ok(false);
    }
    if let Some(missing) = first_missing(&IMAGES).await {
        eprintln!("skipped: {missing}");
        return Ok(false);
    }
    let Err(error) = output(docker().args(["compose", "version"])).await else {
        return Ok(true);
    };
    let missing = format!("Docker Compose is missing: {error:#}");
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) {
        bail!(missing);
    }
    eprintln!("skipped: {missing}");
    Ok(false)
}

/// Whether the engine has this image, or can get it.
pub async fn has(image: &str) -> bool {
    first_missing(&[image]).await.is_none()
}

async fn first_missing(images: &[&str]) -> Option<String> {
    for image in images {
        if output(docker().args(["image", "inspect", image]))
            .await
            .is_ok()
        {
            continue;
        }
        if let Err(error) = output(docker().args(["pull", "--quiet", image])).await {
            return Some(format!("there is no image {image}: {error:#}"));
        }
    }
    None
}
