//! `cargo xtask e2e`: the Kubernetes quickstart as a test, on a kind cluster of its own.
//!
//! ```text
//! [--full: the chart's life] ──> as `kind up` ──> rows arrive, Ready ──> console ──> scale-up ──> a kill ──> [--full: the long list] ──> [--figures] ──> producer off, audit ──> cluster gone
//!
//! [--upgrade-from] as `kind up`, of another release ──> three pipelines, one pinned, one sick ──> this release ──> the sick one cured ──> producers off, audits
//! ```
//! What fails ends the test; the cluster's own words are in the message, and with `--keep` the
//! cluster stays.

mod chart;
mod console;
mod existing;
mod faults;
mod figures;
mod plugin;
mod surroundings;
mod upgrade;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use self::plugin::Plugin;
use crate::kind::cluster::{Cluster, Configuration};
use crate::kind::pipeline::Pipeline;
use crate::kind::stack::{self, Release};
use clickstream_tools::workspace_root;
use xtask::args::E2eArgs;
use xtask::images::engine;
use xtask::steps::Steps;

/// The cluster's name: not that of `cargo xtask kind`, which may run beside.
const NAME: &str = "clickstream-e2e";

/// Events a second, a number that two busy cores carry beside everything else.
const RATE: i64 = 500;

/// Longest time from the resource to the first event in PostgreSQL.
const FIRST_ROWS: Duration = Duration::from_secs(60);

/// Runs the test.
///
/// # Errors
/// Something is not as it should be.
pub async fn run(args: E2eArgs) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(engine::answers).await??;
    let steps = Steps::new();
    let folder = workspace_root().join("target/e2e");
    fs::create_dir_all(&folder)?;
    let cluster = Cluster::new(NAME, Some(folder.join("kubeconfig")), &steps).await?;
    let outcome = test(
        &args,
        &cluster,
        &Configuration::WithoutPorts(folder),
        &steps,
    )
    .await;
    if args.keep {
        steps.say(&format!(
            "kept: export KUBECONFIG={}",
            workspace_root().join("target/e2e/kubeconfig").display()
        ));
    } else {
        let step = steps.begin("cluster");
        step.during(cluster.delete(), |()| format!("{NAME} is gone"))
            .await?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn test(
    args: &E2eArgs,
    cluster: &Cluster,
    configuration: &Configuration,
    steps: &Steps,
) -> anyhow::Result<()> {
    let servers = async {
        stack::create(cluster, configuration, steps).await?;
        if args.full {
            chart::lives(cluster, steps).await?;
        }
        stack::servers(cluster, steps).await
    };
    // one compiler at a time
    let programs = async {
        stack::build(&args.sources, steps).await?;
        Plugin::build(steps).await
    };
    let (plugin, ()) = tokio::try_join!(programs, servers)?;
    if let Some(from) = &args.upgrade_from {
        return upgrade::test(args, from, cluster, &plugin, steps).await;
    }
    stack::load(cluster, &args.sources.names(), steps).await?;
    surroundings::put_up(cluster, &args.surroundings, steps).await?;
    let release = surroundings::release(Release::of(&args.sources), &args.surroundings);
    stack::operator(cluster, &release, steps).await?;

    let document = document(1, args)?;
    let pipeline = Pipeline::new(cluster, &document)?;
    console::create_role(&pipeline).await?;
    let took = pipeline.bring_up(&document, steps).await?;
    anyhow::ensure!(took <= FIRST_ROWS, "the first event took {took:?}");
    pipeline.ready(steps).await?;
    surroundings::in_force(cluster, &args.surroundings, &args.sources.tag, steps).await?;
    console::shows(&pipeline, release, steps).await?;

    faults::scale(&pipeline, 2, steps).await?;
    faults::kill(&pipeline, "processor", steps).await?;
    if args.full {
        long_list(args, &pipeline, &plugin, steps).await?;
    }
    if args.figures {
        figures::rolling_update(&pipeline, steps).await?;
        figures::capped_drain(&pipeline, steps).await?;
    }
    faults::producer_off(&pipeline, steps).await?;
    faults::audited(&pipeline, &plugin, steps).await
}

async fn long_list(
    args: &E2eArgs,
    pipeline: &Pipeline<'_>,
    plugin: &Plugin,
    steps: &Steps,
) -> anyhow::Result<()> {
    for replicas in [1, 4, 2] {
        faults::scale(pipeline, replicas, steps).await?;
    }
    faults::audited(pipeline, plugin, steps).await?;
    for _ in 0..3 {
        faults::kill(pipeline, "processor", steps).await?;
    }
    faults::kill(pipeline, "producer", steps).await?;
    faults::audited(pipeline, plugin, steps).await?;
    for server in ["kafka-0", "postgres-0"] {
        faults::server_deleted(pipeline, server, steps).await?;
        faults::audited(pipeline, plugin, steps).await?;
    }
    faults::operator_away(pipeline, args.operator_away, steps).await?;
    faults::audited(pipeline, plugin, steps).await?;
    faults::suspended(pipeline, plugin, steps).await?;
    faults::audited(pipeline, plugin, steps).await?;
    faults::deleted_and_applied(pipeline, &document(2, args)?, steps).await?;
    faults::audited(pipeline, plugin, steps).await?;
    faults::records_dropped(pipeline, steps).await?;
    faults::audited(pipeline, plugin, steps).await?;
    existing::read(pipeline.cluster(), plugin, steps).await
}

/// The quickstart's document with this number of processors, a rate that leaves room for what is
/// tested, and the console's role.
fn document(replicas: u32, args: &E2eArgs) -> anyhow::Result<Value> {
    let mut document = Pipeline::quickstart()?;
    document["spec"]["processor"] = json!({ "replicas": replicas });
    document["spec"]["producer"]["rate"] = json!(RATE);
    document["spec"]["targets"][0]["rawReaders"] = json!([console::ROLE]);
    surroundings::document(&mut document, &args.surroundings);
    Ok(document)
}
