//! `cargo xtask kind up|down`: the Kubernetes quickstart as a command.
//!
//! ```text
//! tools ──> images ∥ (cluster ──> Kafka, PostgreSQL, Adminer) ──> operator ──> pipeline ──> a look at the tables
//! ```

pub mod cluster;
mod look;
pub mod pipeline;
pub mod stack;
mod tools;

use std::io::Write as _;
use std::process::ExitCode;

use clickstream_protocol::output;

use self::cluster::{Cluster, Configuration};
use self::pipeline::Pipeline;
use self::stack::Release;
use xtask::args::{KindArgs, KindCommand, Sources};
use xtask::images::engine;
use xtask::steps::Steps;

/// The cluster's name, as kind-config.yaml has it.
const NAME: &str = "clickstream";

/// Does it.
///
/// # Errors
/// A tool is missing, or something does not come up in time; the message holds what the cluster
/// says about it.
pub async fn run(args: KindArgs) -> anyhow::Result<ExitCode> {
    let steps = Steps::new();
    let cluster = Cluster::new(NAME, None, &steps).await?;
    match args.command {
        KindCommand::Up { sources } => bring_up(&cluster, &sources, &steps).await?,
        KindCommand::Down => {
            let step = steps.begin("cluster");
            step.during(cluster.delete(), |()| format!("{NAME} is gone"))
                .await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn bring_up(cluster: &Cluster, sources: &Sources, steps: &Steps) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(engine::answers).await??;
    let servers = async {
        stack::create(cluster, &Configuration::OfTheWorkspace, steps).await?;
        stack::servers(cluster, steps).await
    };
    // compiling and starting servers at once: one of them waits for disks and clocks
    tokio::try_join!(stack::build(sources, steps), servers)?;
    stack::load(cluster, &sources.names(), steps).await?;
    stack::operator(cluster, &Release::of(sources), steps).await?;
    let document = Pipeline::quickstart()?;
    let pipeline = Pipeline::new(cluster, &document)?;
    pipeline.bring_up(&document, steps).await?;
    pipeline.ready(steps).await?;
    let shown = look::show(&pipeline).await?;
    let mut out = output::stdout();
    out.write_all(shown.as_bytes())?;
    writeln!(
        out,
        "\nLook further\n  \
         kubectl --context {context} get clickstreampipelines\n  \
         kubectl --context {context} get pods\n  \
         psql postgres://postgres:quickstart@127.0.0.1:30432/analytics\n  \
         http://127.0.0.1:30081/?pgsql=postgres&username=postgres&db=analytics&ns={schema}   (password: quickstart)\n\
         and at the end\n  \
         cargo xtask kind down",
        context = cluster.context(),
        schema = pipeline.schema(),
    )?;
    Ok(())
}
