//! The command line.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use clickstream_pipeline::spec::{ClickstreamPipeline, Duration, TargetSpec};
use clickstream_telemetry::{
    admin::AdminArgs, logging::LogFormat, probe::probe, secrets::SecretFiles, tracing as traces,
};

use crate::{
    app, audit, document, drop, failpoints, migrate,
    sink::{self, Owner},
};

/// Takes click events from Kafka into PostgreSQL, exactly once.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Form of the log lines on standard error; RUST_LOG chooses what is logged.
    #[arg(long, global = true, default_value_t = LogFormat::Pretty, env = "CLICKSTREAM_LOG_FORMAT")]
    log_format: LogFormat,
}

const EXAMPLES: &str = "Examples:
  clickstream-processor migrate --pipeline pipeline.yaml
  clickstream-processor run --pipeline pipeline.yaml --admin-listen 127.0.0.1:8080
  clickstream-processor audit --pipeline pipeline.yaml -o json

Exit codes: 0 done; 1 refused or failed, with the reason on standard error; 2 wrong usage; 3 the audit found differences; \
4 it found none, but some part could not be compared at all; 6 the tables are not there, or older than this release needs: migrate.";

#[derive(Subcommand)]
enum Command {
    /// Reads the topics and writes the target until SIGTERM; then commits what it has read, if PostgreSQL takes it within
    /// seconds, and leaves. What is not committed is read again by the next owner.
    #[command(
        after_help = "Example: clickstream-processor run --pipeline pipeline.yaml --target warehouse --secrets-dir /etc/clickstream/secrets"
    )]
    Run {
        #[command(flatten)]
        document: Document,
        /// Name of this process in claims and sessions. Default: host name and process id.
        #[arg(long, env = "CLICKSTREAM_PROCESSOR_NAME")]
        name: Option<String>,
        /// Rack or zone of this process, as the brokers' `broker.rack` names theirs: partitions are then read from replicas
        /// in it, where the brokers say which (`replica.selector.class`). Default: none, and leaders are read from.
        #[arg(long, env = "CLICKSTREAM_RACK", value_name = "ZONE")]
        rack: Option<String>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Brings the target's schema to this version and grants rights to writer and readers.
    #[command(after_help = "Example: clickstream-processor migrate --pipeline pipeline.yaml")]
    Migrate {
        #[command(flatten)]
        document: Document,
        /// Where to write, as JSON, what is there now: version, topics, readers that do not exist.
        #[arg(long, env = "CLICKSTREAM_MIGRATION_REPORT", value_name = "FILE")]
        report: Option<PathBuf>,
        /// Owners whose schema becomes this pipeline's: NAMESPACE/NAME, or NAMESPACE/NAME@CLUSTER, separated by commas. They have
        /// to be gone for good.
        #[arg(
            long,
            env = "CLICKSTREAM_TAKE_OVER_FROM",
            value_name = "OWNERS",
            default_value = ""
        )]
        take_over_from: migrate::Predecessors,
    },
    /// Drops the target's tables with everything in them; the next start reads the topics from their beginning.
    #[command(after_help = "Example: clickstream-processor drop --pipeline pipeline.yaml")]
    Drop {
        #[command(flatten)]
        document: Document,
    },
    /// Reads the Kafka log again and proves that the tables hold exactly what follows from it.
    #[command(after_help = "Example: clickstream-processor audit --pipeline pipeline.yaml -o json")]
    Audit {
        #[command(flatten)]
        document: Document,
        /// Form of the report on standard output.
        #[arg(long, short, value_enum, default_value_t = audit::Output::Table)]
        output: audit::Output,
    },
    /// Asks an HTTP address, and ends with 0 when the answer is a success: for images without a shell.
    #[command(after_help = "Example: clickstream-processor probe http://127.0.0.1:8080/readyz")]
    Probe {
        /// Where to ask.
        url: String,
        /// File with the authority that vouches for an https address.
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// How long to go on asking.
        #[arg(long, value_name = "TIME", default_value = "0s")]
        patience: Duration,
    },
}

#[derive(Args)]
struct Document {
    /// The ClickstreamPipeline document.
    #[arg(long, env = "CLICKSTREAM_PIPELINE", value_name = "FILE")]
    pipeline: PathBuf,
    /// Which of spec.targets. Default: the first.
    #[arg(long, env = "CLICKSTREAM_TARGET")]
    target: Option<String>,
    /// Folder with a file <secret name>/<key> for each secret key that the document names.
    #[arg(
        long,
        env = "CLICKSTREAM_SECRETS_DIR",
        value_name = "DIR",
        default_value = "/etc/clickstream/secrets"
    )]
    secrets_dir: PathBuf,
    /// Identity of the cluster that the pipeline's name is from; schemas are owned by both. Default: local, and for an audit
    /// whichever the schema names.
    #[arg(long, env = "CLICKSTREAM_CLUSTER")]
    cluster: Option<String>,
}

impl Cli {
    /// Runs the command that was given.
    ///
    /// # Errors
    /// Whatever stopped it, for standard error and exit code 1.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        // a probe runs every few seconds for as long as a container lives, and has nothing to log
        let _telemetry = match self.command {
            Command::Probe { .. } => None,
            _ => Some(traces::init(
                "clickstream-processor",
                self.log_format,
                // it tells at length what `migrate` tells in a line each
                "info,refinery_core=warn",
            )?),
        };
        failpoints::arm();
        match self.command {
            Command::Probe { url, ca, patience } => {
                probe(&url, ca.as_deref(), patience.to_std()).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Run {
                document,
                name,
                rack,
                admin,
            } => {
                let file = document::Document::read(&document.pipeline)?;
                let target = document.target_of(&file.pipeline)?;
                let owner = name.unwrap_or_else(default_owner);
                // a pod without the label of a zone has the variable, and nothing in it
                let rack = rack.filter(|rack| !rack.is_empty());
                let running = app::run(
                    file,
                    target,
                    Box::new(document.secrets()),
                    document.cluster(),
                    owner,
                    rack.as_deref(),
                    &admin,
                );
                // large
                Box::pin(running).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Migrate {
                document,
                report,
                take_over_from,
            } => {
                let (pipeline, target) = document.read()?;
                let owner = Owner::new(&pipeline, document.cluster());
                let (semantic, secrets) = (pipeline.semantic(), document.secrets());
                let migrated =
                    migrate::migrate(&owner, &semantic, &target, &secrets, &take_over_from).await?;
                if let Some(file) = report {
                    let read = pipeline.spec.topics.iter().map(|topic| topic.name.as_str());
                    std::fs::write(&file, migrated.fitted(read)?)
                        .with_context(|| format!("--report {}", file.display()))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::Drop { document } => {
                let (pipeline, target) = document.read()?;
                let owner = Owner::new(&pipeline, document.cluster());
                drop::drop(&owner, &target, &document.secrets()).await?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Audit { document, output } => {
                let (pipeline, target) = document.read()?;
                let cluster = document.cluster.as_deref();
                audit::run(&pipeline, &target, cluster, &document.secrets(), output).await
            }
        }
    }
}

impl Document {
    fn read(&self) -> anyhow::Result<(ClickstreamPipeline, TargetSpec)> {
        let pipeline = document::Document::read(&self.pipeline)?.pipeline;
        let target = self.target_of(&pipeline)?;
        Ok((pipeline, target))
    }

    fn target_of(&self, pipeline: &ClickstreamPipeline) -> anyhow::Result<TargetSpec> {
        let targets = &pipeline.spec.targets;
        let target = match &self.target {
            None => targets.first(),
            Some(name) => targets.iter().find(|target| target.name == *name),
        };
        let Some(target) = target.cloned() else {
            let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
            bail!(
                "--target {}: the document has {}",
                self.target.as_deref().unwrap_or_default(),
                names.join(", ")
            );
        };
        Ok(target)
    }

    fn cluster(&self) -> &str {
        self.cluster.as_deref().unwrap_or(sink::LOCAL_CLUSTER)
    }

    fn secrets(&self) -> SecretFiles {
        SecretFiles::new(self.secrets_dir.clone())
    }
}

fn default_owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "{}-{}",
        if host.trim().is_empty() {
            "processor"
        } else {
            host.trim()
        },
        std::process::id()
    )
}
