//! A kind cluster, and commands that speak to it and to no other.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use super::tools::Tools;
use crate::program;
use clickstream_tools::workspace_root;
use xtask::steps::Steps;

/// Which image kind's nodes run; absent: kind's own of its release.
const NODE_IMAGE: &str = "CLICKSTREAM_KIND_NODE_IMAGE";

/// Archives of images that are loaded into the cluster: a folder, or files separated by commas.
const ARCHIVES: &str = "CLICKSTREAM_KIND_IMAGE_ARCHIVES";

/// A cluster that may or may not exist.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    tools: Tools,
    /// The user's own file when absent.
    kubeconfig: Option<PathBuf>,
}

/// What a cluster is created from.
#[derive(Clone, Debug)]
pub enum Configuration {
    /// kind-config.yaml, which shows ports on this machine.
    OfTheWorkspace,
    /// The same without ports, written into this folder: as many clusters as one likes.
    WithoutPorts(PathBuf),
}

impl Cluster {
    /// The cluster of this name. Installs tools where necessary.
    ///
    /// # Errors
    /// A tool is missing.
    pub async fn new(
        name: &str,
        kubeconfig: Option<PathBuf>,
        steps: &Steps,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            tools: Tools::find(steps).await?,
            kubeconfig,
        })
    }

    /// Its context in the kubeconfig.
    #[must_use]
    pub fn context(&self) -> String {
        format!("kind-{}", self.name)
    }

    /// `kubectl` for this cluster, arguments to follow.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        self.speaking_to(&self.tools.kubectl)
    }

    /// A program with kubectl's options for this cluster, arguments to follow.
    #[must_use]
    pub fn speaking_to(&self, program: &Path) -> Command {
        let mut command = self.tool(program);
        command.arg("--context").arg(self.context());
        command
    }

    /// `helm` for this cluster, arguments to follow.
    #[must_use]
    pub fn helm(&self) -> Command {
        let mut helm = self.tool(&self.tools.helm);
        helm.arg("--kube-context").arg(self.context());
        helm
    }

    /// A script of the workspace that takes the cluster from `KUBECONFIG`, and Helm as its
    /// argument.
    #[must_use]
    pub fn script(&self, path: &str) -> Command {
        let mut script = self.tool(&workspace_root().join(path));
        script.arg(&self.tools.helm);
        script
    }

    /// Creates the cluster unless it runs already; says which.
    ///
    /// # Errors
    /// kind cannot create it.
    pub async fn create(&self, configuration: &Configuration) -> anyhow::Result<&'static str> {
        if self.exists().await? {
            // also writes the context down where somebody has taken it away
            self.kind(&["export", "kubeconfig", "--name", &self.name])
                .await?;
            return Ok("there already");
        }
        let path = configuration.path()?;
        let path = path.to_string_lossy();
        let mut args = vec!["create", "cluster", "--name", &self.name];
        args.extend(["--config", &path, "--wait", "180s"]);
        let image = env::var(NODE_IMAGE);
        if let Ok(image) = &image {
            args.extend(["--image", image]);
        }
        self.kind(&args).await.with_context(|| {
            format!("kind cannot create the cluster (where kind's image cannot be pulled, {NODE_IMAGE} names another one)")
        })?;
        Ok("created")
    }

    /// Deletes the cluster; one that does not exist is no error.
    ///
    /// # Errors
    /// kind cannot delete it.
    pub async fn delete(&self) -> anyhow::Result<()> {
        self.kind(&["delete", "cluster", "--name", &self.name])
            .await
            .map(|_| ())
    }

    /// Copies images from the container engine into the cluster.
    ///
    /// # Errors
    /// The engine does not have one of them.
    pub async fn load(&self, images: &[String]) -> anyhow::Result<()> {
        let mut args = vec!["load", "docker-image", "--name", &self.name];
        args.extend(images.iter().map(String::as_str));
        self.kind(&args).await.map(|_| ())
    }

    /// Loads the archives that the environment names, if it does; returns how many.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub async fn load_archives(&self) -> anyhow::Result<usize> {
        let archives = archives()?;
        for archive in &archives {
            let archive = archive.to_string_lossy();
            self.kind(&["load", "image-archive", "--name", &self.name, &archive])
                .await?;
        }
        Ok(archives.len())
    }

    async fn exists(&self) -> anyhow::Result<bool> {
        let names = self.kind(&["get", "clusters", "--quiet"]).await?;
        Ok(names.lines().any(|name| name.trim() == self.name))
    }

    async fn kind(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut kind = self.tool(&self.tools.kind);
        program::output(kind.args(args)).await
    }

    fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(workspace_root());
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command
    }
}

impl Configuration {
    fn path(&self) -> anyhow::Result<PathBuf> {
        let whole = workspace_root().join("kind-config.yaml");
        let Self::WithoutPorts(folder) = self else {
            return Ok(whole);
        };
        let text = fs::read_to_string(&whole)
            .with_context(|| format!("cannot read {}", whole.display()))?;
        let path = folder.join("kind-config.yaml");
        fs::write(&path, without_ports(&text)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// A configuration of kind without what would collide with another cluster.
fn without_ports(text: &str) -> anyhow::Result<String> {
    let mut config: serde_json::Value = serde_yaml::from_str(text)?;
    let nodes = config["nodes"]
        .as_array_mut()
        .context("kind-config.yaml has no nodes")?;
    for node in nodes {
        if let Some(node) = node.as_object_mut() {
            node.remove("extraPortMappings");
        }
    }
    Ok(config.to_string())
}

fn archives() -> anyhow::Result<Vec<PathBuf>> {
    let Some(value) = env::var_os(ARCHIVES) else {
        return Ok(Vec::new());
    };
    let folder = PathBuf::from(&value);
    if !folder.is_dir() {
        let value = value.to_string_lossy();
        return Ok(value.split(',').map(PathBuf::from).collect());
    }
    let mut archives: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {ARCHIVES}={}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    archives.sort();
    Ok(archives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_ports_is_otherwise_the_same() -> anyhow::Result<()> {
        let text = fs::read_to_string(workspace_root().join("kind-config.yaml"))?;
        assert!(text.contains("extraPortMappings"));
        let bare: serde_json::Value = serde_json::from_str(&without_ports(&text)?)?;
        assert_eq!(bare["nodes"][0]["role"], "control-plane");
        assert_eq!(
            bare["nodes"][0]["extraPortMappings"],
            serde_json::Value::Null
        );
        Ok(())
    }
}
