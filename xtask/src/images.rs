//! `cargo xtask images`: the container images, `FROM scratch`.
//!
//! ```text
//! cargo build (static, profile `image`) ──> one folder an image ──> docker build ──> run once ──> push
//! ```

mod context;
pub mod engine;
mod programs;

use std::process::ExitCode;

use anyhow::Context as _;

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
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// Tag of the images.
    pub tag: &'a str,
    /// Whether programs speak TLS to Kafka.
    pub tls: bool,
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
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let steps = Steps::new();
    let recipe = Recipe {
        tag: &args.tag,
        tls: !args.without_tls,
    };
    let images = build(&recipe, &steps).await?;
    if let Some(registry) = &args.push {
        let step = steps.begin("push");
        let registry = registry.trim_end_matches('/');
        let push = async {
            for image in &images {
                step.note(&image.name);
                engine::push(&image.name, registry).await?;
            }
            anyhow::Ok(())
        };
        step.during(push, |()| registry.to_owned()).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds all images and runs each once.
///
/// # Errors
/// No container engine answers, a build fails, or a program does not run in its image.
pub async fn build(recipe: &Recipe<'_>, steps: &Steps) -> anyhow::Result<Vec<Image>> {
    // asked first: compiling takes minutes
    engine::answers().await?;
    let step = steps.begin("programs");
    let programs = programs::build(recipe.tls, |line| step.note(line));
    let programs = step
        .during(programs, |programs| {
            let tls = if recipe.tls { "with" } else { "without" };
            format!("{} static, {tls} TLS to Kafka", programs.len())
        })
        .await?;
    let step = steps.begin("images");
    let packed = async {
        let mut images = Vec::new();
        for (service, program) in SERVICES.iter().zip(&programs) {
            let name = name(service, recipe.tag);
            step.note(&name);
            let folder = context::write(service, recipe.tag, program)
                .with_context(|| format!("cannot lay {name} out"))?;
            engine::build(&name, &folder).await?;
            engine::try_out(&name).await?;
            let size = engine::size(&name).await?;
            images.push(Image { name, size });
        }
        anyhow::Ok(images)
    };
    step.during(packed, |images| {
        let sizes = images.iter().map(|image| {
            let mebibytes = image.size as f64 / f64::from(1 << 20);
            format!("{} {mebibytes:.1} MiB", image.name)
        });
        sizes.collect::<Vec<_>>().join(", ")
    })
    .await
}

/// The name of a service's image.
#[must_use]
pub fn name(service: &str, tag: &str) -> String {
    format!("clickstream/{service}:{tag}")
}
