//! What the operator writes for pods, read by the first release as its processors and producers
//! read it: a pipeline that is pinned to it goes on when the operator is upgraded.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::unique_name;
use clickstream_tools::{cargo::cargo, workspace_root};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::stage::{Migrations, Stage};

/// The first release.
const REVISION: &str = "71ba38b";

/// Reads documents as its services do, and checks them: one line each.
const READER: &str = r#"
use clickstream_pipeline::spec::ClickstreamPipeline;

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("a document");
        match ClickstreamPipeline::from_yaml(&text) {
            Ok(pipeline) => println!("{:?}", pipeline.validate()),
            Err(error) => println!("{error}"),
        }
    }
}
"#;

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Compiles the reader with that release's own code: what its processors do with a document before
/// anything else. `None`: this is no checkout, or one without that revision.
fn reader() -> anyhow::Result<Option<PathBuf>> {
    let known = Command::new("git")
        .current_dir(workspace_root())
        .args(["cat-file", "-e", &format!("{REVISION}^{{commit}}")])
        .output();
    if !known.is_ok_and(|known| known.status.success()) {
        eprintln!("skipped: no revision {REVISION} here; git fetch --unshallow brings it");
        return Ok(None);
    }
    let dir = workspace_root().join("target/first-release");
    let tree = dir.join(REVISION);
    fs::create_dir_all(&tree)?;
    let archive = dir.join(unique_name("tree"));
    run(Command::new("git")
        .current_dir(workspace_root())
        .args(["archive", REVISION, "--output"])
        .arg(&archive))?;
    run(Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .arg("-C")
        .arg(&tree))?;
    fs::remove_file(&archive)?;
    let examples = tree.join("services/pipeline/examples");
    fs::write(examples.join("read_documents.rs"), READER)?;
    run(cargo([
        "build",
        "--package=clickstream-pipeline",
        "--example=read_documents",
        "--target-dir",
    ])
    .arg(&dir)
    .current_dir(&tree))?;
    Ok(Some(dir.join("debug/examples/read_documents")))
}

fn read(reader: &Path, texts: &[String]) -> anyhow::Result<Vec<String>> {
    let dir = workspace_root().join("target/first-release");
    let mut command = Command::new(reader);
    let mut paths = Vec::new();
    for text in texts {
        let path = dir.join(unique_name("document"));
        fs::write(&path, text)?;
        command.arg(&path);
        paths.push(path);
    }
    let said = run(&mut command)?;
    for path in paths {
        fs::remove_file(path)?;
    }
    Ok(said.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn the_first_release_reads_what_this_operator_writes() -> anyhow::Result<()> {
    let Some(reader) = tokio::task::spawn_blocking(reader).await?? else {
        return Ok(());
    };
    let stage = Stage::new(Migrations::Succeed).await?;
    let operator = stage.operator()?;
    // all that release knew that pods read
    let known = json!({
        "image": "processor:first",
        "window": { "size": "5m" },
        "watermark": { "delay": "20s", "idleTimeout": "1m", "maxFutureSkew": "90s" },
        "lateEvents": { "allowedLateness": "1h", "policy": "Store" },
        "heartbeat": { "interval": "20s" },
        "processor": { "filterMemory": "64Mi", "maxEventBytes": "32Ki", "flush": { "maxRows": 1000 } },
        "producer": { "enabled": true, "rate": 10 },
    });
    for (name, changes) in [
        ("known", known),
        ("small", json!({ "producer": { "enabled": true } })),
    ] {
        stage
            .apply(&stage.pipeline(name, &unique_name("clicks"), changes))
            .await?;
        stage
            .condition(name, "Ready", "True", "Ready")
            .await
            .map_err(|error| error.context(operator.log_tail()))?;
        let maps = stage.children::<ConfigMap>(name, 3).await?;
        let texts: Vec<String> = maps
            .iter()
            .filter_map(|map| map.data.as_ref()?.get("pipeline.yaml").cloned())
            .collect();
        ensure!(texts.len() == 3, "{maps:#?}");
        let said = read(&reader, &texts)?;
        ensure!(said == ["Ok(())"; 3], "{said:?}\n{}", texts.join("\n---\n"));
    }
    // what is said in a word of this release is not for that one, and it says which
    let later = json!({ "targets": [{
        "connection": { "secret": { "name": "postgres" } }, "rawReaders": ["console"],
    }] });
    stage
        .apply(&stage.pipeline("later", &unique_name("clicks"), later))
        .await?;
    stage.condition("later", "Ready", "True", "Ready").await?;
    let maps = stage.children::<ConfigMap>("later", 2).await?;
    for map in maps {
        let text = map.data.context("no data")?["pipeline.yaml"].clone();
        let said = read(&reader, std::slice::from_ref(&text))?;
        let expected = if text.contains("rawReaders") {
            said[0].contains("rawReaders: unknown field")
        } else {
            said == ["Ok(())"]
        };
        ensure!(expected, "{said:?}\n{text}");
    }
    Ok(())
}
