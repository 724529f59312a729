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

use self::cluster::{Cluster, Configuration};
use self::pipeline::Pipeline;
use self::stack::{Release, Sources};
use crate::images;
use crate::steps::Steps;

/// The cluster's name, as kind-config.yaml has it.
const NAME: &str = "clickstream";

/// What to do with the cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask kind up                     everything, from nothing; again: what has changed
  cargo xtask kind up --without-tls       with programs that compile in half the time
  cargo xtask kind down

It needs Docker. kind, kubectl and helm are taken from the path or from ~/.cache/clickstream-tools/bin, else kind and helm
are installed there with Go. Where no registry of images can be reached:
  CLICKSTREAM_KIND_NODE_IMAGE      the image of kind's nodes
  CLICKSTREAM_KIND_IMAGE_ARCHIVES  a folder of .tar files, or such files separated by commas, with the images of Kafka,
                                   PostgreSQL and Adminer under their public names")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create the cluster if there is none, install everything, and show what arrives in PostgreSQL.
    Up(Up),
    /// Delete the cluster with all that is in it.
    Down,
}

/// Settings of `up`.
#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    sources: Sources,
}

/// Does it.
///
/// # Errors
/// A tool is missing, or something does not come up in time; the message holds what the cluster says about it.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let steps = Steps::new();
    let cluster = Cluster::new(NAME, None, &steps).await?;
    match args.command {
        Command::Up(up) => bring_up(&cluster, &up, &steps).await?,
        Command::Down => {
            let step = steps.begin("cluster");
            step.during(cluster.delete(), |()| format!("{NAME} is gone"))
                .await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn bring_up(cluster: &Cluster, up: &Up, steps: &Steps) -> anyhow::Result<()> {
    images::engine::answers().await?;
    let servers = async {
        stack::create(cluster, &Configuration::OfTheWorkspace, steps).await?;
        stack::servers(cluster, steps).await
    };
    // compiling and starting servers at once: one of them waits for disks and clocks
    tokio::try_join!(up.sources.build(steps), servers)?;
    stack::load(cluster, &up.sources, steps).await?;
    stack::operator(cluster, &Release::of(&up.sources), steps).await?;
    let document = Pipeline::quickstart()?;
    let pipeline = Pipeline::new(cluster, &document)?;
    pipeline.bring_up(&document, steps).await?;
    pipeline.ready(steps).await?;
    let shown = look::show(&pipeline).await?;
    let mut out = std::io::stdout().lock();
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
