//! The command line.

pub mod incidents;

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use self::incidents::Incident;
use crate::{access, audit, init, paint, status, suspend, validate};

/// Name of the executable, by which kubectl finds it.
const BINARY: &str = "kubectl-clickstream";

/// Checks, shows, pauses, repairs and audits pipelines of click events.
#[derive(Debug, Parser)]
#[command(name = BINARY, bin_name = "kubectl clickstream", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

const EXAMPLES: &str = "Examples:
  kubectl clickstream init web > web.yaml
  kubectl clickstream validate web.yaml && kubectl apply -f web.yaml
  kubectl clickstream status web --watch
  kubectl clickstream audit web
  kubectl clickstream report web

Exit codes:
  0    done; for audit: tables and log agree; for validate: nothing to correct
  1    failed, with the reason on standard error; for validate: something to correct
  2    wrong usage
  3    audit found differences
  4    some part could not be had: of an audit, compared; of top and report, asked
  5    written, and the operator has not answered in time
  130  audit was interrupted
  141  nobody reads the output any more";

/// Where the cluster is, and how to write; the same flags as kubectl's.
#[derive(Debug, Default, Args)]
pub struct Global {
    /// Namespace of the pipeline. Default: the context's.
    #[arg(short, long, global = true, help_heading = "Cluster")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, help_heading = "Cluster")]
    pub context: Option<String>,
    /// The kubeconfig. Default: $KUBECONFIG, or else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Writes without colours, as NO_COLOR in the environment does.
    #[arg(long, global = true)]
    pub no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a resource to begin with; every setting stands in it with its default.
    #[command(after_help = "Example: kubectl clickstream init web > web.yaml")]
    Init {
        /// Name of the pipeline.
        #[arg(default_value = "web")]
        name: String,
    },
    /// Checks files as the API server and the operator would, and lists everything that is wrong.
    #[command(after_help = "Examples:
  kubectl clickstream validate web.yaml
  helm template shop | kubectl clickstream validate -

Only resources of the kind ClickstreamPipeline are looked at. No cluster is asked: whether Secrets and servers
exist, and whether a change is allowed, is for `kubectl apply --dry-run=server` and the status to say.")]
    Validate {
        /// YAML or JSON, with any number of documents; `-`: standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Shows one pipeline with topics, targets, conditions and events, or a line for each of several.
    #[command(after_help = "Examples:
  kubectl clickstream status
  kubectl clickstream status web --watch
  kubectl clickstream status web -o json | jq .lag

It needs get on the resource, list on its Events (left out otherwise), and watch on both for --watch.")]
    Status(StatusArgs),
    /// Stops processors and producer; progress, topics and tables stay.
    #[command(after_help = "Example: kubectl clickstream pause web")]
    Pause {
        /// Name of the pipeline.
        name: String,
    },
    /// Lets a paused pipeline go on, exactly where it stopped.
    #[command(after_help = "Example: kubectl clickstream resume web")]
    Resume {
        /// Name of the pipeline.
        name: String,
    },
    /// Reads the Kafka log again, in a Job, and proves that the tables hold exactly what follows from it.
    #[command(after_help = "Examples:
  kubectl clickstream audit web
  kubectl clickstream audit web --target warehouse -o json > audit.json

The Job has the processors' image, settings and Secrets, and is removed at the end, also after Ctrl-C. It only reads,
and may run beside the processors. It needs list on Deployments and Pods, create, get and delete on Jobs, and get on
pods/log; watch on Pods shows the end sooner.")]
    Audit(AuditArgs),
    #[command(flatten)]
    Incident(Box<Incident>),
    /// Prints a script that completes this command in a shell.
    #[command(after_help = "Example: source <(kubectl clickstream completion bash)")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the version.
    #[command(after_help = "Example: kubectl clickstream version")]
    Version,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Name of the pipeline. Default: all of the namespace, a line each.
    pub name: Option<String>,
    /// Pipelines of every namespace.
    #[arg(short = 'A', long, conflicts_with = "name")]
    pub all_namespaces: bool,
    /// Shows it anew after each change, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
    /// Form of what is printed; with --watch, json is one line per change and yaml one document.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Name of the pipeline.
    pub name: String,
    /// The target to audit. Default: all, one after the other.
    #[arg(short, long)]
    pub target: Option<String>,
    /// Form of the report.
    #[arg(short, long, value_enum, default_value_t = ReportForm::Table)]
    pub output: ReportForm,
    /// Memory the audit may use, such as 2Gi. Default: what the node has, beyond the processors' request.
    #[arg(long, value_name = "QUANTITY")]
    pub memory: Option<String>,
    /// How long the Job's pod may take to start, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", action = ArgAction::Set)]
    pub start_timeout: u64,
}

/// Form of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For people, with everything.
    Wide,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// Form of an audit's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// For people.
    Table,
    /// One JSON document per target.
    Json,
}

impl Cli {
    /// Runs the command that was given.
    ///
    /// # Errors
    /// Whatever stopped it, for standard error and exit code 1.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let colours = paint::Colours::new(self.global.no_color);
        match self.command {
            Command::Init { name } => paint::print(
                colours,
                &init::document(&name, self.global.namespace.as_deref())?,
            )?,
            Command::Validate { files } => return validate::run(&files, colours),
            Command::Status(args) => {
                status::run(access::connect(&self.global).await?, &args, colours).await?;
            }
            Command::Pause { name } => {
                let access = access::connect(&self.global).await?;
                paint::print(colours, &suspend::pause(&access, &name).await?)?;
            }
            Command::Resume { name } => {
                let access = access::connect(&self.global).await?;
                paint::print(colours, &suspend::resume(&access, &name).await?)?;
            }
            Command::Audit(args) => {
                return audit::run(&access::connect(&self.global).await?, &args).await;
            }
            Command::Incident(incident) => {
                let access = access::connect(&self.global).await?;
                return crate::incidents::run(&access, &incident, colours).await;
            }
            Command::Completion { shell } => {
                let mut script = Vec::new();
                // the script completes the executable itself; kubectl has a way of its own, see docs/plugin.md
                clap_complete::generate(shell, &mut Self::command(), BINARY, &mut script);
                paint::print(colours, &String::from_utf8(script)?)?;
            }
            Command::Version => paint::print(
                colours,
                concat!("kubectl-clickstream ", env!("CARGO_PKG_VERSION"), "\n"),
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_that_begins_as_people_type_it() {
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let example = format!("kubectl clickstream {}", command.get_name());
            assert!(help.contains(&example), "{}: {help}", command.get_name());
        }
    }
}
