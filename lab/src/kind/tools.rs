//! kind, kubectl and helm: found, or installed where Go can do that.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clickstream_testbed::tools_dir;
use tokio::process::Command;

use crate::program;
use xtask::steps::Steps;

const KIND: &str = "sigs.k8s.io/kind@v0.33.0";
const HELM: &str = "helm.sh/helm/v4/cmd/helm@v4.3.1";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    /// kind.
    pub kind: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// Helm 3 or 4.
    pub helm: PathBuf,
}

impl Tools {
    /// Those in the path, else those in the cache, else installed into it.
    ///
    /// # Errors
    /// One is missing and cannot be installed; the message says how to get it.
    pub async fn find(steps: &Steps) -> anyhow::Result<Self> {
        let bin = tools_dir()?.join("bin");
        let kind = match found(&bin, &["kind"]) {
            Some(kind) => kind,
            None => install("kind", KIND, &bin, steps).await?,
        };
        let helm = match found(&bin, &["helm", "helm4", "helm3"]) {
            Some(helm) => helm,
            None => install("helm", HELM, &bin, steps).await?,
        };
        let kubectl = found(&bin, &["kubectl"]).with_context(|| {
            format!(
                "no kubectl in the path or in {}: see https://kubernetes.io/docs/tasks/tools/",
                bin.display()
            )
        })?;
        Ok(Self {
            kind,
            kubectl,
            helm,
        })
    }
}

/// The first of `names` in the path or in `bin`.
fn found(bin: &Path, names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(std::iter::once(bin.to_owned()))
        .collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

async fn install(name: &str, module: &str, bin: &Path, steps: &Steps) -> anyhow::Result<PathBuf> {
    let mut version = Command::new("go");
    if program::output(version.arg("version")).await.is_err() {
        bail!(
            "no {name} in the path or in {}, and no Go to install it with: install {name}, or Go 1.24 or newer",
            bin.display()
        );
    }
    let step = steps.begin(name);
    let mut install = Command::new("go");
    install
        .args(["install", "-trimpath", "-ldflags", "-s -w", module])
        .env("GOBIN", bin)
        .env("CGO_ENABLED", "0");
    step.during(program::output(&mut install), |_| {
        format!("{module} installed in {}", bin.display())
    })
    .await?;
    Ok(bin.join(name))
}
