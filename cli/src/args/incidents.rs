//! The commands for incidents: what to do to a pipeline, and what to look at.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ReportForm;

/// Commands for incidents.
#[derive(Debug, Subcommand)]
pub enum Incident {
    /// Lets the operator look at everything anew, or keeps it from changing anything while events flow.
    #[command(after_help = "Examples:
  kubectl clickstream reconcile web
  kubectl clickstream reconcile web --pause     # topics, tables and pods stay as they are, also if you change them
  kubectl clickstream reconcile web --resume

It writes the annotations clickstream.dev/reconcile and clickstream.dev/reconcile-at, and waits for the operator. To
stop the processors themselves: kubectl clickstream pause. It needs get and patch on the resource.

Exit codes: 0 the operator has done it; 1 it cannot be asked; 5 it was asked and has not answered in time.")]
    Reconcile(ReconcileArgs),
    /// Replaces all pods of a pipeline, a new one first; each commits what it has read before it ends.
    #[command(after_help = "Example: kubectl clickstream restart web

It writes the annotation clickstream.dev/restart-at, which every pod carries, and waits until the operator has handed it
on; Kubernetes does the rest. It needs get and patch on the resource.

Exit codes: 0 the pods are being replaced; 1 they are not; 5 the operator has not answered in time.")]
    Restart(VerbArgs),
    /// Runs the migration of every target again, at once: after a restored or repaired database.
    #[command(after_help = "Example: kubectl clickstream migrate web

It writes the annotation clickstream.dev/migrate-at. A migration creates what is missing, grants readers their rights and
leaves alone what is there; the processors go on meanwhile. It needs get and patch on the resource.

Exit codes: 0 the migrations are begun; 1 they are not; 5 the operator has not answered in time.")]
    Migrate(VerbArgs),
    /// Makes the schemas of a pipeline that is gone for good this one's, as after a new name or a new cluster.
    #[command(after_help = "Examples:
  kubectl clickstream take-over shop                      # says whose the schemas are
  kubectl clickstream take-over shop --from old/web
  kubectl clickstream take-over shop --from old/web@6f1c0e0a-6a0c-4c83-9d0e-4c6a4a2f6a11    # of another cluster

It writes the annotation clickstream.dev/take-over-from; the next migration changes the owner of a schema that belongs
to exactly that pipeline. Topics that the old pipeline made need `adopt: true`. Two pipelines that write one schema stop
each other, so delete the old one first. It needs get and patch on the resource.

Exit codes: 0 it is asked for, or nothing is to be taken over; 1 it is not; 5 the operator has not answered in time.")]
    TakeOver(TakeOverArgs),
    /// Acknowledges records that Kafka dropped before they were read, so that DataLossDetected ends.
    #[command(after_help = "Examples:
  kubectl clickstream accept-loss web                     # lists what is lost
  kubectl clickstream accept-loss web warehouse/clickstream/0/1200-1500
  kubectl clickstream accept-loss web --all

It adds names to the annotation clickstream.dev/acknowledged-gaps. The rows of clickstream_gaps stay. It needs get and
patch on the resource.

Exit codes: 0 done, or nothing is lost; 1 it is not; 5 the operator has not answered in time.")]
    AcceptLoss(AcceptLossArgs),
    /// Prints the logs of all pods of a pipeline in the order of their times.
    #[command(after_help = "Examples:
  kubectl clickstream logs web --since 10m
  kubectl clickstream logs web --target warehouse --follow
  kubectl clickstream logs web --component migration --tail -1

Pods that come while it follows are followed too. It needs list on Pods and get on pods/log.

Exit codes: 0 done; 1 there are no pods, or their logs may not be read.")]
    Logs(LogsArgs),
    /// Shows partitions by lag, with their rate and the pod that has them.
    #[command(after_help = "Examples:
  kubectl clickstream top web
  kubectl clickstream top web --target warehouse --sort rate --watch
  kubectl clickstream top web -o json | jq '.partitions[0]'

It asks each processor's /status by way of the API server, twice, and counts what was read in between. It needs list on
Pods and get on pods/proxy. Where a NetworkPolicy keeps the API server from the pods, allow it their port `admin`.

Exit codes: 0 done; 1 no processor answers; 4 some do not.")]
    Top(TopArgs),
    /// Writes an archive for whoever is to help: resource, children, Events, logs, metrics and /status, without secrets.
    #[command(after_help = "Examples:
  kubectl clickstream report web
  kubectl clickstream report web --since 6h --file web.tar.gz

No Secret is asked for. Left out are values of variables and annotations that are not the operator's own, and whatever
looks like a password, a token or an event; read it before you send it. It needs get and list on what is in it (the
roles view and edit have it); what you may not see is left out and named in index.txt.

Exit codes: 0 everything is in it; 1 there is no archive; 4 some part could not be had, see index.txt.")]
    Report(ReportArgs),
}

/// Options of a verb.
#[derive(Debug, Args)]
pub struct VerbArgs {
    /// Name of the pipeline.
    pub name: String,
    /// How long to wait for the operator, in seconds; 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub timeout: u64,
}

/// Options of `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Which pipeline, and how long to wait.
    #[command(flatten)]
    pub verb: VerbArgs,
    /// From now on the operator changes nothing but the status.
    #[arg(long, conflicts_with = "resume")]
    pub pause: bool,
    /// The operator goes on with what the spec says now.
    #[arg(long)]
    pub resume: bool,
}

/// Options of `take-over`.
#[derive(Debug, Args)]
pub struct TakeOverArgs {
    /// Which pipeline, and how long to wait.
    #[command(flatten)]
    pub verb: VerbArgs,
    /// Whose the schemas are: NAMESPACE/NAME of this cluster, or NAMESPACE/NAME@CLUSTER.
    #[arg(long, value_name = "OWNER")]
    pub from: Option<String>,
}

/// Options of `accept-loss`.
#[derive(Debug, Args)]
pub struct AcceptLossArgs {
    /// Which pipeline, and how long to wait.
    #[command(flatten)]
    pub verb: VerbArgs,
    /// Names of gaps, as `status.targets[].gaps` has them. Default: lists them and changes nothing.
    pub gaps: Vec<String>,
    /// All that are known now.
    #[arg(long, conflicts_with = "gaps")]
    pub all: bool,
}

/// Which pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Component {
    /// Processors.
    Processor,
    /// The producer.
    Producer,
    /// Migrations.
    Migration,
    /// Audits.
    Audit,
}

impl Component {
    /// As the label has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Producer => "producer",
            Self::Migration => "migration",
            Self::Audit => "audit",
        }
    }
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name of the pipeline.
    pub name: String,
    /// Pods of this target only.
    #[arg(short, long)]
    pub target: Option<String>,
    /// Pods of this kind only. Default: all.
    #[arg(short, long, value_enum)]
    pub component: Option<Component>,
    /// Goes on with what comes, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// Lines that are no older, such as 30s, 10m or 6h.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub since: Option<i64>,
    /// Lines of each pod, the newest ones; -1: all.
    #[arg(
        long,
        value_name = "LINES",
        default_value = "200",
        allow_negative_numbers = true
    )]
    pub tail: i64,
    /// Logs of the containers before the last restart.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
}

/// By what partitions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Furthest behind first.
    Lag,
    /// Busiest first.
    Rate,
    /// By the pods that have them.
    Owner,
    /// By topic and number.
    Partition,
}

/// Options of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Name of the pipeline.
    pub name: String,
    /// Partitions of this target only.
    #[arg(short, long)]
    pub target: Option<String>,
    /// What comes first.
    #[arg(short, long, value_enum, default_value_t = Order::Lag)]
    pub sort: Order,
    /// How long rates are measured, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=300))]
    pub interval: u64,
    /// Partitions that are shown; 0: all.
    #[arg(long, value_name = "LINES", default_value = "20")]
    pub lines: usize,
    /// Shows it anew after each interval, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
    /// Form of what is printed; with --watch, json is one line each time.
    #[arg(short, long, value_enum, default_value_t = ReportForm::Table)]
    pub output: ReportForm,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Name of the pipeline.
    pub name: String,
    /// Logs that are no older, such as 30m or 6h.
    #[arg(long, value_name = "AGE", default_value = "1h", value_parser = age)]
    pub since: i64,
    /// The archive; none may be there. Default: clickstream-report-NAMESPACE-NAME-TIME.tar.gz.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `90`, `90s`, `10m`, `6h` or `2d`, in seconds.
fn age(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text}: write 30s, 10m, 6h or 2d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    match i64::from(number) * unit {
        0 => Err(wrong()),
        seconds => Ok(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_written_as_kubectl_has_them() {
        assert_eq!(age("90"), Ok(90));
        assert_eq!(age("30s"), Ok(30));
        assert_eq!(age("10m"), Ok(600));
        assert_eq!(age("6h"), Ok(21_600));
        assert_eq!(age("2d"), Ok(172_800));
        for wrong in ["", "h", "0m", "-5m", "1.5h", "1h30m", "5w", "99999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
