//! What a kubelet does with the only container of a pod: its files are laid out in a folder, its
//! environment is set, and its program runs, here one of this machine.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use clickstream_testbed::server_dir;
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec, Secret};
use serde_json::{Value, json};

use crate::stage::Stage;

/// A container's program with what it finds around it.
pub struct Program {
    /// The command, without arguments of a test's own.
    pub command: Command,
    folder: PathBuf,
}

impl Program {
    /// The program of a pod made from this template; `listen` is where its admin server listens,
    /// where it has one.
    pub async fn of(
        stage: &Stage,
        template: &PodTemplateSpec,
        binary: &Path,
        listen: &str,
    ) -> anyhow::Result<Self> {
        let spec = json!(template.spec);
        let container = &spec["containers"][0];
        let folder = server_dir("pod")?;
        for mount in items(&container["volumeMounts"]) {
            let volume = items(&spec["volumes"]).find(|volume| volume["name"] == mount["name"]);
            let files = files(stage, volume.context("no such volume")?).await?;
            let path = inside(&folder, text(&mount["mountPath"]));
            if let Some(file) = mount["subPath"].as_str() {
                fs::create_dir_all(path.parent().context("no folder")?)?;
                fs::write(&path, files.get(file).context("no such file")?)?;
                continue;
            }
            fs::create_dir_all(&path)?;
            for (name, bytes) in files {
                fs::write(path.join(name), bytes)?;
            }
        }
        let mut command = Command::new(binary);
        command.args(items(&container["args"]).map(text));
        for variable in items(&container["env"]) {
            let name = text(&variable["name"]);
            let Some(value) = variable["value"].as_str() else {
                // what a kubelet knows of the pod; the programs go without
                continue;
            };
            if name == "CLICKSTREAM_ADMIN_LISTEN" {
                command.env(name, listen);
            } else if value.starts_with('/') {
                command.env(name, inside(&folder, value));
            } else {
                command.env(name, value);
            }
        }
        fs::create_dir_all(inside(&folder, "/dev"))?;
        Ok(Self { command, folder })
    }

    /// Runs it to its end, which has to be a good one.
    pub async fn done(mut self) -> anyhow::Result<Self> {
        let (this, output) = tokio::task::spawn_blocking(move || {
            let output = self.command.output();
            (self, output)
        })
        .await?;
        let output = output?;
        ensure!(
            output.status.success(),
            "{}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(this)
    }

    /// What it left as its termination message.
    pub fn message(&self) -> anyhow::Result<String> {
        let path = inside(&self.folder, "/dev/termination-log");
        Ok(fs::read_to_string(path)?)
    }
}

/// The files of a volume, by their names.
async fn files(stage: &Stage, volume: &Value) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    if let Some(name) = volume["configMap"]["name"].as_str() {
        let map = stage.all::<ConfigMap>().get(name).await?;
        let data = map.data.unwrap_or_default().into_iter();
        return Ok(data.map(|(name, text)| (name, text.into_bytes())).collect());
    }
    let secret = &volume["secret"];
    let name = secret["secretName"].as_str().context("no such volume")?;
    let data = stage
        .all::<Secret>()
        .get(name)
        .await?
        .data
        .unwrap_or_default();
    Ok(items(&secret["items"])
        .filter_map(|item| {
            let bytes = data.get(text(&item["key"]))?;
            Some((text(&item["path"]).to_owned(), bytes.0.clone()))
        })
        .collect())
}

/// A path of the container as it lies in the folder.
fn inside(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.trim_start_matches('/'))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
