//! `kubectl clickstream` on the cluster, as a person calls it.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::kind::cluster::Cluster;
use crate::program;
use clickstream_tools::cargo::{programs, test_build};
use xtask::steps::Steps;

/// The package, and its program.
const PACKAGE: &str = "kubectl-clickstream";

/// The plugin's program.
pub struct Plugin {
    program: PathBuf,
}

impl Plugin {
    /// Builds it as tests do, whose run before has usually built it already.
    ///
    /// # Errors
    /// The build fails.
    pub async fn build(steps: &Steps) -> anyhow::Result<Self> {
        let step = steps.begin("plugin");
        let build = async {
            tokio::task::spawn_blocking(|| programs(test_build(), &[PACKAGE], |_| {})).await?
        };
        let mut built = step.during(build, |_| PACKAGE.to_owned()).await?;
        let program = built.pop().context("cargo built no plugin")?;
        Ok(Self { program })
    }

    /// Runs it with these arguments, and returns its output.
    ///
    /// # Errors
    /// Its exit code is not 0; the message holds what it said.
    pub async fn run(&self, cluster: &Cluster, args: &[&str]) -> anyhow::Result<String> {
        let mut plugin = cluster.speaking_to(&self.program);
        program::output(plugin.args(args)).await
    }
}
