//! The Collector's program, made by the project's own builder out of one receiver and one exporter.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::{
    artifacts,
    kubernetes::{fresh_dir, go, lock, output, tools_dir},
};

/// Version of the components.
const COLLECTOR: &str = "0.150.0";
/// Version of the builder, and with it of the frame around the components.
const BUILDER: &str = "0.164.0";
/// Go that these ask for; Debian 12's own package is older.
const GO: &str = "1.25";

/// The program, built first if need be. Blocks.
///
/// # Errors
/// It cannot be built; the message says what to install.
pub fn program() -> anyhow::Result<PathBuf> {
    let tools = tools_dir()?;
    let program = tools.join("bin").join(name());
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(tools.join("bin"))
        .with_context(|| format!("cannot create {}", tools.display()))?;
    let _lock = lock(&tools)?;
    // asked again: whoever held the lock may have built it
    if program.is_file() {
        return Ok(program);
    }
    let Ok(version) = output(Command::new("go").args(["env", "GOVERSION"])) else {
        bail!(
            "no `go` in the path, to build the OpenTelemetry Collector: install Go {GO} or newer (Debian 12 \
             has 1.19, which is too old)"
        );
    };
    crate::notice(&format!(
        "building the OpenTelemetry Collector {COLLECTOR} with {} in {} (once, up to 5 minutes)",
        version.trim(),
        tools.display()
    ));
    let dir = fresh_dir(&tools.join("mod/testbed-collector"))?;
    let builder = format!("go.opentelemetry.io/collector/cmd/builder@v{BUILDER}");
    artifacts::run(
        go(&dir)
            .args(["install", "-trimpath", &builder])
            .env("GOBIN", &dir),
    )?;
    let manifest = manifest(&dir.join("out"));
    fs::write(dir.join("builder.json"), manifest.to_string())?;
    let mut build = Command::new(dir.join("builder"));
    build
        .args(["--skip-strict-versioning", "--config"])
        .arg(dir.join("builder.json"))
        .current_dir(&dir)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off");
    artifacts::run(&mut build).context("cannot build the OpenTelemetry Collector")?;
    // it gets its name when it is whole
    fs::rename(dir.join("out/otelcol"), &program)?;
    fs::remove_dir_all(&dir)?;
    Ok(program)
}

/// Whether [`program`] can succeed: it was built before, or there is a `go` to build it with.
#[must_use]
pub fn can_be_had() -> bool {
    tools_dir().is_ok_and(|tools| tools.join("bin").join(name()).is_file())
        || output(Command::new("go").args(["env", "GOVERSION"])).is_ok()
}

fn name() -> String {
    format!("otelcol-{COLLECTOR}")
}

fn manifest(out: &std::path::Path) -> serde_json::Value {
    let module = |path: &str| format!("go.opentelemetry.io/collector/{path} v{COLLECTOR}");
    let held = |path: &str| format!("go.opentelemetry.io/collector/{path} => {}", module(path));
    serde_json::json!({
        "dist": { "name": "otelcol", "description": "what tests send spans to", "output_path": out },
        "receivers": [{ "gomod": module("receiver/otlpreceiver") }],
        "exporters": [{ "gomod": module("exporter/debugexporter") }],
        // otherwise the newest are taken, which do not fit these components
        "replaces": [held("exporter/exporterhelper"), held("exporter/xexporter")],
    })
}
