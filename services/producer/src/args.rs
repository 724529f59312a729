//! The command line. Every option can also be given as the environment variable that its help
//! names.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clickstream_pipeline::spec::{Bytes, Duration};
use clickstream_telemetry::admin::AdminArgs;
use clickstream_telemetry::logging::LogFormat;

use crate::generator::IdForm;
use crate::replay::Format;
use crate::replay::fields::FieldMap;
use crate::replay::pace::Speed;

/// Sends click events to Kafka: made up from a seed, or replayed from a log.
///
/// Exits with 0 only when every record it sent was acknowledged by all in-sync replicas.
#[derive(Debug, Parser)]
#[command(name = "clickstream-producer", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How log lines on standard error look: pretty or json.
    #[arg(
        long,
        global = true,
        env = "CLICKSTREAM_LOG_FORMAT",
        default_value = "pretty"
    )]
    pub log_format: LogFormat,
}

const EXAMPLES: &str = "Examples:
  clickstream-producer generate --pipeline pipeline.yaml
  clickstream-producer generate --bootstrap-servers 127.0.0.1:9092 --rate 1000 --for 60s --seed 7
  clickstream-producer replay --pipeline pipeline.yaml --speed 60 --shift-to-now access.log.1.gz access.log
  clickstream-producer inspect access.log.zst
  tail -F access.log | clickstream-producer replay --pipeline pipeline.yaml -
  clickstream-producer print --count 5 --malformed 0.5";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sends made-up clicks of visitors who walk through a shop.
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Sends the requests in logs as clicks: access logs, JSON, W3C, load balancers, CSV and
    /// others.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Reads logs and says what `replay` would send: events, the period that they cover, how long
    /// it takes, and how many of them a pipeline would reject or find late.
    #[command(after_help = SURVEY_EXAMPLES)]
    Survey(SurveyArgs),
    /// Shows the first five events of logs as a table, and what their lines look like; needs no
    /// Kafka.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Writes what `generate` would send to standard output, one JSON object per record.
    #[command(after_help = PRINT_EXAMPLES)]
    Print(PrintArgs),
    /// Asks an HTTP address, and ends with 0 when the answer is a success: for images without a
    /// shell.
    #[command(after_help = "Example: clickstream-producer probe http://127.0.0.1:8080/readyz")]
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

const GENERATE_EXAMPLES: &str = "Examples:
  five thousand clicks a minute until stopped, as the pipeline's spec.producer has it:
    clickstream-producer generate --pipeline pipeline.yaml
  a million records as fast as the brokers take them, dated so that the last one is dated now:
    clickstream-producer generate --pipeline pipeline.yaml --as-fast-as-possible --count 1000000 --rate 5000";

const REPLAY_EXAMPLES: &str =
    "Event ids follow from the line and how many equal ones came before it in the run: a second replay
of the same log is a resend, and counts nothing twice, also after the log was rotated, renamed or
has grown. To count a log again, give another --source. Several logs are merged by time.

Examples:
  an access log at original pace, dated so that each event meets the time at which it is sent:
    clickstream-producer replay --pipeline pipeline.yaml --speed 1 --shift-to-now access.log
  JSON lines with other field names; users are told apart by user agent and time zone:
    clickstream-producer replay --pipeline pipeline.yaml \\
      --map event_ts=t,url=u,referrer=r,user_agent=a,client=tz feed.jsonl.gz";

const INSPECT_EXAMPLES: &str = "Examples:
  clickstream-producer inspect access.log
  clickstream-producer inspect --format '%h %l %u %t \"%r\" %>s %b %D' access.log
  clickstream-producer inspect --map event_ts=at,url=page.address,user_id=who events.jsonl.zst";

const SURVEY_EXAMPLES: &str = "Example:
  clickstream-producer survey --pipeline pipeline.yaml --speed 60 access.log.1.gz access.log";

const PRINT_EXAMPLES: &str = "Examples:
  clickstream-producer print --seed 7 --count 3 --base-time 2026-01-01T00:00:00Z
  clickstream-producer print --malformed 1 --count 50 | jq -r .verdict | sort | uniq -c";

/// How to reach Kafka.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// The ClickstreamPipeline resource, as YAML: where Kafka is and what to generate.
    #[arg(long, value_name = "FILE", env = "CLICKSTREAM_PIPELINE")]
    pub pipeline: Option<PathBuf>,

    /// Directory with the Secrets that the resource names, as `DIR/<secret>/<key>`.
    #[arg(long, value_name = "DIR", env = "CLICKSTREAM_SECRETS_DIR")]
    pub secrets_dir: Option<PathBuf>,

    /// Brokers as host:port, comma-separated; instead of those of the resource, or without one.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CLICKSTREAM_BOOTSTRAP_SERVERS",
        required_unless_present = "pipeline"
    )]
    pub bootstrap_servers: Option<String>,

    /// The topic [default: the resource's first one, or `clickstream`].
    #[arg(long, env = "CLICKSTREAM_TOPIC")]
    pub topic: Option<String>,

    /// How long a record is retried before it counts as failed.
    #[arg(
        long,
        value_name = "TIME",
        env = "CLICKSTREAM_DELIVERY_TIMEOUT",
        default_value = "5m"
    )]
    pub delivery_timeout: Duration,

    /// How long to look for brokers and topic at the start.
    #[arg(
        long,
        value_name = "TIME",
        env = "CLICKSTREAM_CONNECT_TIMEOUT",
        default_value = "15s"
    )]
    pub connect_timeout: Duration,

    /// Bound of the queue of records that are not acknowledged, in bytes.
    #[arg(
        long,
        value_name = "BYTES",
        env = "CLICKSTREAM_QUEUE_MEMORY",
        default_value = "64Mi"
    )]
    pub queue_memory: Bytes,
}

/// What a person or a machine sees of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reporting")]
pub struct ReportArgs {
    /// Writes a line of progress a second to standard error even when that is no terminal.
    #[arg(long, env = "CLICKSTREAM_PROGRESS")]
    pub progress: bool,

    /// The summary at the end: text on standard error, or one JSON object on standard output.
    #[arg(
        short,
        long,
        value_enum,
        env = "CLICKSTREAM_OUTPUT",
        default_value = "text"
    )]
    pub output: Output,

    /// The admin server.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The form of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line for people.
    Text,
    /// One JSON object.
    Json,
}

/// What to generate; what is not given comes from spec.producer of the resource, or is its default.
#[derive(Debug, Args)]
#[command(next_help_heading = "Events")]
pub struct EventArgs {
    /// Records a second [default: 83].
    #[arg(long, env = "CLICKSTREAM_RATE")]
    pub rate: Option<u64>,

    /// Same seed, options and base time: same records [default: 42].
    #[arg(long, env = "CLICKSTREAM_SEED")]
    pub seed: Option<u64>,

    /// How many different visitors there are [default: 10000].
    #[arg(long, env = "CLICKSTREAM_USERS")]
    pub users: Option<u64>,

    /// Fraction of records that repeat an earlier one under the same key [default: 0.02].
    #[arg(long, value_name = "FRACTION", env = "CLICKSTREAM_DUPLICATES")]
    pub duplicates: Option<f64>,

    /// Fraction of the duplicates that go out under another user's key, so mostly to another
    /// partition.
    #[arg(
        long,
        value_name = "FRACTION",
        env = "CLICKSTREAM_CROSS_PARTITION_DUPLICATES",
        default_value_t = 0.0
    )]
    pub cross_partition_duplicates: f64,

    /// Fraction of events dated so far back that their window is over [default: 0.001].
    #[arg(long, value_name = "FRACTION", env = "CLICKSTREAM_LATE")]
    pub late: Option<f64>,

    /// Fraction of records that no decoder accepts, of 37 kinds [default: 0.01].
    #[arg(long, value_name = "FRACTION", env = "CLICKSTREAM_MALFORMED")]
    pub malformed: Option<f64>,

    /// The longest time between a click and its record [default: 5s].
    #[arg(long, value_name = "TIME", env = "CLICKSTREAM_DISORDER")]
    pub disorder: Option<Duration>,

    /// Event ids: v7 begin with the event's time, v4 are random.
    #[arg(long, value_enum, env = "CLICKSTREAM_IDS", default_value = "v7")]
    pub ids: IdForm,

    /// When the first record is due, as RFC 3339 [default: now; for print, 2026-01-01T00:00:00Z].
    #[arg(long, value_name = "TIME", env = "CLICKSTREAM_BASE_TIME")]
    pub base_time: Option<chrono::DateTime<chrono::Utc>>,
}

/// `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Stops after this many records.
    #[arg(long, env = "CLICKSTREAM_COUNT")]
    pub count: Option<u64>,

    /// Stops after the records of this much time.
    #[arg(long = "for", value_name = "TIME", env = "CLICKSTREAM_FOR")]
    pub duration: Option<Duration>,

    /// Sends without pauses. Event times still follow --rate, and the last record is dated now.
    #[arg(long, env = "CLICKSTREAM_AS_FAST_AS_POSSIBLE", requires = "count")]
    pub as_fast_as_possible: bool,

    /// What to generate.
    #[command(flatten)]
    pub events: EventArgs,
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// What to show.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Logs, and how they are read.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Logs, plain or packed (gzip, zstd, xz, bzip2), merged by time whatever their order; `-` is
    /// standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// What the lines look like [default: seen from the first lines]: combined (common, vhost),
    /// json (nginx, caddy, traefik, envoy, cloudflare, gcp), w3c (iis, cloudfront), alb, elb, s3,
    /// ltsv, csv, tsv, or the LogFormat of Apache or log_format of nginx that the server writes.
    #[arg(long, value_name = "FORMAT", env = "CLICKSTREAM_FORMAT")]
    pub format: Option<Format>,

    /// `max` leaves no pauses, 1 is the pace at which the log was written, 60 makes a minute of an
    /// hour.
    #[arg(
        long,
        value_name = "N|max",
        env = "CLICKSTREAM_SPEED",
        default_value = "max",
        allow_hyphen_values = true
    )]
    pub speed: Speed,

    /// The longest pause between two events, in time as it passes during the replay.
    #[arg(
        long,
        value_name = "TIME",
        env = "CLICKSTREAM_MAX_PAUSE",
        allow_hyphen_values = true
    )]
    pub max_pause: Option<Duration>,

    /// Names of the fields, as in event_ts=t,url=request.uri. Fields that are not named are looked
    /// for under their own names and those that servers give them; `ip=` leaves one out. Where
    /// there is no user, users are told apart by ip, user_agent and every field mapped as `client`,
    /// as in client=tz,client=country.
    #[arg(
        long,
        value_name = "FIELD=NAME,...",
        env = "CLICKSTREAM_MAP",
        default_value = ""
    )]
    pub map: FieldMap,

    /// Name space of event ids: the same lines under another one are other events. Replay the logs
    /// of several servers in one run, or give each of them a --source of its own.
    #[arg(long, value_name = "NAME", env = "CLICKSTREAM_SOURCE")]
    pub source: Option<String>,

    /// Put before request targets that begin with `/`, as in `https://www.example.com`.
    #[arg(long, value_name = "URL", env = "CLICKSTREAM_BASE_URL")]
    pub base_url: Option<String>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The logs.
    #[command(flatten)]
    pub logs: LogArgs,

    /// Moves all event times so that the newest event is dated when it is sent. Reads the files
    /// twice.
    #[arg(long, env = "CLICKSTREAM_SHIFT_TO_NOW")]
    pub shift_to_now: bool,

    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// What to show.
    #[command(flatten)]
    pub report: ReportArgs,
}

/// `survey`.
#[derive(Debug, Args)]
pub struct SurveyArgs {
    /// The ClickstreamPipeline resource, as YAML: its rules say which events are rejected or late
    /// [default: a resource that sets none].
    #[arg(long, value_name = "FILE", env = "CLICKSTREAM_PIPELINE")]
    pub pipeline: Option<PathBuf>,

    /// The logs.
    #[command(flatten)]
    pub logs: LogArgs,

    /// Text, or one JSON object, on standard output.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The ClickstreamPipeline resource, as YAML: its rules say which events are rejected
    /// [default: a resource that sets none].
    #[arg(long, value_name = "FILE", env = "CLICKSTREAM_PIPELINE")]
    pub pipeline: Option<PathBuf>,

    /// The logs.
    #[command(flatten)]
    pub logs: LogArgs,
}

/// `print`.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// Stops after this many records.
    #[arg(long, env = "CLICKSTREAM_COUNT", default_value_t = 20)]
    pub count: u64,

    /// The ClickstreamPipeline resource, as YAML: its spec.producer says what to generate.
    #[arg(long, value_name = "FILE", env = "CLICKSTREAM_PIPELINE")]
    pub pipeline: Option<PathBuf>,

    /// What to generate.
    #[command(flatten)]
    pub events: EventArgs,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser as _};

    use super::Cli;

    #[test]
    fn a_pace_that_cannot_be_is_refused_with_option_value_and_what_is_allowed() {
        let bad = [
            ("--speed", "-1", "expected a number above 0"),
            ("--speed", "0", "expected a number above 0"),
            (
                "--max-pause",
                "-5m",
                "is no duration; write numbers with units",
            ),
        ];
        for (option, value, allowed) in bad {
            let words = [
                "clickstream-producer",
                "survey",
                option,
                value,
                "access.log",
            ];
            let Err(error) = Cli::try_parse_from(words) else {
                panic!("{option} {value} was taken");
            };
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{error}");
            let said = error.to_string();
            for word in [option, value, allowed] {
                assert!(said.contains(word), "{said}");
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
