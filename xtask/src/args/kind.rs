//! `cargo xtask kind` and `cargo xtask e2e`.

use std::fmt;
use std::time::Duration;

use clickstream_tools::workspace_root;

use crate::images::{self, Recipe, SERVICES, VERSION};

/// `cargo xtask kind`.
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
pub struct KindArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KindCommand,
}

/// What to do with the cluster.
#[derive(Debug, clap::Subcommand)]
pub enum KindCommand {
    /// Create the cluster if there is none, install everything, and show what arrives in PostgreSQL.
    #[command(after_help = "\
Examples:
  cargo xtask kind up                     everything, from nothing; again: what has changed
  cargo xtask kind up --without-tls       with programs that compile in half the time
  cargo xtask kind up --no-build          with the images that the container engine has

`cargo xtask kind --help` says what it needs, and how it runs where no registry of images can be reached.")]
    Up {
        /// Where our images come from.
        #[command(flatten)]
        sources: Sources,
    },
    /// Delete the cluster with all that is in it.
    #[command(after_help = "\
Example:
  cargo xtask kind down                   the images stay in the container engine")]
    Down,
}

/// What to test.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask e2e                            about 5 minutes once the programs are built
  cargo xtask e2e --full                     the long list: half an hour
  cargo xtask e2e --figures                  the figures that need pods: five minutes more
  cargo xtask e2e --in restricted-v2,default-deny,quota     on a cluster that refuses what OpenShift refuses
  cargo xtask e2e --upgrade-from 71ba38b     three pipelines of another release, one of them sick, one pinned, and then this one
  cargo xtask e2e --no-build --keep          with the images that are there, and the cluster stays
  CLICKSTREAM_KIND_NODE_IMAGE=... CLICKSTREAM_KIND_IMAGE_ARCHIVES=... cargo xtask e2e     see cargo xtask kind --help")]
pub struct E2eArgs {
    /// Also install, hand over, upgrade and remove the chart, scale to 4 and back under load, kill pods
    /// of everything, stop the operator for a while, suspend, delete and apply again, and have Kafka
    /// drop records before they are read; an audit after each.
    #[arg(long)]
    pub full: bool,

    /// Also measure what needs pods: how long events stay invisible while processors are replaced, and what more processors
    /// bring when each has a fifth of a core. On a machine that does nothing else.
    #[arg(long)]
    pub figures: bool,

    /// What the cluster refuses or restricts, as platform teams have it; several, separated by commas.
    #[arg(
        long = "in",
        value_name = "SURROUNDINGS",
        value_delimiter = ',',
        conflicts_with = "full"
    )]
    pub surroundings: Vec<Surroundings>,

    /// Instead of all this: install the release of this revision of the checkout, with images built from it, and three pipelines
    /// under load, of which one is pinned to that release and one gets a wrong password; then upgrade to this release.
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["full", "figures", "surroundings"])]
    pub upgrade_from: Option<String>,

    /// With --full: how long the operator is away.
    #[arg(long, value_name = "DURATION", default_value = "5m", allow_hyphen_values = true, value_parser = super::duration)]
    pub operator_away: Duration,

    /// Leave the cluster as it is at the end; the next run goes on with it.
    #[arg(long)]
    pub keep: bool,

    /// Where our images come from.
    #[command(flatten)]
    pub sources: Sources,
}

/// What a cluster refuses or restricts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Surroundings {
    /// Pods that choose their user, their fsGroup or more, as OpenShift's SecurityContextConstraints of that name refuse them.
    RestrictedV2,
    /// All traffic of pods that no NetworkPolicy allows. It needs a network that enforces policies, as that of kind's own node
    /// images does, and says so where there is none.
    DefaultDeny,
    /// Pods without a limit of CPU.
    Quota,
}

impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RestrictedV2 => "restricted-v2",
            Self::DefaultDeny => "default-deny",
            Self::Quota => "quota",
        })
    }
}

/// Where our images come from.
#[derive(Clone, Debug, clap::Args)]
pub struct Sources {
    /// Compile programs without TLS to Kafka, which the quickstart does not use: half the time.
    #[arg(long, conflicts_with = "no_build")]
    pub without_tls: bool,

    /// Use the images that the container engine has.
    #[arg(long)]
    pub no_build: bool,

    /// Tag of our images.
    #[arg(long, default_value = VERSION)]
    pub tag: String,
}

impl Sources {
    /// How the images are built; nothing where they are not to be built.
    #[must_use]
    pub fn recipe(&self) -> Option<Recipe> {
        (!self.no_build).then(|| Recipe {
            tag: self.tag.clone(),
            tls: !self.without_tls,
            tree: workspace_root(),
        })
    }

    /// The images' names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        SERVICES
            .iter()
            .map(|service| images::name(service, &self.tag))
            .collect()
    }
}
