//! What runs on real servers is a program of its own, the lab: here it is compiled, with the
//! programs that it runs, and started in this program's place.
//!
//! ```text
//! say what will happen ──> cargo build --release ∥ fetch Kafka, PostgreSQL ──> exec clickstream-lab
//! ```
//! One cargo build for everything: cargo compiles a crate once for each set of features, and the
//! set follows from all packages that are built together.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clickstream_tools::cargo::{Said, cargo, programs};

use crate::args::{BenchArgs, Benchmark, KindArgs, KindCommand, UpArgs};
use crate::speed;
use crate::steps::{Step, Steps};

/// The lab's package and program.
pub const LAB: &str = "clickstream-lab";

/// The services, whose packages and programs share their names.
pub const SERVICES: [&str; 3] = [
    "clickstream-processor",
    "clickstream-producer",
    "clickstream-console",
];

/// What one step of the compiler takes on one core of the machine with speed 1, in seconds: the
/// mean over everything that `up` runs.
const SECONDS_PER_STEP: f64 = 1.15;

/// What the lab needs for an errand.
struct Errand {
    /// What will happen after the compiler, for people.
    then: &'static str,
    /// Programs beside the lab.
    programs: Vec<&'static str>,
    features: Vec<&'static str>,
    /// Whether Kafka and PostgreSQL are started here.
    servers: bool,
}

/// `cargo xtask up`.
///
/// # Errors
/// Something cannot be compiled or fetched. Otherwise this does not return: the lab goes on.
pub fn up(args: &UpArgs) -> anyhow::Result<ExitCode> {
    for file in &args.replay {
        can_be_replayed(file)?;
    }
    Errand {
        then: "start them, create the topic, migrate, run processors, console and traffic; Ctrl-C ends with an audit",
        programs: beside(args.binaries.as_deref(), SERVICES.to_vec()),
        features: Vec::new(),
        servers: args.kafka.is_none() || args.postgres.is_none(),
    }
    .start()
}

/// What is no file on disk is refused before anything is compiled.
fn can_be_replayed(file: &Path) -> anyhow::Result<()> {
    let why = if file == Path::new("-") {
        // it is surveyed, then replayed
        "it is read twice, and standard input comes only once; write it to a file first"
    } else if file.is_dir() {
        "it is a folder; name the files in it"
    } else if !file.exists() {
        "no such file"
    } else if !file.is_file() {
        "it is read twice, and a stream comes only once; write it to a file first"
    } else {
        return Ok(());
    };
    anyhow::bail!("cannot replay {}: {why}", file.display())
}

/// `cargo xtask bench`.
///
/// # Errors
/// As [`up`].
pub fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let operator = args
        .benchmarks
        .iter()
        .any(|benchmark| matches!(benchmark, Benchmark::Operator | Benchmark::All));
    let mut programs = SERVICES.to_vec();
    let mut features = Vec::new();
    if operator {
        programs.push("clickstream-operator");
        features.push("clickstream-lab/operator");
        if args.kafka_users {
            features.push("clickstream-operator/tls");
        }
    }
    Errand {
        then: "start them and measure",
        programs: beside(args.binaries.as_deref(), programs),
        features,
        servers: true,
    }
    .start()
}

/// `cargo xtask kind`.
///
/// # Errors
/// As [`up`].
pub fn kind(args: &KindArgs) -> anyhow::Result<ExitCode> {
    on_kind(match args.command {
        KindCommand::Up { .. } => "find or create the cluster, build images and install everything",
        KindCommand::Down => "delete the cluster with all that is in it",
    })
}

/// `cargo xtask e2e`.
///
/// # Errors
/// As [`up`].
pub fn e2e() -> anyhow::Result<ExitCode> {
    on_kind("create a cluster, build images, install everything, break it and audit it")
}

fn on_kind(then: &'static str) -> anyhow::Result<ExitCode> {
    Errand {
        then,
        programs: Vec::new(),
        features: Vec::new(),
        servers: false,
    }
    .start()
}

/// A `cargo build` for release, of which [`programs`] is told the programs. It selects the lab and
/// the services whatever is asked for (and what is asked for beside them), since dependencies have
/// the features that all selected packages want: `up` and `kind` share what they compile.
#[must_use]
pub fn release_build(asked: &[&str], features: &[&str]) -> Command {
    let mut command = cargo(["build", "--release", "--package", LAB]);
    let beside = asked
        .iter()
        .filter(|name| **name != LAB && !SERVICES.contains(name));
    for package in SERVICES.iter().chain(beside) {
        command.args(["--package", package]);
    }
    if !features.is_empty() {
        command.arg("--features").arg(features.join(","));
    }
    command
}

/// Nothing is compiled beside the lab where programs are given.
fn beside(given: Option<&Path>, programs: Vec<&'static str>) -> Vec<&'static str> {
    if given.is_some() {
        Vec::new()
    } else {
        programs
    }
}

impl Errand {
    fn start(self) -> anyhow::Result<ExitCode> {
        let steps = Steps::new();
        steps.say(&self.plan());
        // now, while nothing else runs
        let speed = speed::measured();
        let listening = steps.clone();
        clickstream_tools::on_notice(move |notice| listening.say(&format!("  {notice}")));
        let lab = std::thread::scope(|scope| {
            let servers = scope.spawn(|| self.fetch(&steps));
            let lab = self.compile(&steps, speed);
            // what cannot be compiled is said first: the servers are not at fault
            let lab = lab?;
            servers
                .join()
                .map_err(|_| anyhow::anyhow!("the thread that fetches servers has panicked"))??;
            anyhow::Ok(lab)
        })?;
        drop(steps);
        // in this program's place: signals, terminal and exit code are the lab's
        let refused = Command::new(&lab).args(std::env::args_os().skip(1)).exec();
        Err(refused).with_context(|| format!("cannot start {}", lab.display()))
    }

    fn plan(&self) -> String {
        let cores = speed::cores();
        let programs: Vec<&str> = std::iter::once(&LAB)
            .chain(&self.programs)
            .map(|program| program.strip_prefix("clickstream-").unwrap_or(program))
            .collect();
        let servers = if self.servers {
            "\n  2. meanwhile fetch Kafka and PostgreSQL, the first time\n  3."
        } else {
            "\n  2."
        };
        format!(
            "  1. compile {} on {cores} cores; what has not changed is not compiled again{servers} {}",
            programs.join(", "),
            self.then
        )
    }

    fn fetch(&self, steps: &Steps) -> anyhow::Result<()> {
        if !self.servers {
            return Ok(());
        }
        let step = steps.begin("servers");
        step.note("Kafka and PostgreSQL");
        step.ended(clickstream_tools::servers(), |()| {
            "Kafka and PostgreSQL are here".to_owned()
        })
    }

    fn compile(&self, steps: &Steps, speed: f64) -> anyhow::Result<PathBuf> {
        let names: Vec<&str> = std::iter::once(LAB).chain(self.programs.clone()).collect();
        let command = release_build(&names, &self.features);
        let step = steps.begin("compile");
        let mut progress = Progress::new(steps, &step, speed);
        let built = programs(command, &names, |said| progress.hear(said));
        let mut built = step.ended(built, |built| format!("{} programs", built.len()))?;
        Ok(built.swap_remove(0))
    }
}

/// Turns what cargo says into the step's note, and once into an estimate.
pub struct Progress<'a> {
    steps: &'a Steps,
    step: &'a Step,
    /// The machine's; see [`speed::measured`].
    speed: f64,
    /// Steps that were done before; nothing until cargo has named a number.
    before: Option<u32>,
}

impl<'a> Progress<'a> {
    /// For this step.
    #[must_use]
    pub fn new(steps: &'a Steps, step: &'a Step, speed: f64) -> Self {
        Self {
            steps,
            step,
            speed,
            before: None,
        }
    }

    /// The next thing that cargo says.
    pub fn hear(&mut self, said: Said) {
        match said {
            Said::Progress { done, all, now } => {
                if self.before.is_none() {
                    self.before = Some(done);
                    self.announce(all.saturating_sub(done));
                }
                self.step.note(&format!("{done} of {all}: {now}"));
            }
            // warnings and errors come with the outcome; what begins, the bar says too
            Said::Line(line) if self.before.is_none() => self.step.note(&line),
            Said::Line(_) => {}
        }
    }

    fn announce(&self, open: u32) {
        let cores = speed::cores();
        let seconds = estimate(open, cores, self.speed);
        if seconds >= 20.0 {
            self.steps.say(&format!(
                "  {open} steps of the compiler on {cores} cores: about {}",
                minutes(seconds)
            ));
        }
    }
}

/// Seconds that so many steps take. More than eight cores wait for the longest chain of crates.
fn estimate(steps: u32, cores: usize, speed: f64) -> f64 {
    let cores = u32::try_from(cores.clamp(1, 8)).unwrap_or(8);
    f64::from(steps) * SECONDS_PER_STEP / f64::from(cores) / speed.max(0.05)
}

fn minutes(seconds: f64) -> String {
    if seconds < 90.0 {
        "a minute".to_owned()
    } else {
        format!("{:.0} minutes", (seconds / 60.0).round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_steps_cores_and_speed() {
        let one = estimate(100, 1, 1.0);
        assert!((estimate(200, 1, 1.0) - 2.0 * one).abs() < 1e-9);
        assert!((estimate(100, 2, 1.0) - one / 2.0).abs() < 1e-9);
        assert!((estimate(100, 1, 0.5) - 2.0 * one).abs() < 1e-9);
        assert!((estimate(100, 64, 1.0) - one / 8.0).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_read_twice_is_no_replay() {
        let why = |file: &str| {
            let refused = can_be_replayed(Path::new(file));
            refused.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
        };
        assert_eq!(
            why(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
            "fine"
        );
        for (file, word) in [
            ("-", "standard input comes only once"),
            ("/dev/null", "a stream comes only once"),
            (env!("CARGO_MANIFEST_DIR"), "name the files in it"),
            ("no/such.log", "no such file"),
        ] {
            assert!(why(file).contains(word), "{}", why(file));
        }
    }

    #[test]
    fn times_are_said_in_words() {
        assert_eq!(minutes(25.0), "a minute");
        assert_eq!(minutes(170.0), "3 minutes");
    }
}
