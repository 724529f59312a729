//! The command line, and what each command does.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use clickstream_protocol::output;
use clickstream_telemetry::{logging::LogFormat, probe::probe, tracing as traces};

use crate::{app, args::RunArgs, crd};

/// Turns ClickstreamPipeline resources into topics, tables, processors and a producer.
#[derive(Debug, Parser)]
#[command(name = "clickstream-operator", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Form of the log lines on standard error; RUST_LOG chooses what is logged.
    #[arg(long, global = true, default_value_t = LogFormat::Pretty, env = "CLICKSTREAM_LOG_FORMAT")]
    log_format: LogFormat,
}

const EXAMPLES: &str = "Examples:
  clickstream-operator crd | kubectl apply -f -
  clickstream-operator run --processor-image registry.example.com/team/clickstream/processor:0.1.0 \\
      --producer-image registry.example.com/team/clickstream/producer:0.1.0 --lease-namespace default

Exit codes: 0 done; 1 failed, with the reason on standard error; 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Watches pipelines and brings them to what their specs say, until SIGTERM.
    #[command(
        after_help = "Example: clickstream-operator run --namespaces shop,blog --processor-image REGISTRY/clickstream/processor:0.1.0 --producer-image REGISTRY/clickstream/producer:0.1.0"
    )]
    Run(Box<RunArgs>),
    /// Prints the CustomResourceDefinition as YAML.
    #[command(after_help = "Example: clickstream-operator crd > crd.yaml")]
    Crd,
    /// Prints the reference of the resource's fields as Markdown.
    #[command(after_help = "Example: clickstream-operator reference > docs/reference.md")]
    Reference,
    /// Asks an HTTP address, and ends with 0 when the answer is a success: for images without a shell.
    #[command(
        after_help = "Example: clickstream-operator probe http://clickstream-operator:8080/readyz"
    )]
    Probe {
        /// Where to ask.
        url: String,
        /// File with the authority that vouches for an https address.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// How long to go on asking.
        #[arg(long, value_name = "SECONDS", default_value = "10")]
        patience: u64,
    },
}

impl Cli {
    /// Runs the command that was given.
    ///
    /// # Errors
    /// Whatever stopped it, for standard error and exit code 1.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => {
                let _telemetry = traces::init(
                    "clickstream-operator",
                    self.log_format,
                    "info,kube_runtime=warn",
                )?;
                app::run(*args).await?;
            }
            Command::Crd => print(&crd::crd_yaml())?,
            Command::Reference => print(&crd::reference())?,
            Command::Probe { url, ca, patience } => {
                probe(&url, ca.as_deref(), Duration::from_secs(patience)).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let written = output::stdout().write_all(text.as_bytes());
    written.context("standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name without a registry is looked for at Docker Hub, where somebody else's may stand.
    #[test]
    fn no_image_is_taken_that_nobody_has_named() {
        let run = |images: &[&str]| {
            let words = ["clickstream-operator", "run"].iter().chain(images);
            Cli::try_parse_from(words).map_err(|error| error.to_string())
        };
        let refused = run(&[]).map(|_| ()).expect_err("nobody has named one");
        for option in ["--processor-image", "--producer-image"] {
            assert!(refused.contains(option), "{refused}");
        }
        assert!(run(&["--processor-image=a/b:1", "--producer-image=a/c:1"]).is_ok());
    }
}
