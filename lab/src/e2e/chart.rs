//! The chart's life while nothing else is on the cluster: installed, handed over, upgraded,
//! removed.

use anyhow::Context as _;

use crate::kind::cluster::Cluster;
use crate::program;
use xtask::steps::Steps;

/// The script, which says of itself what it tries.
const SCRIPT: &str = "charts/lifecycle.sh";

/// The script deletes it, and with it every pipeline.
const DEFINITION: &str = "clickstreampipelines.clickstream.dev";

/// Runs it; it leaves the cluster as it was.
///
/// # Errors
/// One of its checks fails; the message names each.
pub async fn lives(cluster: &Cluster, steps: &Steps) -> anyhow::Result<()> {
    let step = steps.begin("chart");
    let work = async {
        let mut definition = cluster.kubectl();
        definition.args([
            "get",
            "crd",
            DEFINITION,
            "--ignore-not-found",
            "--output",
            "name",
        ]);
        if !program::output(&mut definition).await?.trim().is_empty() {
            return Ok("left out: the cluster is in use already".to_owned());
        }
        let said = program::output(&mut cluster.script(SCRIPT)).await?;
        let last = said.lines().last();
        last.map(str::to_owned).context("the script says nothing")
    };
    step.during(work, Clone::clone).await?;
    Ok(())
}
