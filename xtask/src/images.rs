//! `cargo xtask images`: the container images, `FROM scratch`.
//!
//! ```text
//! cargo build (static, profile `image`) ──> one folder an image ──> docker build ──> run once ──> push
//! ```

pub(crate) mod context;
pub mod engine;
pub(crate) mod programs;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clickstream_tools::workspace_root;

use crate::lab::Progress;
use crate::speed;
use crate::steps::Steps;

/// The images, by the last part of their names; the program in each is `/clickstream-NAME`.
pub const SERVICES: [&str; 4] = ["operator", "processor", "producer", "console"];

/// The version of the workspace, and of its images unless `--tag` says otherwise.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which images to build.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask images                                        clickstream/{operator,processor,producer,console}:VERSION here
  cargo xtask images --without-tls                          in half the time, for a local cluster
  cargo xtask images --push registry.example.com/team       and into a registry, for this chart value:
      helm install ... --set image.registry=registry.example.com/team

The images hold one static program each, certificates of the public authorities, and nothing else. They are built for
this machine's architecture; the Dockerfile builds the same on any machine with Docker, without Rust.")]
pub struct Args {
    /// Push the images to this registry, with or without a path.
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,

    /// Tag of the images.
    #[arg(long, default_value = VERSION)]
    tag: String,

    /// Leave out TLS and SASL SCRAM to Kafka, which need OpenSSL, built from source. Not for release.
    #[arg(long)]
    without_tls: bool,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Tag of the images.
    pub tag: String,
    /// Whether programs speak TLS to Kafka.
    pub tls: bool,
    /// The files that they are built from: this workspace, or another release of it.
    pub tree: PathBuf,
}

/// A built image.
#[derive(Clone, Debug)]
pub struct Image {
    /// `clickstream/SERVICE:TAG`.
    pub name: String,
    /// In bytes, as the engine stores it.
    pub size: u64,
}

/// Builds all images, and pushes them where that is wished for.
///
/// # Errors
/// No container engine answers, a build fails, or the registry refuses.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let steps = Steps::new();
    let recipe = Recipe {
        tag: args.tag.clone(),
        tls: !args.without_tls,
        tree: workspace_root(),
    };
    let images = build(&recipe, &steps)?;
    if let Some(registry) = &args.push {
        let registry = registry.trim_end_matches('/');
        let step = steps.begin("push");
        let pushed = images.iter().try_for_each(|image| {
            step.note(&image.name);
            engine::push(&image.name, registry)
        });
        step.ended(pushed, |()| registry.to_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds all images and runs each once. Blocks for minutes.
///
/// # Errors
/// No container engine answers, a build fails, or a program does not run in its image.
pub fn build(recipe: &Recipe, steps: &Steps) -> anyhow::Result<Vec<Image>> {
    // asked first: compiling takes minutes
    engine::answers()?;
    let speed = speed::measured();
    let step = steps.begin("programs");
    let mut progress = Progress::new(steps, &step, speed);
    let built = programs::build(&recipe.tree, recipe.tls, |said| progress.hear(said));
    let built = step.ended(built, |built| {
        let tls = if recipe.tls { "with" } else { "without" };
        format!("{} static, {tls} TLS to Kafka", built.len())
    })?;
    let step = steps.begin("images");
    let pack = |(service, program): (&&str, &PathBuf)| {
        let name = name(service, &recipe.tag);
        step.note(&name);
        let folder = context::write(service, &recipe.tag, program)
            .with_context(|| format!("cannot lay {name} out"))?;
        engine::build(&name, &folder)?;
        engine::try_out(&name)?;
        let size = engine::size(&name)?;
        Ok(Image { name, size })
    };
    let packed: anyhow::Result<Vec<Image>> = SERVICES.iter().zip(&built).map(pack).collect();
    step.ended(packed, |images| {
        let sizes = images.iter().map(|image| {
            let mebibytes = image.size as f64 / f64::from(1 << 20);
            format!("{} {mebibytes:.1} MiB", image.name)
        });
        sizes.collect::<Vec<_>>().join(", ")
    })
}

/// The name of a service's image.
#[must_use]
pub fn name(service: &str, tag: &str) -> String {
    format!("clickstream/{service}:{tag}")
}
