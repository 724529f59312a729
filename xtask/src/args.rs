//! The command line, of this task and of the lab that it starts: help and refusals come within
//! seconds, before anything is compiled.

mod bench;
mod faults;
mod kind;
mod number;
mod up;

use clap::{Parser, Subcommand};

pub use self::bench::{BenchArgs, Benchmark, Output};
pub use self::faults::FaultsArgs;
pub use self::kind::{E2eArgs, KindArgs, KindCommand, Sources, Surroundings};
pub(crate) use self::number::within;
pub use self::up::UpArgs;
use crate::{bots, images, release, test};

/// Everything a contributor runs.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask up                 the pipeline on this machine, with traffic
  cargo xtask test --fast        before each commit
  cargo xtask faults --list      what is broken on purpose, and what must hold"
)]
pub struct Xtask {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check everything: format, lints, documentation, dependencies, then every test.
    Test(test::Args),
    /// Break everything on purpose, row by row or three at a time, and see that nothing is lost or counted twice.
    Faults(FaultsArgs),
    /// What the lab does.
    #[command(flatten)]
    Lab(LabCommand),
    /// Build the container images, and push them where a registry is given.
    Images(images::Args),
    /// Make everything that is published: images for two architectures, chart, manifests, plugin, with SBOMs and checksums.
    Release(release::Args),
    /// Write the patterns by which bots are known, from the npm package that they come from.
    Bots(bots::Args),
}

/// The command line of the lab by itself: what it does, and no more.
#[derive(Debug, Parser)]
#[command(
    name = "clickstream-lab",
    after_help = "cargo xtask compiles this program, with what it runs, and starts it: `cargo xtask up`."
)]
pub struct Lab {
    /// What to do.
    #[command(subcommand)]
    pub command: LabCommand,
}

/// The subcommands that run on real servers.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Run the whole pipeline on this machine, with traffic and a live screen.
    Up(UpArgs),
    /// Measure throughput, latency, CPU and memory on real servers.
    Bench(BenchArgs),
    /// The Kubernetes quickstart as a command: a kind cluster with everything in it.
    Kind(KindArgs),
    /// The Kubernetes quickstart as a test, on a kind cluster of its own.
    E2e(E2eArgs),
}

/// A time as people write it.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a time such as 60s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is how a test reports")]

    use clap::error::ErrorKind;
    use clap::{Command as Clap, CommandFactory as _};

    use super::*;

    /// Every command without subcommands, with the words that lead to it.
    fn leaves(command: &Clap, words: &[String], found: &mut Vec<(Vec<String>, Clap)>) {
        if !command.has_subcommands() {
            found.push((words.to_vec(), command.clone()));
        }
        for next in command.get_subcommands() {
            let words = [words, &[next.get_name().to_owned()]].concat();
            leaves(next, &words, found);
        }
    }

    fn commands() -> Vec<(Vec<String>, Clap)> {
        let mut found = Vec::new();
        leaves(&Xtask::command(), &["cargo xtask".to_owned()], &mut found);
        found
    }

    #[test]
    fn the_command_lines_are_consistent() {
        Xtask::command().debug_assert();
        Lab::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_of_itself() {
        let commands = commands();
        assert!(commands.len() >= 7, "{}", commands.len());
        for (words, command) in commands {
            let words = words.join(" ");
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            assert!(help.contains("Example"), "{words}: no example");
            assert!(
                help.contains(&words),
                "{words}: an example of another command"
            );
        }
    }

    #[test]
    fn the_lab_lists_what_it_runs_and_nothing_else() {
        let lab = Lab::command();
        let names: Vec<&str> = lab.get_subcommands().map(Clap::get_name).collect();
        assert_eq!(names, ["up", "bench", "kind", "e2e"]);
    }

    #[test]
    fn a_number_or_a_time_below_zero_is_refused_with_option_value_and_what_is_allowed() {
        let mut seen = Vec::new();
        for (words, command) in commands() {
            for option in command.get_opts() {
                let Some(name) = option.get_long() else {
                    continue;
                };
                let names = option.get_value_names().unwrap_or_default();
                let of_numbers = names
                    .iter()
                    .any(|name| ["N", "N|max", "DURATION"].contains(&name.as_str()));
                if !of_numbers {
                    continue;
                }
                for value in ["-1", "-5m"] {
                    let mut given = words.clone();
                    given.extend([format!("--{name}"), value.to_owned()]);
                    let error = Xtask::try_parse_from(&given).map(|_| ()).unwrap_err();
                    assert_eq!(
                        error.kind(),
                        ErrorKind::ValueValidation,
                        "{given:?}: {error}"
                    );
                    let said = error.to_string();
                    for word in [value, name, "expected "] {
                        assert!(said.contains(word), "{given:?}: {said}");
                    }
                }
                seen.push(name.to_owned());
            }
        }
        seen.sort();
        let all = [
            "backlog",
            "events",
            "for",
            "for",
            "operator-away",
            "pipelines",
            "rate",
            "rate",
            "rows",
            "runs",
            "seed",
            "seeds",
            "seeds",
            "soak",
            "speed",
        ];
        assert_eq!(seen, all);
    }
}
