//! The command line. Every option can also be given as the environment variable that its help names.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use clickstream_telemetry::{
    admin::AdminArgs, logging::LogFormat, probe::probe, tracing as traces,
};

use crate::{app, controller::build::Network, crd};

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

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Namespaces to watch, comma-separated; none: all of them.
    #[arg(long, value_delimiter = ',', env = "CLICKSTREAM_NAMESPACES")]
    pub namespaces: Vec<String>,
    /// Image of processors and migrations, unless a pipeline pins one. Has to be named: this project's are in no public registry.
    #[arg(long, env = "CLICKSTREAM_PROCESSOR_IMAGE", value_name = "IMAGE")]
    pub processor_image: String,
    /// Image of the producer, unless a pipeline pins one; as that of the processor.
    #[arg(long, env = "CLICKSTREAM_PRODUCER_IMAGE", value_name = "IMAGE")]
    pub producer_image: String,
    /// Secrets with credentials of image registries, comma-separated; they have to be in the pipelines' namespaces.
    #[arg(long, value_delimiter = ',', env = "CLICKSTREAM_IMAGE_PULL_SECRETS")]
    pub image_pull_secrets: Vec<String>,
    /// When pods pull their images: Always, IfNotPresent or Never.
    #[arg(
        long,
        env = "CLICKSTREAM_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"]
    )]
    pub image_pull_policy: String,
    /// The admin server.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Has the Kubernetes API review the tokens that /status and /metrics want: whoever may get these paths may read them. Takes
    /// --admin-tls, and the right to create tokenreviews and subjectaccessreviews.
    #[arg(
        long,
        env = "CLICKSTREAM_ADMIN_TOKEN_REVIEW",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        action = clap::ArgAction::Set,
        conflicts_with = "admin_tokens"
    )]
    pub admin_token_review: bool,
    /// Namespace of the Lease by which one of several operators acts; without it this one acts at once.
    #[arg(long, env = "CLICKSTREAM_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this process in the Lease and in Events. Default: the host's name.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Pipelines that may roll at the same time after an upgrade of the operator.
    #[arg(long, env = "CLICKSTREAM_UPGRADE_MAX_CONCURRENT", default_value = "1")]
    pub upgrade_max_concurrent: usize,
    /// How long others wait for a pipeline that rolls and does not become Ready, in seconds; 0: until it does.
    #[arg(
        long,
        env = "CLICKSTREAM_UPGRADE_DEADLINE",
        value_name = "SECONDS",
        default_value = "600"
    )]
    pub upgrade_deadline: u32,
    /// How long each step of a deletion (pods, tables, topics) is tried before it is given up and written down.
    #[arg(
        long,
        env = "CLICKSTREAM_DELETION_PATIENCE",
        value_name = "SECONDS",
        default_value = "300"
    )]
    pub deletion_patience: u64,
    /// Images that pipelines may pin, comma-separated: the name of a repository, which stands for those below it as well, or the same
    /// with @sha256 behind it, by digest only. None: all.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_ALLOWED_IMAGES",
        value_name = "REPOSITORY"
    )]
    pub allowed_images: Vec<String>,
    /// Brokers that pipelines may name, comma-separated: HOST:PORT, *.DOMAIN:PORT, *:PORT for Services of the pipeline's own namespace,
    /// ADDRESS/BITS:PORT, each with or without port. No other one is dialled. None: all.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_ALLOWED_BROKERS",
        value_name = "BROKER"
    )]
    pub allowed_brokers: Vec<String>,
    /// Priority classes that pipelines may name, comma-separated. None: all.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_ALLOWED_PRIORITY_CLASSES",
        value_name = "NAME"
    )]
    pub allowed_priority_classes: Vec<String>,
    /// How soon a change of a Secret is followed while nothing waits for it. While something does, it is some seconds.
    #[arg(
        long,
        env = "CLICKSTREAM_SECRETS_INTERVAL",
        value_name = "SECONDS",
        default_value = "600",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub secrets_interval: u64,
    /// Gives pods NetworkPolicies: their admin port for those who are named, and DNS, Kafka, PostgreSQL and the Collector for them.
    #[arg(
        long,
        env = "CLICKSTREAM_NETWORK_POLICY",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        action = clap::ArgAction::Set
    )]
    pub network_policy: bool,
    /// Peers of those policies as JSON: `from`, who may ask the admin port (default: operators in the Lease's namespace), `kafka` and
    /// `postgres`, where those are (default: anywhere), each a list of NetworkPolicyPeers; `egress`, further rules.
    #[arg(
        long,
        env = "CLICKSTREAM_NETWORK_POLICY_PEERS",
        value_name = "JSON",
        value_parser = network
    )]
    pub network_policy_peers: Option<Network>,
    /// Gives processors a PodMonitor, where the Prometheus operator is installed.
    #[arg(
        long,
        env = "CLICKSTREAM_POD_MONITOR",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        action = clap::ArgAction::Set
    )]
    pub pod_monitor: bool,
    /// Labels by which Prometheus selects those PodMonitors, comma-separated, such as release=prometheus.
    #[arg(
        long,
        value_delimiter = ',',
        env = "CLICKSTREAM_POD_MONITOR_LABELS",
        value_name = "KEY=VALUE"
    )]
    pub pod_monitor_labels: Vec<String>,
    /// Interval between two scrapes, such as 15s; without it Prometheus' own.
    #[arg(
        long,
        env = "CLICKSTREAM_POD_MONITOR_INTERVAL",
        value_name = "DURATION"
    )]
    pub pod_monitor_interval: Option<String>,
    /// Name of a Secret in the namespaces of pipelines, with tls.crt, tls.key and ca.crt: processors and producers are then asked by
    /// TLS. Its certificate has to be valid for clickstream-metrics.NAMESPACE.svc.
    #[arg(
        long,
        env = "CLICKSTREAM_METRICS_TLS_SECRET",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub metrics_tls_secret: String,
    /// Name of a Secret in the namespaces of pipelines, with a token under each key: /status and /metrics of processors and producers
    /// then want one of them.
    #[arg(
        long,
        env = "CLICKSTREAM_METRICS_TOKEN_SECRET",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub metrics_token_secret: String,
    /// The key of the token that operator and PodMonitors show.
    #[arg(
        long,
        env = "CLICKSTREAM_METRICS_TOKEN_KEY",
        value_name = "KEY",
        default_value = "token"
    )]
    pub metrics_token_key: String,
}

fn network(text: &str) -> Result<Network, serde_json::Error> {
    serde_json::from_str(text)
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
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // whoever reads has seen enough
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output"),
    }
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
