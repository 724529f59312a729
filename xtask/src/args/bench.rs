//! `cargo xtask bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// What to measure, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                            everything; half an hour
  cargo xtask bench drain --runs 5             throughput against COPY
  cargo xtask bench latency start -o json      the results also lie in target/bench/*.json
  cargo xtask bench operator --kafka-users     1,000 pipelines with as many users of Kafka
  cargo xtask bench upgrade                    from the first release's tables to these, under load")]
pub struct BenchArgs {
    /// Which benchmarks.
    #[arg(value_enum, default_value = "all")]
    pub benchmarks: Vec<Benchmark>,

    /// Runs of each, of which the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, allow_hyphen_values = true, value_parser = super::within(1..=1000_u32))]
    pub runs: u32,

    /// Records of a backlog.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, allow_hyphen_values = true, value_parser = super::within(1000..=10_000_000_000_u64))]
    pub events: u64,

    /// How long each rate of the latency benchmark lasts, after three seconds that do not count.
    #[arg(long = "for", value_name = "DURATION", default_value = "20s", allow_hyphen_values = true, value_parser = super::duration)]
    pub period: Duration,

    /// Pipelines that the operator's benchmark creates at once.
    #[arg(long, value_name = "N", default_value_t = 1000, allow_hyphen_values = true, value_parser = super::within(1..=1_000_000_u32))]
    pub pipelines: u32,

    /// In the operator's benchmark: each pipeline signs in to Kafka with a user and a Secret of its own, over TLS.
    #[arg(long)]
    pub kafka_users: bool,

    /// What the upgrade begins with: a revision of this repository, which is compiled, or a folder with its processor.
    #[arg(long, value_name = "REVISION|DIR", default_value = "71ba38b")]
    pub from: String,

    /// Records in the tables when the upgrade begins.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, allow_hyphen_values = true, value_parser = super::within(1000..=10_000_000_000_u64))]
    pub rows: u64,

    /// Events a second while it happens.
    #[arg(long, value_name = "N", default_value_t = 1000, allow_hyphen_values = true, value_parser = super::within(1..=1_000_000_u64))]
    pub rate: u64,

    /// GiB of records on 1,000 partitions.
    #[arg(long, value_name = "N", default_value_t = 4, allow_hyphen_values = true, value_parser = super::within(1..=1024_u32))]
    pub backlog: u32,

    /// Run the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,

    /// How the report is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub output: Output,
}

/// A benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Benchmark {
    /// A backlog into PostgreSQL, against COPY of the same rows; CPU and peak memory.
    Drain,
    /// From produce() to a row that another session sees, at 83, 1,000 and 10,000 events a second.
    Latency,
    /// The rest of a backlog after the processor was killed half way through.
    Restart,
    /// From exec to the first commit.
    Start,
    /// What exactly-once costs, against a build without it.
    ExactlyOnce,
    /// Resident memory at rest after a backlog.
    Memory,
    /// The same backlog with nested fields that are found by pointers, and with properties that are kept.
    Mapped,
    /// A backlog with metrics that are read every second, against one without.
    Metrics,
    /// A backlog drained and produced with spans that go to a real Collector, against both without.
    Tracing,
    /// What a page of the console costs the processor at 10,000 events a second.
    Console,
    /// The operator: one pipeline, many at once, none at all, and an API server that restarts.
    Operator,
    /// An older release's tables, migrated under its processor's hands; fails where a floor is missed.
    Upgrade,
    /// Late events among 4,000 day partitions, and a day of 5 million rows that retention drops; fails where a floor is missed.
    Days,
    /// A backlog on 1,000 partitions, against the memory of the processor's pod; fails where a floor is missed.
    Partitions,
    /// Partitions whose broker is killed or hangs, and what the others feel of it; fails where a floor is missed.
    Leaderless,
    /// All of them but those that fail where a floor is missed, which take minutes each.
    All,
}

impl Benchmark {
    /// All of them, in the order in which they run.
    pub const EACH: [Self; 15] = [
        Self::Drain,
        Self::Restart,
        Self::Memory,
        Self::Start,
        Self::Latency,
        Self::ExactlyOnce,
        Self::Mapped,
        Self::Metrics,
        Self::Tracing,
        Self::Console,
        Self::Upgrade,
        Self::Days,
        Self::Partitions,
        // last: their servers are others
        Self::Leaderless,
        Self::Operator,
    ];

    /// Whether it is one of those that `asked` names.
    #[must_use]
    pub fn is_asked(self, asked: &[Self]) -> bool {
        asked.contains(&self) || (asked.contains(&Self::All) && !self.is_strict())
    }

    /// Whether a missed floor makes the command fail. The others' floors are for machines that do nothing else.
    #[must_use]
    pub fn is_strict(self) -> bool {
        matches!(
            self,
            Self::Upgrade | Self::Days | Self::Partitions | Self::Leaderless
        )
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Latency => "latency",
            Self::Restart => "restart",
            Self::Start => "start",
            Self::ExactlyOnce => "exactly-once",
            Self::Memory => "memory",
            Self::Mapped => "mapped",
            Self::Metrics => "metrics",
            Self::Tracing => "tracing",
            Self::Console => "console",
            Self::Operator => "operator",
            Self::Upgrade => "upgrade",
            Self::Days => "days",
            Self::Partitions => "partitions",
            Self::Leaderless => "leaderless",
            Self::All => "all",
        }
    }
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}
